import type { NoteKey } from '../codec/merkle/index.js';
import type { SigningKeyInfo } from './token.js';

/** The token's audit key as C2SP signed notes know it. */
export function auditNoteKey(origin: string, { algorithm, publicKey }: Pick<SigningKeyInfo, 'algorithm' | 'publicKey'>): NoteKey {
  // RFC 8410 §4: the key is the last 32 bytes of its SPKI.
  return algorithm === 'ed25519'
    ? { name: origin, type: 'ed25519', publicKey: publicKey.subarray(-32) }
    : { name: origin, type: 'ecdsa-p256', publicKey };
}
