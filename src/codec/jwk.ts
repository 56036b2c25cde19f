import { createPublicKey } from 'node:crypto';
import { base64url, canonicalJson, Fault, sha256 } from '../foundation/index.js';

/** RFC 7638 §3: SHA-256 thumbprint of an EC public key (SPKI DER), base64url. Throws Fault `identity-key-unfit` unless it is P-256. */
export function thumbprint(spki: Buffer): string {
  const unfit = () => new Fault('malformed', 'identity-key-unfit', 'the identity key must be ECDSA P-256');
  const read = () => {
    try {
      return createPublicKey({ key: spki, format: 'der', type: 'spki' }).export({ format: 'jwk' });
    } catch {
      throw unfit();
    }
  };
  const { crv, kty, x, y } = read();
  if (kty !== 'EC' || crv !== 'P-256' || !x || !y) throw unfit();
  return base64url(sha256(canonicalJson({ crv, kty, x, y })));
}
