/** Documents on this device: opened with its keys, encrypted to people, written whole or not at all. The format is `codec/pdf`'s. */
export { type Keys, type OpenDocument, withDocument, withFile } from './document.js';
export { type Job, jobsOf } from './inputs.js';
export { writeDocument } from './output.js';
export {
  distinct,
  fetchRecovery,
  findRecipient,
  foreignRecipient,
  organisation,
  ownRecipient,
  type Recipient,
  recoveryRecipient,
} from './recipients.js';
