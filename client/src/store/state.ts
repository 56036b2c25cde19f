import * as z from 'zod/mini';

/** A key as the store keeps it; `privateKey` is PKCS#8 DER in base64, absent for one that stays in the appliance (remote mode). */
const keptKey = z.strictObject({
  id: z.string(),
  suite: z.string(),
  state: z.string(),
  mode: z.enum(['deliver', 'remote']),
  /** Address of the shared mailbox that the key is for. */
  mailbox: z.optional(z.string()),
  certificates: z.array(z.string()),
  privateKey: z.optional(z.string()),
});
export type KeptKey = z.infer<typeof keptKey>;

/** All that a device is and has. Keys are PKCS#8 DER in base64, certificates PEM. */
export const state = z.strictObject({
  v: z.literal(1),
  server: z.string(),
  address: z.string(),
  device: z.string(),
  employee: z.string(),
  root: z.string(),
  /** The device certificate, then its authority. */
  certificates: z.array(z.string()).check(z.minLength(1)),
  identityKey: z.string(),
  deliveryKey: z.string(),
  keys: z.array(keptKey),
  /** The organisation as a reader of documents, as the appliance last said: PEM. Absent in a store that never asked. */
  recovery: z.optional(z.strictObject({ current: z.nullable(z.string()), certificates: z.array(z.string()) })),
});
export type State = z.infer<typeof state>;
