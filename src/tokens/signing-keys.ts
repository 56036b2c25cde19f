import type { SigningAlgorithm, SigningKeyName } from './hsm.js';

/** What the certificate authorities sign with. RSA-4096 for sites whose readers know no P-384. */
export type AuthorityKind = 'p384' | 'rsa4096';

/** What the log's heads are signed with. C2SP signed notes and witnesses ask for Ed25519; P-256 (note type 0x02) where the token knows none. */
export type AuditKind = 'ed25519' | 'p256';

/** Which algorithm each signing key is made with. */
export function signingAlgorithms(authorities: AuthorityKind, audit: AuditKind = 'ed25519'): Record<SigningKeyName, SigningAlgorithm> {
  const authority = authorities === 'p384' ? 'ecdsa-p384-sha384' : 'rsa-pkcs1-sha384';
  return {
    root: authority,
    people: authority,
    devices: authority,
    infrastructure: authority,
    delivery: 'ecdsa-p256-sha256',
    mail: 'ecdsa-p256-sha256',
    audit: audit === 'ed25519' ? 'ed25519' : 'ecdsa-p256-sha256',
  };
}
