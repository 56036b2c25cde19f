import {
  type Checkpoint,
  fromBase64,
  hashLeaf,
  isWrong,
  join,
  type KeyChain,
  onlyKey,
  openByKeys,
  sameHash,
  toBase64,
  verifyConsistency,
  verifyInclusion,
} from '../merkle/index.js';
import { type ExportSource, keysOfExport } from './keys-of-export.js';
import type { Damage, Verdict, VerifyParts } from './verify.js';

/** An evidence pack: some entries with their proofs (docs/formats/evidence-pack.md). */
export interface EvidenceProofs {
  v: 1;
  /** Entries that the pack's checkpoint covers. */
  size: number;
  /** The entry that states the digest of `manifest.json`: what no tree covers is covered by it. */
  seal: { index: number; entry: string };
  /** By index, the hashes of RFC 9162 §2.1.3, base64. */
  inclusion: Record<string, string[]>;
  /** By size of a former checkpoint, those of §2.1.4. */
  consistency: Record<string, string[]>;
}
export interface EvidenceManifest {
  v: 1;
  /** SHA-256 by path, base64. */
  files: Record<string, string>;
}
/** A line of `entries.jsonl`. `entry` is the very text that the leaf covers. */
export interface EvidenceLine {
  index: number;
  entry: string;
  values: { name: string; salt: string; value: string }[];
}

const utf8 = new TextDecoder('utf-8', { fatal: true });
const bytesOf = new TextEncoder();

/** What `proofs.json`, `manifest.json` and the lines of `entries.jsonl` look like: this and no other spelling. */
export const spelled = (value: EvidenceProofs | EvidenceManifest | EvidenceLine): string => JSON.stringify(value);

/** Whether every byte of a pack is what the log's key vouches for. Pure, as `verifyExport` is. */
export async function verifyEvidence(source: ExportSource, parts: VerifyParts): Promise<Verdict> {
  return new EvidenceVerification(source, parts).run();
}

class EvidenceVerification {
  readonly #damages: Damage[] = [];
  #keys: KeyChain;
  #successions: string[] = [];
  #time = '';

  constructor(
    private readonly source: ExportSource,
    private readonly parts: VerifyParts,
  ) {
    this.#keys = onlyKey(parts.key);
  }

