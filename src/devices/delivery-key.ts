import { constants, createPublicKey, publicEncrypt } from 'node:crypto';
import { Fault, sameBytes } from '../foundation/index.js';

/** What a delivery key must be: RSA of 3072 to 8192 bits, exponent odd and at least 65537 (SP 800-56B §6.2), in its one DER spelling. Throws `delivery-key-weak`, `delivery-key-malformed`. */
export function requireDeliveryKey(spki: Buffer): void {
  const malformed = () =>
    new Fault('malformed', 'delivery-key-malformed', 'the delivery key must be an RSA public key (SubjectPublicKeyInfo, DER)');
  const read = () => {
    try {
      return createPublicKey({ key: spki, format: 'der', type: 'spki' });
    } catch {
      throw malformed();
    }
  };
  const key = read();
  if (key.asymmetricKeyType !== 'rsa' || !sameBytes(key.export({ type: 'spki', format: 'der' }), spki)) throw malformed();
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  if (modulusLength < 3072 || modulusLength > 8192 || publicExponent < 65537n || publicExponent % 2n === 0n || publicExponent > 2n ** 64n)
    throw new Fault('malformed', 'delivery-key-weak', 'the delivery key must have 3072 to 8192 bits and an odd exponent of at least 65537');
}

/** Only the holder of the delivery key can say what was in it: RSA-OAEP with SHA-256 (docs/formats/enrolment.md §1). */
export function sealNonce(spki: Buffer, nonce: Buffer): Buffer {
  return publicEncrypt(
    { key: createPublicKey({ key: spki, format: 'der', type: 'spki' }), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
    nonce,
  );
}
