import type { SigningAlgorithm, SigningKeyName } from './hsm.js';

/** What the certificate authorities sign with. RSA-4096 for sites whose readers know no P-384. */
export type AuthorityKind = 'p384' | 'rsa4096';

/** Which algorithm each signing key is made with. Ed25519 for audit: C2SP signed notes ask for it. */
export function signingAlgorithms(authorities: AuthorityKind): Record<SigningKeyName, SigningAlgorithm> {
  const authority = authorities === 'p384' ? 'ecdsa-p384-sha384' : 'rsa-pkcs1-sha384';
  return {
    root: authority,
    people: authority,
    devices: authority,
    infrastructure: authority,
    delivery: 'ecdsa-p256-sha256',
    mail: 'ecdsa-p256-sha256',
    audit: 'ed25519',
  };
}
