import { z } from 'zod';
import { shapes } from '../foundation/index.js';
import { type KeyState, NEXT_KEY_STATE, transferRequest } from '../tokens/index.js';

const STATES = Object.keys(NEXT_KEY_STATE) as KeyState[]; // its keys are the states
const time = z.int().min(0);

/** The lines of a transfer file (docs/formats/transfer.md). */
export const transferHead = z.strictObject({
  type: z.literal('ekms-transfer'),
  v: z.literal(1),
  request: transferRequest,
  /** The sender's authorities of people's certificates, up to its root: DER, base64. */
  authorities: z.array(z.string().max(20_000)).max(10),
});
export type TransferHead = z.output<typeof transferHead>;

const base = { key: shapes.id, employee: shapes.id };

/**
 * As the key has lived where it comes from: when it began there (ms since 1970), each change of state, oldest first, and the legal holds on its owner's keys
 * that are in force.
 */
const life = z.strictObject({
  created: time,
  changes: z.array(z.strictObject({ state: z.enum(STATES), reason: z.string().max(20), time })).max(1_000),
  holds: z.array(z.strictObject({ id: shapes.id, reference: z.string().max(200), placed: time })).max(1_000),
});
export type TransferredLife = z.output<typeof life>;

/** A key, sealed to the recipient. */
export const transferredKey = z.strictObject({
  ...base,
  suite: z.literal('rsa'),
  bits: z.int(),
  state: z.enum(STATES),
  /** Absent where an older version wrote the file. */
  life: life.exactOptional(),
  imported: z.literal(true).exactOptional(),
  /** It was never for a device, and is not there either: the document key of an organisation. */
  quorum: z.literal(true).exactOptional(),
  /** SPKI, DER, base64; so are the certificates, newest first. */
  publicKey: z.string().max(4_000),
  addresses: z.array(z.string().max(254)).max(200),
  certificates: z.array(z.string().max(20_000)).max(200),
  /** CMS, base64 (docs/formats/delivery.md). */
  content: z.string().max(20_000),
});
export type TransferredKey = z.output<typeof transferredKey>;

/** A key that the token would not give. */
const keptBack = z.strictObject({ ...base, problem: z.string().max(64) });

export const transferEnd = z.strictObject({ end: z.int().min(0), statement: z.string().max(20_000) });
export const transferLine = z.union([transferredKey, keptBack]);
export type TransferLine = z.output<typeof transferLine>;

/** What the receiving appliance gives out, for keys to be sealed to. */
export const transferCard = z.strictObject({
  type: z.literal('ekms-transfer-key'),
  v: z.literal(1),
  id: shapes.id,
  /** SPKI, DER, base64. */
  publicKey: z.string().max(4_000),
  expires: z.int(),
});
export type TransferCard = z.output<typeof transferCard>;
