import { z } from 'zod';
import { canonicalJson, Fault, isId, type Json } from '../foundation/index.js';
import { type RecoveryAgents, type RecoveryApproval, requireQuorum } from './recovery.js';

/** Why keys leave the house; enumerated, so that the log can hold it. */
export const TRANSFER_REASONS = ['migration', 'handover', 'archive', 'legal'] as const;

const id = z.string().refine(isId);
const digest = z.string().regex(/^[A-Za-z0-9_-]{43}$/);

/**
 * What recovery agents approve, word for word (docs/formats/transfer.md): whose keys leave this appliance, to which one key they are sealed, why, until
 * when.
 */
export const transferRequest = z.strictObject({
  v: z.literal(1),
  transfer: id,
  /** SHA-256 of this appliance's root certificate: agents of two appliances may have the same keys. */
  appliance: digest,
  /** SHA-256 of the public key (SPKI) that every key is sealed to. */
  to: digest,
  /** Whose; absent: everybody's. */
  employees: z.array(id).min(1).max(200).exactOptional(),
  reason: z.enum(TRANSFER_REASONS),
  /** A file number or the like, outside of EKMS. */
  reference: z
    .string()
    .max(80)
    .regex(/^[\x20-\x7e]*$/),
  expires: z.int().positive(),
});
export type TransferRequest = z.output<typeof transferRequest>;

/** Longest time in days that an approved transfer stays open. */
export const TRANSFER_DAYS = 30;

export const transferBytes = (request: TransferRequest): Buffer =>
  Buffer.from(`EKMS transfer request v1\n${canonicalJson(JSON.parse(JSON.stringify(request)) as Json)}`); // what JSON.stringify made is JSON

/** Two agents at least, whatever their quorum, signed these bytes of a transfer. Throws as `requireQuorum`, and `transfer-expired` when its time is over. */
export function requireTransfer(
  signed: Buffer,
  { expires }: { expires: number },
  approvals: readonly RecoveryApproval[],
  agents: RecoveryAgents | undefined,
  now: Date,
): void {
  requireQuorum(signed, approvals, agents && { ...agents, quorum: Math.max(2, agents.quorum) });
  const left = expires - now.getTime();
  if (left <= 0 || left > TRANSFER_DAYS * 86_400_000)
    throw new Fault('gone', 'transfer-expired', 'the time of this transfer is over: file it anew');
}
