import { createPublicKey, verify } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson, Fault, isId, type Json, sha256 } from '../foundation/index.js';

/** Why a recovery is asked for; enumerated, so that the log can hold it. */
export const RECOVERY_REASONS = ['departed', 'deceased', 'lost-devices', 'continuity', 'legal'] as const;

const id = z.string().refine(isId);
const digest = z.string().regex(/^[A-Za-z0-9_-]{43}$/);

/**
 * What recovery agents approve, word for word (docs/formats/recovery.md): whose keys, which of them, for which device, why, until when. With
 * `message`, one mail's content-encryption key only: SHA-256 of the encrypted key in that mail.
 */
export const recoveryRequest = z.strictObject({
  v: z.literal(1),
  case: id,
  employee: id,
  keys: z.array(id).min(1).max(200),
  device: id,
  reason: z.enum(RECOVERY_REASONS),
  /** A file number or the like, outside of EKMS. */
  reference: z
    .string()
    .max(80)
    .regex(/^[\x20-\x7e]*$/),
  expires: z.int().positive(),
  message: digest.optional(),
});
export type RecoveryRequest = z.output<typeof recoveryRequest>;

/** Longest time that an approved case stays open. */
export const RECOVERY_DAYS = 30;

export const recoveryBytes = (request: RecoveryRequest): Buffer =>
  Buffer.from(`EKMS recovery request v1\n${canonicalJson(JSON.parse(JSON.stringify(request)) as Json)}`);
export const recoveryDigest = (request: RecoveryRequest): Buffer => sha256(recoveryBytes(request));

/** Who may approve: named with their own public keys at the ceremony, sealed in the custody package. */
export interface RecoveryAgents {
  quorum: number;
  agents: readonly { name: string; publicKey: Buffer }[];
}

export const recoveryApproval = z.strictObject({
  agent: z.string().max(80),
  signature: z.instanceof(Uint8Array).transform((bytes) => Buffer.from(bytes)),
});
export type RecoveryApproval = z.output<typeof recoveryApproval>;

/** Whether this is the agent's signature over `recoveryBytes` (Ed25519; ECDSA in DER or RSA PKCS#1 v1.5, with SHA-256: what a smart card or openssl gives). */
export function isApproval(
  request: RecoveryRequest,
  { agent, signature }: { agent: string; signature: Uint8Array },
  { agents }: RecoveryAgents,
): boolean {
  const known = agents.find(({ name }) => name === agent);
  if (!known) return false;
  const key = createPublicKey({ key: known.publicKey, format: 'der', type: 'spki' });
  try {
    return verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', recoveryBytes(request), key, signature);
  } catch {
    return false;
  }
}

/** Throws `recovery-not-approved` unless a quorum of different agents signed this very request, `recovery-expired` when its time is over. */
export function requireApproved(
  request: RecoveryRequest,
  approvals: readonly RecoveryApproval[],
  agents: RecoveryAgents | undefined,
  now: Date,
): void {
  if (!agents)
    throw new Fault(
      'forbidden',
      'no-recovery-agents',
      'no recovery agents were named at the ceremony of this token: nobody can approve a recovery',
    );
  const by = new Set(approvals.filter((approval) => isApproval(request, approval, agents)).map(({ agent }) => agent));
  if (by.size < agents.quorum)
    throw new Fault(
      'forbidden',
      'recovery-not-approved',
      `${by.size} of the ${agents.quorum} recovery agents that are needed have signed this very request`,
    );
  const left = request.expires - now.getTime();
  if (left <= 0) throw new Fault('gone', 'recovery-expired', 'the time of this recovery case is over: file it anew');
  if (left > RECOVERY_DAYS * 86_400_000)
    throw new Fault('forbidden', 'recovery-not-approved', `a recovery case ends within ${RECOVERY_DAYS} days`);
}
