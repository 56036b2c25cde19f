/** Cryptographic Message Syntax as mail needs it: signatures here, envelopes by `codec/cms`. Pure. */
export {
  CONTENT,
  type ContentInfo,
  cipherOf,
  type Enveloped,
  isNamedBy,
  openContent,
  openTransport,
  type Recipient,
  type RecipientId,
  readContentInfo,
  readEnveloped,
  type Transport,
  type TransportName,
  transportName,
  transportOf,
} from '../../../src/codec/cms/index.js';
export { checkSignatures, readSigned, type Signature, type Signed } from './signed.js';
