import { z } from 'zod';

const receipt = z.object({ index: z.int().nonnegative(), leaf: z.string() });

export const enrolment = z.object({ id: z.string(), half: z.string(), nonce: z.base64(), expiresAt: z.string() });
export type Enrolment = z.infer<typeof enrolment>;

export const enrolled = z.object({ device: z.string(), employee: z.string(), certificates: z.array(z.string()).min(1) });
export type Enrolled = z.infer<typeof enrolled>;

export const waiting = z.object({ state: z.literal('waiting'), for: z.string() });

/** docs/formats/delivery.md */
export const key = z.object({
  id: z.string().regex(/^[0-9a-zA-Z-]{1,64}$/),
  suite: z.string(),
  state: z.string(),
  mode: z.enum(['deliver', 'remote']),
  certificates: z.array(z.string()),
  delivery: z.base64().nullable(),
  signature: z.string().nullable(),
  receipt: receipt.nullable(),
});
export type ServedKey = z.infer<typeof key>;

export const decryption = z.object({ wrapped: z.base64(), hash: z.enum(['sha1', 'sha256']), receipt: receipt.nullable() });
export type Decryption = z.infer<typeof decryption>;

export const device = z.object({
  id: z.string(),
  platform: z.string(),
  name: z.string().nullish(),
  state: z.string(),
  enrolledAt: z.string(),
  current: z.boolean().optional(),
});
export type Device = z.infer<typeof device>;

export const pendingEnrolment = z.object({ id: z.string(), address: z.string(), platform: z.string(), name: z.string().nullish(), requestedAt: z.string() });
export type PendingEnrolment = z.infer<typeof pendingEnrolment>;
