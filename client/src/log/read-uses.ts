import { hash, randomBytes } from 'node:crypto';
import * as z from 'zod/mini';
import {
  type Checkpoint,
  encodeNoteKey,
  fromBase64,
  hashLeaf,
  isWrong,
  type KeyChain,
  keysOfLog,
  type NoteKey,
  onlyKey,
  openByKeys,
  parseNoteKey,
  type Sha256,
  type TreeHead,
  verifyByWebCrypto,
  verifyConsistency,
  verifyInclusion,
} from '../../../src/codec/merkle/index.js';
import { base64url, sha256 as digest, Fault } from '../../../src/foundation/index.js';
import type { EkmsClient, KeyUses } from '../sdk/index.js';
import type { KeptReceipt, KnownLog } from '../store/index.js';
import { type Certificate, openStatement } from '../x509/index.js';
import { CHECKS, type Finding, type ProvedUse } from './checks.js';

const sha256: Sha256 = (bytes) => hash('sha256', bytes, 'buffer');

const vouching = z.strictObject({ v: z.literal(1), key: z.string(), time: z.iso.datetime() });

/** docs/formats/audit-entry.md, as far as it is told here. */
const entry = z.object({
  index: z.string(),
  time: z.iso.datetime(),
  action: z.string(),
  outcome: z.string(),
  reason: z.optional(z.string()),
  actor: z.object({ kind: z.string(), id: z.optional(z.string()) }),
  device: z.optional(z.string()),
  key: z.string(),
  use: z.string().check(z.regex(/^[1-9]\d{0,15}$/)),
  previous: z.optional(z.string()),
  facts: z._default(z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])), {}),
  personal: z._default(z.record(z.string(), z.string()), {}),
});

export interface LogReading {
  uses: ProvedUse[];
  /** Empty where all holds. */
  findings: Finding[];
  /** Entries that the log has. */
  size: number;
  /** What to remember when all holds. */
  known: KnownLog;
}

export interface ReadingParts {
  client: Pick<EkmsClient, 'uses'>;
  root: Certificate;
  held: readonly string[];
  receipts: readonly (KeptReceipt & { at: string })[];
  known: KnownLog | undefined;
  now: () => Date;
  /** Left out only where a test shows what would pass without. */
  checks?: typeof CHECKS;
}

/** A log that does not prove itself: there is nothing to list. */
const logForged = (why: string) => new Fault('forbidden', 'log-forged', why);

/**
 * Every entry about one's keys. Each page must hang together by itself: a head signed by the log's key, extending the one that is remembered, and covering
 * each entry; anything else throws `log-forged`. What the entries together leave out or contradict are findings.
 */
export async function readUses(parts: ReadingParts): Promise<LogReading> {
  const { client, known, now, root, held, receipts, checks = CHECKS } = parts;
  const key = known && parseNoteKey(sha256, known.key);
  let before = known && key ? await opened(known.checkpoint, onlyKey(key)) : undefined;
  if (known && !before) throw new Fault('misconfigured', 'log-memory-damaged', 'what this device remembers of the log does not hold');
  const uses: ProvedUse[] = [];
  for (let from: number | null = 0; ; ) {
    const nonce = randomBytes(32).toString('base64url');
    const answer = await client.uses({ from, since: before?.size ?? 0, nonce });
    const { noteKey, text } = vouched(answer.vouch, root, now());
    const keys = await keysOfLog(sha256, verifyByWebCrypto, key ?? noteKey, answer.successions);
    // Another key is the log's only if the one that is remembered signed that it takes over.
    if (known && !keys.some((one) => encodeNoteKey(sha256, one.key) === text))
      throw logForged(`the log is signed by another key, or goes by another name, than before: ${text}, not ${known.key}`);
    if (known) await opened(known.checkpoint, keys);
    const head = await opened(answer.checkpoint, keys);
    if (!extendsIt(before, head, answer)) throw logForged(second(before, head));
    uses.push(...proved(answer, head));
    before = head;
    from = answer.next;
    if (from !== null && from > (uses.at(-1)?.index ?? -1)) continue;
    if (from !== null) throw logForged('the appliance shows the same entries again and again');
    const evidence = { uses, held, receipts, known, nonce, pruned: prunedUntil(answer, head) };
    const findings = Object.values(checks).flatMap((check) => check(evidence));
    const last = Object.fromEntries(uses.map(({ key, use, leaf }) => [key, { use, leaf }]));
    return { uses, findings, size: head.size, known: { v: 1, key: text, checkpoint: answer.checkpoint, uses: last } };
  }
}