  async run(): Promise<Verdict> {
    const { keys, paths, wrong } = await keysOfExport(this.source, this.parts);
    this.#keys = keys;
    this.#successions = paths;
    if (wrong) this.#say('checkpoint', wrong);
    const head = await this.#open('checkpoint');
    const proofs = parse<EvidenceProofs>(await this.#text('proofs.json'));
    const manifest = parse<EvidenceManifest>(await this.#text('manifest.json'));
    if (!proofs) this.#say('changed', 'proofs.json is not as a pack has it');
    if (!manifest) this.#say('changed', 'manifest.json is not as a pack has it');
    if (head && proofs && manifest) await this.#judge(head, proofs, manifest);
    return {
      damages: this.#damages.toSorted((a, b) => (a.index ?? -1) - (b.index ?? -1)),
      ...(head ? { size: head.size } : {}),
      ...(this.#time ? { time: this.#time } : {}),
      heads: 0,
      cannotExclude: 'these entries stand in the signed log as they are here; which others there are, a pack does not say',
    };
  }

  async #judge(head: Checkpoint, proofs: EvidenceProofs, manifest: EvidenceManifest): Promise<void> {
    const { sha256 } = this.parts;
    if (proofs.size !== head.size) this.#say('changed', `proofs.json speaks of ${proofs.size} entries, the checkpoint of ${head.size}`);
    const { index, entry } = proofs.seal;
    const said = facts(entry);
    const digest = base64url(sha256(bytesOf.encode(spelled(manifest))));
    if (!this.#stands(head, proofs, index, entry)) this.#say('changed', `the entry that seals the pack does not stand at ${index}`, index);
    else if (said?.action !== 'audit.evidence' || said.outcome !== 'done' || said.facts?.['manifest'] !== digest)
      this.#say('changed', `entry ${index} seals another pack than this one`, index);
    await this.#files(manifest, proofs);
    const lines = (await this.#text('entries.jsonl')).split('\n');
    if (lines.pop() !== '') this.#say('changed', 'entries.jsonl does not end with a whole line');
    const told = new Set([String(index)]);
    for (const text of lines) {
      const line = parse<EvidenceLine>(text);
      if (!line) this.#say('changed', 'a line of entries.jsonl is not as a pack has it');
      else {
        told.add(String(line.index));
        this.#line(head, proofs, line);
      }
    }
    for (const at of Object.keys(proofs.inclusion))
      if (!told.has(at)) this.#say('missing', `entry ${at} is proved and not there`, Number(at));
    for (const [size, proof] of Object.entries(proofs.consistency)) {
      const former = await this.#open(`checkpoints/${size}`);
      const hashes = proof.map(fromBase64);
      if (former && (String(former.size) !== size || !hashes.every(isThere) || !verifyConsistency(sha256, former, head, hashes)))
        this.#say('forked', `the head of ${size} entries is not of this log`);
    }
  }

  #line(head: Checkpoint, proofs: EvidenceProofs, { index, entry, values }: EvidenceLine): void {
    if (!this.#stands(head, proofs, index, entry)) {
      this.#say('changed', `entry ${index} is not the one that was signed`, index);
      return;
    }
    const body = facts(entry);
    if (body?.index !== String(index)) this.#say('inconsistent', `entry ${index} says that it is ${body?.index}`, index);
    if ((body?.time ?? '') > this.#time) this.#time = body?.time ?? '';
    for (const { name, salt, value } of values) {
      const bytes = fromBase64(salt);
      if (!bytes || body?.personal?.[name] !== base64url(this.parts.sha256(join(bytes, bytesOf.encode(value)))))
        this.#say('changed', `the value “${name}” of entry ${index} is not the one that was logged`, index);
    }
  }

  #stands(head: Checkpoint, proofs: EvidenceProofs, index: number, entry: string): boolean {
    const { sha256 } = this.parts;
    const hashes = proofs.inclusion[String(index)]?.map(fromBase64);
    return !!hashes?.every(isThere) && verifyInclusion(sha256, index, hashLeaf(sha256, bytesOf.encode(entry)), head, hashes);
  }

  async #files({ files }: EvidenceManifest, { consistency }: EvidenceProofs): Promise<void> {
    for (const [path, digest] of Object.entries(files)) {
      const bytes = await this.source.read(path);
      const kept = fromBase64(digest);
      if (!bytes) this.#say('missing', `${path} is not there`);
      else if (!kept || !sameHash(this.parts.sha256(bytes), kept)) this.#say('changed', `${path} is not the file that was sealed`);
    }
    const ours = new Set([
      'checkpoint',
      'proofs.json',
      'manifest.json',
      ...this.#successions,
      ...Object.keys(consistency).map((size) => `checkpoints/${size}`),
      ...Object.keys(files),
    ]);
    for (const path of await this.source.paths()) if (!ours.has(path)) this.#say('foreign', `${path} is no part of this pack`);
  }

  async #open(path: string): Promise<Checkpoint | undefined> {
    const { sha256, verify } = this.parts;
    const opened = await openByKeys(sha256, verify, await this.#text(path), this.#keys);
    if (!isWrong(opened)) return opened;
    this.#say('checkpoint', `${path}: ${opened.wrong}`);
    return undefined;
  }

  async #text(path: string): Promise<string> {
    try {
      return utf8.decode(await this.source.read(path));
    } catch {
      return '';
    }
  }

  #say(kind: Damage['kind'], words: string, index?: number): void {
    this.#damages.push({ kind, words, ...(index === undefined ? {} : { index }) });
  }
}

interface Said {
  index?: string;
  time?: string;
  action?: string;
  outcome?: string;
  facts?: Record<string, unknown>;
  personal?: Record<string, string>;
}

/** What an entry says; each member is compared, whatever it is. */
function facts(entry: string): Said | undefined {
  try {
    return JSON.parse(entry) as Said;
  } catch {
    return undefined;
  }
}

/** Undefined unless it is the one spelling of an object of version 1, or of a line. */
function parse<T extends EvidenceProofs | EvidenceManifest | EvidenceLine>(text: string): T | undefined {
  try {
    const value = JSON.parse(text) as T; // its members are looked at before they are used
    const isOne = SHAPES.some((shape) => shape(value as unknown as Record<string, unknown>));
    return isOne && spelled(value) === text ? value : undefined;
  } catch {
    return undefined;
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isTexts = (value: unknown): boolean => Array.isArray(value) && value.every((one) => typeof one === 'string');
const SHAPES: ((value: Record<string, unknown>) => boolean)[] = [
  ({ v, size, seal, inclusion, consistency }) =>
    v === 1 &&
    typeof size === 'number' &&
    isRecord(seal) &&
    typeof seal['entry'] === 'string' &&
    typeof seal['index'] === 'number' &&
    [inclusion, consistency].every((one) => isRecord(one) && Object.values(one).every(isTexts)),
  ({ v, files }) => v === 1 && isRecord(files) && Object.values(files).every((one) => typeof one === 'string'),
  ({ index, entry, values }) =>
    typeof index === 'number' &&
    typeof entry === 'string' &&
    Array.isArray(values) &&
    values.every((one) => isRecord(one) && ['name', 'salt', 'value'].every((name) => typeof one[name] === 'string')),
];

const isThere = (hash: Uint8Array | undefined): hash is Uint8Array => hash !== undefined;
const base64url = (bytes: Uint8Array): string => toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
