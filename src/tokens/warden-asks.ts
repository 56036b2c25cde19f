import { z } from 'zod';
import { Fault, isId } from '../foundation/index.js';
import { auditHeadShape, logAcceptance } from './acceptance.js';
import { AGENTS_ID } from './records.js';
import { agentList, appointment, recoveryApproval, recoveryRequest } from './recovery.js';
import { AUTHORITY_NAMES, STATEMENTS } from './token.js';
import { transferRequest } from './transfer.js';
import { transferAcceptance } from './transfer-acceptance.js';

/** Shapes of what the API may ask. The token process trusts nothing that comes over its channel, so each ask is parsed here first. */
const bytes = z.instanceof(Uint8Array).transform((value) => Buffer.from(value.buffer, value.byteOffset, value.length));
const id = z.string().refine(isId);
const digest = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
const time = z.int().nonnegative();
const suite = z.enum(['rsa', 'ec', 'sm2']);
/** From 1024 on only where a key came from outside. */
const bits = z.int().min(1024).max(8192);
const mode = z.enum(['deliver', 'remote']);
const heldMode = z.enum(['deliver', 'remote', 'quorum']);
const state = z.enum(['active', 'suspended', 'deactivated', 'compromised', 'destroyed']);
const version = z.int().positive();
const kek = z.string().max(64);
const serial = z.string().regex(/^[4-7][0-9a-f]{31}$/);
const days = z.int().positive().max(9200);
const urls = z.strictObject({ crl: z.string().max(300), issuer: z.string().max(300) });

const pool = z.strictObject({ type: z.literal('pool'), n: z.int().positive(), suite, bits, kek, publicKey: digest, wrapped: digest });
const key = z.strictObject({
  type: z.literal('key'),
  id,
  version,
  employee: id,
  suite,
  bits,
  state,
  mode: heldMode,
  kek,
  publicKey: digest,
  wrapped: digest,
  origin: z.literal('imported').exactOptional(),
  shared: z.literal(true).exactOptional(),
});
const binding = z.strictObject({
  type: z.literal('binding'),
  id,
  version,
  employee: id,
  address: z.string().max(254),
  from: time,
  to: time.nullable(),
  directory: z.string().min(1).max(128).exactOptional(),
});
const enrolment = z.strictObject({
  type: z.literal('enrolment'),
  id,
  version,
  address: z.string().max(254),
  answer: digest,
  jkt: digest,
  delivery: digest,
  expires: time,
});
const found = z.strictObject({ type: z.literal('found'), suite, bits, kek, publicKey: digest, wrapped: digest });
const transferKey = z.strictObject({
  type: z.literal('transfer'),
  id,
  version: z.literal(1),
  bits,
  kek,
  publicKey: digest,
  wrapped: digest,
  expires: time,
});
const member = z.strictObject({ type: z.literal('member'), id, version, mailbox: id, employee: id, from: time, to: time.nullable() });
const agents = z.strictObject({ type: z.literal('agents'), id: z.literal(AGENTS_ID), version, list: agentList });
const sealed = <R extends z.ZodType>(record: R) => z.strictObject({ record, mac: bytes });
const blob = z.strictObject({ wrapped: bytes, publicKey: bytes });
const device = z.strictObject({ certificate: bytes, deliveryKey: bytes });

const adoptTo = z.strictObject({
  key: id,
  employee: id,
  mode: heldMode,
  shared: z.literal(true).exactOptional(),
});

