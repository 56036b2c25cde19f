/** Cryptographic Message Syntax (RFC 5652), the two forms that EKMS makes: a key enveloped for a device, and a detached signature. Pure. */

export { envelopedFor } from './enveloped-data.js';
export { type EnvelopedKey, envelopedKey, parseEnvelopedKey, subjectKeyIdentifier } from './enveloped-key.js';
export { type DetachedSignature, signedDetached } from './signed-detached.js';
