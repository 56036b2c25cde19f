import { z } from 'zod';
import { canonicalJson, Fault, type Json } from '../foundation/index.js';
import { type RecoveryAgents, type RecoveryApproval, requireQuorum } from './recovery.js';

/** As in checkpoints: a note's key name, and the root in base64. */
export const auditHeadShape = z.strictObject({
  origin: z.string().regex(/^[a-z0-9][a-z0-9./:-]{0,254}$/), // no blanks, no plus
  size: z.int().nonnegative(),
  root: z.string().regex(/^([A-Za-z0-9+/]{43}=)?$/),
});

const BREACHES = ['audit-rolled-back', 'audit-forked', 'audit-token-older'] as const;

/**
 * That a log which is not the one that was signed goes on all the same, under another name (docs/formats/audit-log.md): what persons sign, word for word.
 */
export const logAcceptance = z.strictObject({
  v: z.literal(1),
  why: z.enum(BREACHES),
  /** The last head that the token signed, as it remembers. */
  signed: auditHeadShape,
  /** The last head that anybody remembers: what comes after `kept` up to there is lost. */
  known: auditHeadShape,
  /** What is left, and is vouched for by those who sign. */
  kept: auditHeadShape.omit({ origin: true }),
  /** The name under which it goes on. */
  origin: auditHeadShape.shape.origin,
  /** Milliseconds since 1970. */
  expires: z.int().positive(),
});
export type LogAcceptance = z.output<typeof logAcceptance>;

/** Longest time (ms) between asking and signing. */
export const ACCEPTANCE_LIFE = 7 * 86_400_000;

export const acceptanceBytes = (of: LogAcceptance): Buffer =>
  Buffer.from(`EKMS log acceptance v1\n${canonicalJson({ ...of } as unknown as Json)}`);

/** Throws as `requireQuorum`; `acceptance-malformed` where the name does not change; `recovery-expired` when its time is over. Two persons at least. */
export function requireAccepted(
  acceptance: LogAcceptance,
  approvals: readonly RecoveryApproval[],
  agents: RecoveryAgents | undefined,
  now: Date,
): void {
  if (acceptance.origin === acceptance.signed.origin || acceptance.origin === acceptance.known.origin)
    throw new Fault('malformed', 'acceptance-malformed', 'a log that was cut goes on under another name');
  requireQuorum(acceptanceBytes(acceptance), approvals, agents && { ...agents, quorum: Math.max(2, agents.quorum) });
  const left = acceptance.expires - now.getTime();
  if (left <= 0 || left > ACCEPTANCE_LIFE)
    throw new Fault('gone', 'recovery-expired', 'the time of this acceptance is over: ask for it anew');
}
