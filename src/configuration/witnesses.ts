import { z } from 'zod';
import { parseNoteKey } from '../codec/merkle/index.js';
import { sha256 } from '../foundation/index.js';
import { mailAddress, path } from './shapes.js';

const name = z.string().regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'must be a short name in lower case');

/** C2SP verifier key of a cosigner. */
const cosigner = z.string().transform((text, context) => {
  const key = parseNoteKey((bytes) => sha256(bytes), text);
  if (key?.type === 'cosignature') return key;
  context.addIssue({ code: 'custom', message: 'must be a verifier key name+id+base64 of an Ed25519 cosigner (type 0x04)' });
  return z.NEVER;
});
const url = z.string().refine((text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol), 'must be https://… (or http://…)');

/** C2SP verifier key of a log. */
const log = z.string().transform((text, context) => {
  const key = parseNoteKey((bytes) => sha256(bytes), text.trim());
  if (key?.type === 'ed25519') return key;
  context.addIssue({ code: 'custom', message: 'must be the audit.pub of another appliance, name+id+base64 of an Ed25519 key (type 0x01)' });
  return z.NEVER;
});

/** `witnessing` of ekms.yaml: other appliances whose heads are cosigned here. */
export const witnessingShape = z
  .strictObject({ logs: z.array(log).max(64).default([]) })
  .superRefine(({ logs }, context) => {
    for (const [at, { name }] of logs.entries())
      if (logs.some((other, n) => n !== at && (other.name === name || other.name.startsWith(`${name}/`))))
        context.addIssue({ code: 'custom', path: ['logs', at], message: 'another log has this name, or one that begins with it' });
  })
  .prefault({});

/** `witnesses` of ekms.yaml: who remembers the heads of the log outside of this appliance's administrators' reach. */
export const witnessShape = z
  .strictObject({
    readable: z
      .array(z.union([z.strictObject({ name, folder: path }), z.strictObject({ name, url, key: cosigner, caFile: path.optional() })]))
      .max(8)
      .default([]),
    /** While none is reached: hand out keys, with an alarm, or wait. */
    unreachable: z.enum(['serve', 'wait']).default('serve'),
    /** With `wait`, once one was reached: how long keys go on being handed out without. */
    patienceSeconds: z.int().min(0).max(86_400).default(60),
    everySeconds: z.int().min(1).max(3_600).default(10),
    /** Heads for archives: to these people by signed mail, and as entries, which go where the log is forwarded to. */
    archive: z
      .strictObject({ mail: z.array(mailAddress).max(8).default([]), everyHours: z.int().min(1).max(168).default(24) })
      .prefault({}),
    /** A time-stamp authority (RFC 3161) that stamps heads, and the authorities (PEM) that its certificate ends in. */
    timestamp: z.strictObject({ url, authoritiesFile: path, everyHours: z.int().min(1).max(168).default(24) }).optional(),
  })
  .superRefine(({ readable }, context) => {
    const names = readable.map((one) => one.name);
    if (new Set(names).size < names.length) context.addIssue({ code: 'custom', path: ['readable'], message: 'two have the same name' });
  });
export type WitnessConfiguration = z.output<typeof witnessShape>;

export const settledWitnesses = (
  { readable, timestamp, ...rest }: WitnessConfiguration,
  absolute: (file: string) => string,
): WitnessConfiguration => ({
  ...rest,
  ...(timestamp ? { timestamp: { ...timestamp, authoritiesFile: absolute(timestamp.authoritiesFile) } } : {}),
  readable: readable.map((one) => {
    if ('folder' in one) return { ...one, folder: absolute(one.folder) };
    return one.caFile === undefined ? one : { ...one, caFile: absolute(one.caFile) };
  }),
});
