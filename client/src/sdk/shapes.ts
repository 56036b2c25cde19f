import * as z from 'zod/mini';
import type { Routes } from './contract.js';

/**
 * What a shape reads. It does not compile where the contract lets the server send what the shape refuses; the shapes themselves are as wide as this
 * client can bear, so that a later server may say more.
 */
type Read<Shape extends z.ZodMiniType, _Sent extends z.input<Shape>> = z.output<Shape>;
type Answers<Route extends keyof Routes> = Routes[Route]['answers'];

const receipt = z.object({ index: z.int().check(z.nonnegative()), leaf: z.string() });

export const enrolment = z.object({ id: z.string(), half: z.string(), nonce: z.base64(), expiresAt: z.string() });
export type Enrolment = Read<typeof enrolment, Answers<'POST /v1/enrolments'>[201]>;

export const enrolled = z.object({ device: z.string(), employee: z.string(), certificates: z.array(z.string()).check(z.minLength(1)) });
export type Enrolled = Read<typeof enrolled, Answers<'POST /v1/enrolments/{id}/answer'>[200]>;

export const waiting = z.object({ state: z.literal('waiting'), for: z.string() });
export type Waiting = Read<typeof waiting, Answers<'POST /v1/enrolments/{id}/answer'>[202]>;

/** docs/formats/delivery.md */
export const key = z.object({
  id: z.string().check(z.regex(/^[0-9a-zA-Z-]{1,64}$/)),
  suite: z.string(),
  state: z.string(),
  mode: z.enum(['deliver', 'remote']),
  certificates: z.array(z.string()),
  delivery: z.nullable(z.base64()),
  signature: z.nullable(z.string()),
  receipt: z.nullable(receipt),
  problem: z.optional(z.string()),
  imported: z.optional(z.boolean()),
  mailbox: z.optional(z.string()),
});
export type ServedKey = Read<typeof key, Answers<'GET /v1/keys'>[200][number]>;

export const decryption = z.object({ wrapped: z.base64(), hash: z.enum(['sha1', 'sha256']), receipt: z.nullable(receipt) });
export type Decryption = Read<typeof decryption, Answers<'POST /v1/keys/{id}/decryptions'>[200]>;

const opening = z.object({ salt: z.base64url(), value: z.string() });
/** docs/formats/uses.md */
export const keyUses = z.object({
  checkpoint: z.string(),
  vouch: z.string(),
  successions: z.array(z.string()),
  consistency: z.nullable(z.array(z.base64())),
  uses: z.array(
    z.object({
      index: z.int().check(z.nonnegative()),
      entry: z.string(),
      proof: z.array(z.base64()),
      network: z.nullable(opening),
      reader: z.nullish(opening),
      sealed: z.nullish(opening),
    }),
  ),
  pruned: z.nullable(z.object({ index: z.int().check(z.nonnegative()), entry: z.string(), proof: z.array(z.string()) })),
  next: z.nullable(z.int().check(z.nonnegative())),
});
export type KeyUses = Read<typeof keyUses, Answers<'GET /v1/me/uses'>[200]>;
export const recoveryCase = z.object({
  id: z.string().check(z.regex(/^[0-9a-f-]{36}$/)),
  expiresAt: z.string(),
  message: z.nullable(z.string()),
  reading: z._default(z.boolean(), false),
  approvals: z.int(),
  quorum: z.int(),
  keys: z.array(z.object({ id: z.string(), suite: z.string(), state: z.string(), certificates: z.array(z.string()) })),
});
export type RecoveryCase = Read<typeof recoveryCase, Answers<'GET /v1/recoveries'>[200][number]>;

export const pdfRecovery = z.object({
  current: z.nullable(z.string()),
  certificates: z.array(z.string()),
  chain: z.array(z.string()),
});
export type PdfRecovery = Read<typeof pdfRecovery, Answers<'GET /v1/pdf/recovery'>[200]>;

export const recovered = z.object({
  delivery: z.nullable(z.base64()),
  wrapped: z.nullable(z.base64()),
  hash: z.nullable(z.enum(['sha1', 'sha256'])),
});
export type Recovered = Read<typeof recovered, Answers<'POST /v1/recoveries/{id}/openings'>[200]>;

export const device = z.object({
  id: z.string(),
  platform: z.string(),
  name: z.nullish(z.string()),
  state: z.string(),
  enrolledAt: z.string(),
  current: z.optional(z.boolean()),
});
export type Device = Read<typeof device, Answers<'GET /v1/devices'>[200][number]>;

export const pendingEnrolment = z.object({
  id: z.string(),
  address: z.string(),
  platform: z.string(),
  name: z.nullish(z.string()),
  requestedAt: z.string(),
});
export type PendingEnrolment = Read<typeof pendingEnrolment, Answers<'GET /v1/enrolments'>[200][number]>;

export const addressCertificate = z.object({ certificate: z.string(), chain: z.array(z.string()) });
export type AddressCertificate = Read<typeof addressCertificate, Answers<'GET /v1/certificates'>[200][number]>;
