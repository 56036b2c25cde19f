/** Cryptographic Message Syntax (RFC 5652, 5083, 5084): envelopes read and made, keys enveloped for a device, detached signatures. Pure. */
export { cipherOf, openContent } from './content-cipher.js';
export { type AlgorithmIdentifier, algorithmOf, type ContentInfo, readContentInfo } from './content-info.js';
export { type Enveloped, isNamedBy, namesOf, type Recipient, type RecipientId, readEnveloped, readRecipientId } from './enveloped.js';
export {
  type EnvelopeForm,
  envelopedData,
  envelopedFor,
  type KeyTransportRecipient,
  keyTransportRecipient,
  mayEncipherKeys,
} from './enveloped-data.js';
export { type EnvelopedKey, envelopedKey, parseEnvelopedKey, subjectKeyIdentifier } from './enveloped-key.js';
export { digestName, openTransport, type Transport, type TransportName, transportName, transportOf } from './key-transport.js';
export { CONTENT } from './oids.js';
export { openRc2 } from './rc2.js';
export { type DetachedSignature, ecdsaValue, signedDetached } from './signed-detached.js';