const SHAPES = {
  makePair: z.strictObject({
    n: z.int().positive(),
    kind: z.strictObject({ suite: z.literal('rsa'), bits: z.union([z.literal(2048), z.literal(3072), z.literal(4096)]) }),
  }),
  assign: z.strictObject({
    pair: sealed(pool),
    to: z.strictObject({ key: id, employee: id, mode: heldMode, shared: z.literal(true).exactOptional() }),
  }),
  changeKey: z.strictObject({ key: sealed(key), to: z.strictObject({ state: state.optional(), mode: mode.optional() }) }),
  seal: z.strictObject({
    record: z.discriminatedUnion('type', [binding, enrolment, member]),
    predecessor: sealed(z.discriminatedUnion('type', [binding, enrolment, member])).optional(),
  }),
  raise: z.strictObject({ sealed: sealed(z.discriminatedUnion('type', [key, binding, enrolment, agents, member])) }),
  release: z.strictObject({ key: sealed(key), blob, device, member: sealed(member).optional() }),
  decrypt: z.strictObject({
    key: sealed(key),
    blob,
    device,
    member: sealed(member).optional(),
    ask: z.strictObject({
      scheme: z.enum(['rsa-pkcs1', 'rsa-oaep-sha1', 'rsa-oaep-sha256']),
      encryptedKey: bytes,
      length: z.union([z.literal(16), z.literal(24), z.literal(32)]),
    }),
  }),
  issueDevice: z.strictObject({
    enrolment: sealed(enrolment),
    answer: z.string().max(100),
    binding: sealed(binding),
    device: id,
    serial,
    spki: bytes,
    urls,
    days,
  }),
  issuePerson: z.strictObject({
    key: sealed(key),
    binding: sealed(binding),
    shown: z.string().max(254),
    publicKey: bytes,
    serial,
    urls,
    days,
  }),
  issueInfrastructure: z.strictObject({
    profile: z.enum(['tls-server', 'mail-signing']),
    spki: bytes,
    names: z.array(z.string().max(254)).min(1).max(20),
    serial,
    urls,
    days,
  }),
  issueCrl: z.strictObject({
    authority: z.enum(AUTHORITY_NAMES),
    n: z.int().positive(),
    number: z.int().positive(),
    entries: z.array(z.strictObject({ serial: z.string().regex(/^[0-9a-f]{1,40}$/), revokedAt: time, reason: z.int().min(0).max(10) })),
    days,
  }),
  renew: z.strictObject({ sealed: sealed(z.discriminatedUnion('type', [key, pool])), blob }),
  look: z.strictObject({ file: bytes, phrase: z.string().max(1_024), take: z.boolean() }),
  adopt: z.strictObject({ found: sealed(found), to: adoptTo }),
  makeTransferKey: z.strictObject({ id, expires: time }),
  transferOut: z.strictObject({
    request: transferRequest,
    approvals: z.array(recoveryApproval).max(48),
    agents: sealed(agents).optional(),
    key: sealed(key),
    blob,
    recipient: bytes,
  }),
  takeIn: z.strictObject({
    transferKey: sealed(transferKey),
    blob,
    accepted: z.strictObject({
      acceptance: transferAcceptance,
      approvals: z.array(recoveryApproval).max(48),
      agents: sealed(agents).exactOptional(),
      line: z.string().max(2_000_000),
      owner: z.string().max(254).exactOptional(),
      index: z.int().nonnegative(),
      proof: z.array(bytes).max(64),
      binding: sealed(binding).exactOptional(),
    }),
    to: adoptTo,
  }),
  appoint: z.strictObject({
    appointment,
    approvals: z.array(recoveryApproval).max(48),
    before: sealed(agents).optional(),
  }),
  recover: z.strictObject({
    request: recoveryRequest,
    approvals: z.array(recoveryApproval).max(48),
    agents: sealed(agents).optional(),
    key: sealed(key),
    blob,
    device,
    mail: z
      .strictObject({
        scheme: z.enum(['rsa-pkcs1', 'rsa-oaep-sha1', 'rsa-oaep-sha256']),
        encryptedKey: bytes,
        length: z.union([z.literal(16), z.literal(24), z.literal(32)]),
      })
      .optional(),
  }),
  attest: z.strictObject({ kind: z.enum(STATEMENTS), statement: z.record(z.string().max(64), z.json()) }),
  signHead: z.strictObject({ from: auditHeadShape, to: auditHeadShape, proof: z.array(bytes).max(64) }),
  beginOrigin: z.strictObject({
    acceptance: logAcceptance,
    approvals: z.array(recoveryApproval).max(16),
    agents: sealed(agents).optional(),
    to: auditHeadShape,
    proof: z.array(bytes).max(64),
  }),
  vouchAuditKey: z.strictObject({ origin: auditHeadShape.shape.origin }),
  cosign: z.strictObject({
    name: auditHeadShape.shape.origin,
    from: auditHeadShape,
    to: auditHeadShape,
    proof: z.array(bytes).max(64),
  }),
  signMail: z.strictObject({ message: bytes }),
  sealBytes: z.strictObject({ plaintext: bytes, context: z.string().max(200) }),
  openBytes: z.strictObject({ sealed: bytes, context: z.string().max(200) }),
} as const;

export type Asks = { [Op in keyof typeof SHAPES]: z.output<(typeof SHAPES)[Op]> };
export type Ask = { [Op in keyof Asks]: { op: Op; args: Asks[Op] } }[keyof Asks];

export function parseAsk(op: string, args: unknown): Ask {
  const shape = Object.hasOwn(SHAPES, op) ? SHAPES[op as keyof typeof SHAPES] : undefined;
  const parsed = shape?.safeParse(args);
  if (!parsed?.success) throw new Fault('malformed', 'token-ask-malformed', `the token process does not understand this ${op} request`);
  return { op, args: parsed.data } as Ask; // op and args were parsed by the shape of that op
}