function vouched(jws: string, root: Certificate, now: Date): { noteKey: NoteKey; text: string } {
  const { key: text } = openStatement(jws, { typ: 'ekms-audit-key+jws', shape: vouching, root, now });
  const noteKey = parseNoteKey(sha256, text);
  if (!noteKey) throw logForged('the key of the log is none that this version of mesign knows');
  return { noteKey, text };
}

async function opened(note: string, keys: KeyChain): Promise<Checkpoint> {
  const checkpoint = await openByKeys(sha256, verifyByWebCrypto, note, keys);
  if (isWrong(checkpoint)) throw logForged(`the head of the log does not hold: ${checkpoint.wrong}`);
  return checkpoint;
}

function extendsIt(before: TreeHead | undefined, head: TreeHead, { consistency }: KeyUses): boolean {
  if (!before) return true;
  return consistency !== null && verifyConsistency(sha256, before, head, hashes(consistency));
}

const second = (before: TreeHead | undefined, head: TreeHead): string =>
  before && before.size > head.size
    ? `the log has ${head.size} entries now, and ${before.size} were signed before: entries are gone`
    : `the log is another than the one of ${before?.size} entries that was signed before: there is a second history`;

function proved({ uses }: KeyUses, head: TreeHead): ProvedUse[] {
  return uses.map(({ index, entry: text, proof, ...openings }) => {
    const leaf = hashLeaf(sha256, Buffer.from(text));
    if (index >= head.size || !verifyInclusion(sha256, index, leaf, head, hashes(proof)))
      throw logForged(`entry ${index} is not in the log that was signed`);
    const { index: said, use, personal, previous, reason, device, ...body } = read(text, index);
    if (said !== String(index)) throw logForged(`entry ${index} says that it is entry ${said}`);
    const opened = (name: 'network' | 'reader' | 'sealed') => {
      const one = openings[name];
      return one && base64url(digest(Buffer.from(one.salt, 'base64url'), one.value)) === personal[name] ? one.value : undefined;
    };
    const words = opened('sealed');
    return {
      ...{
        ...body,
        index,
        leaf: base64url(leaf),
        use: Number(use),
        previous,
        reason,
        device,
        network: opened('network'),
        reader: opened('reader'),
      },
      sealed: words === undefined ? undefined : unsealed(words, index),
    };
  });
}

/** docs/formats/audit-entry.md: what a sealed entry is known to have said once its date has come. */
const sealedWords = z.object({
  action: z.string(),
  outcome: z.string(),
  actor: z.object({ kind: z.string(), id: z.optional(z.string()) }),
  personal: z._default(z.record(z.string(), z.string()), {}),
});

function unsealed(text: string, index: number): z.infer<typeof sealedWords> {
  try {
    return sealedWords.parse(JSON.parse(text));
  } catch {
    throw logForged(`what was sealed as entry ${index} is no entry`);
  }
}

/** docs/formats/audit-entry.md: what `audit.prune` says. */
const pruning = z.object({
  index: z.string(),
  action: z.literal('audit.prune'),
  outcome: z.literal('done'),
  facts: z.object({ until: z.int() }),
});

function prunedUntil({ pruned }: KeyUses, head: TreeHead): number {
  if (!pruned) return 0;
  const { index, entry: text, proof } = pruned;
  if (index >= head.size || !verifyInclusion(sha256, index, hashLeaf(sha256, Buffer.from(text)), head, hashes(proof)))
    throw logForged(`entry ${index} is not in the log that was signed`);
  try {
    return pruning.parse(JSON.parse(text)).facts.until;
  } catch {
    throw logForged(`entry ${index} does not say that the log was pruned`);
  }
}

function read(text: string, index: number): z.infer<typeof entry> {
  try {
    return entry.parse(JSON.parse(text));
  } catch {
    throw logForged(`entry ${index} is none about a key`);
  }
}

const hashes = (texts: readonly string[]): Uint8Array[] => texts.map((text) => fromBase64(text) ?? new Uint8Array());
