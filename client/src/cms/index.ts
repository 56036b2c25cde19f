/** Cryptographic Message Syntax, the reading side (RFC 5652, RFC 5083, RFC 5084). Pure: bytes and keys in, content or undefined out. */
export { cipherOf, openContent } from './content-cipher.js';
export { type ContentInfo, readContentInfo } from './content-info.js';
export { type Enveloped, isNamedBy, type Recipient, type RecipientId, readEnveloped } from './enveloped.js';
export { openTransport, type Transport, transportOf } from './key-transport.js';
export { CONTENT } from './oids.js';
export { checkSignatures, readSigned, type Signature, type Signed } from './signed.js';
