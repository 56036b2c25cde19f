import {
  bundlePath,
  type Checkpoint,
  checkpointText,
  decodeBundle,
  Frontier,
  HASH_BYTES,
  hashLeaf,
  hashOver,
  isWrong,
  type KeyChain,
  type NoteKey,
  noteKeyDigest,
  onlyKey,
  openByKeys,
  type Sha256,
  sameHash,
  TILE_WIDTH,
  tilePath,
  type VerifySignature,
} from '../merkle/index.js';
import { type ExportSource, keysOfExport } from './keys-of-export.js';

/** What somebody may have done to a log. */
export type DamageKind =
  /** The checkpoint is no note of the given key: replaced, or its signature is. */
  | 'checkpoint'
  /** An entry is not the one that was signed. */
  | 'changed'
  /** An entry is gone, or entries before it were added. */
  | 'missing'
  /** An entry stands twice, or was added. */
  | 'added'
  /** Two entries changed places. */
  | 'swapped'
  /** Neither entries nor hashes are those that were signed. */
  | 'rewritten'
  /** A head that is remembered is not of this log's past. */
  | 'forked'
  /** A head that is remembered says that there were more entries. */
  | 'cut'
  /** A tile is not what the entries hash to. */
  | 'tile'
  /** What an entry says of its place (index, time, use of a key) does not fit those before it. */
  | 'inconsistent'
  /** A time stamp does not hold, or is over another head. */
  | 'timestamp'
  /** A file that no export has: nothing vouches for it. */
  | 'foreign';

export interface Damage {
  kind: DamageKind;
  /** Of the first entry that is bad; where only a range is known, its beginning. Absent where no entry is concerned. */
  index?: number;
  /** One sentence for a person. */
  words: string;
}

export interface Verdict {
  damages: Damage[];
  /** Entries that the checkpoint speaks of; undefined where it is none. */
  size?: number;
  /** Time that the last entry says. */
  time?: string;
  /** Entries from the first on that were pruned, as an entry of the log says; their hashes were verified. */
  pruned?: number;
  /** Time stamps over heads of this log, where there are some: how many, and of those that were judged the newest. */
  stamps?: { there: number; newest?: { size: number; time: string; by: string } };
  /** Remembered heads that were held against the log. */
  heads: number;
  /** What this verdict does not say, in words. Always to be told. */
  cannotExclude: string;
}

export interface VerifyParts {
  sha256: Sha256;
  verify: VerifySignature;
  /** Comes from outside the export, always. Any key of the log: those that it took over from, or that took over from it, follow. */
  key: NoteKey;
  /** Notes of former checkpoints that somebody kept outside the export. */
  heads?: readonly string[];
  /** Judges an RFC 3161 token over the text of a head; absent where nobody said which authorities are believed. Rejects with what is wrong. */
  timestamp?: (token: Uint8Array, text: Uint8Array) => Promise<{ time: Date; by: string }>;
}

/**
 * Whether an export is whole: read once from the first entry to the last, in bounded memory. Nothing in it is believed but what `key` signed and
 * what follows from that. Pure: the command and a page in a browser run the same.
 */
export async function verifyExport(source: ExportSource, parts: VerifyParts): Promise<Verdict> {
  return new Verification(source, parts).run();
}

/** Damages of a kind that are told one by one; a log that was shifted has as many as entries. */
const TOLD = 10;

/** No hash. */
const NONE = new Uint8Array();

const utf8 = new TextDecoder('utf-8', { fatal: true });

class Verification {
  readonly #damages: Damage[] = [];
  readonly #seen = new Set(['checkpoint']);
  #logKeys: KeyChain;
  /** Keys that entries announce, as `noteKeyDigest` has them. */
  readonly #announced = new Set<string>();
  readonly #stamps: NonNullable<Verdict['stamps']> = { there: 0 };
  readonly #keys = new Map<string, { use: number; leaf: string }>();
  #paths: string[] | undefined;
  #time = '';
  /** Up to where entries of the log say that it was pruned. */
  #allowed = 0;
  /** Entries from the first on whose bundles are not there. */
  #pruned = 0;

  constructor(
    private readonly source: ExportSource,
    private readonly parts: VerifyParts,
  ) {
    this.#logKeys = onlyKey(parts.key);
  }

  async run(): Promise<Verdict> {
    const { keys, paths, wrong } = await keysOfExport(this.source, this.parts);
    this.#logKeys = keys;
    for (const path of paths) this.#seen.add(path);
    if (wrong) this.#say({ kind: 'checkpoint', words: wrong });
    const head = await this.#open('checkpoint', await this.#text('checkpoint'));
    if (!head) return this.#verdict(undefined, 0);
    const former: Checkpoint[] = [];
    for (const path of (await this.source.paths()).filter((one) => /^checkpoints\/\d+$/.test(one))) {
      this.#seen.add(path);
      const checkpoint = await this.#open(path, await this.#text(path));
      if (checkpoint && `checkpoints/${checkpoint.size}` !== path) this.#say({ kind: 'checkpoint', words: `${path} is of another size` });
      if (checkpoint) former.push(checkpoint);
    }
    await this.#timestamps([...former, head]);
    const remembered: Checkpoint[] = [];
    for (const [n, note] of (this.parts.heads ?? []).entries()) {
      const checkpoint = await this.#open(`remembered head ${n + 1}`, note);
      if (checkpoint) remembered.push(checkpoint);
    }
    for (const { size } of remembered)
      if (size > head.size)
        this.#say({ kind: 'cut', index: head.size, words: `a head of ${size} entries was signed: those from ${head.size} on are missing` });
    await this.#entries(head, [...former, ...remembered]);
    this.#successors(head);
    for (const path of await this.source.paths())
      if (!this.#seen.has(path)) this.#say({ kind: 'foreign', words: `${path} is no part of an export` });
    return this.#verdict(head.size, remembered.filter(({ size }) => size >= head.size).length, remembered.length);
  }

  async #open(name: string, note: string): Promise<Checkpoint | undefined> {
    const { sha256, verify } = this.parts;
    const opened = await openByKeys(sha256, verify, note, this.#logKeys);
    if (!isWrong(opened)) return opened;
    this.#say({ kind: 'checkpoint', words: `${name}: ${opened.wrong}` });
    return undefined;
  }

  /** Each key that took over is announced by an entry that the key before it signed. */
  #successors({ size }: Checkpoint): void {
    for (const { key, from } of this.#logKeys.slice(1))
      if (from > this.#pruned && from <= size && !this.#announced.has(noteKeyDigest(this.parts.sha256, key)))
        this.#say({ kind: 'inconsistent', words: `a key took over at ${from} entries that no entry announces` });
  }

  /** Each is over the three lines of a head that the log's key signed; so it says that the log was so at its time. */
  async #timestamps(heads: readonly Checkpoint[]): Promise<void> {
    for (const path of (await this.source.paths()).filter((one) => /^timestamps\/\d+$/.test(one))) {
      this.#seen.add(path);
      this.#stamps.there += 1;
      const head = heads.find(({ size }) => `timestamps/${size}` === path);
      if (!head) this.#say({ kind: 'timestamp', words: `${path} is over a head that is not there` });
      if (!head || !this.parts.timestamp) continue;
      try {
        const token = (await this.source.read(path)) ?? NONE;
        const { time, by } = await this.parts.timestamp(token, new TextEncoder().encode(checkpointText(head)));
        if (head.size >= (this.#stamps.newest?.size ?? 0)) this.#stamps.newest = { size: head.size, time: time.toISOString(), by };
      } catch (error) {
        this.#say({ kind: 'timestamp', words: `${path}: ${(error as Error).message}` });
      }
    }
  }

  /** Both rows of hashes, the entries' own and the tiles', each grown to a root: which of them was signed says what is damaged. */
  async #entries(head: Checkpoint, known: Checkpoint[]): Promise<void> {
    const { sha256 } = this.parts;
    const byEntries = new Frontier(sha256);
    const byTiles = new Frontier(sha256);
    const heads = known.filter(({ size }) => size <= head.size).toSorted((a, b) => a.size - b.size);
    const tiles: Uint8Array[] = [];
    /** Up to here a known head vouches for the entries. */
    let vouched = 0;
    let forked: Damage | undefined;
    let different: Damage | undefined;
    /** Holds the known heads of this size against the entries so far. */
    const meet = (size: number): void => {
      while (heads[0]?.size === size) {
        const [next] = heads.splice(0, 1);
        if (next && byEntries.size === next.size && sameHash(byEntries.root(), next.root)) vouched = next.size;
        else
          forked ??= {
            kind: 'forked',
            index: vouched,
            words: `a signed head of ${size} entries is not of this log: it differs somewhere from entry ${vouched} on`,
          };
      }
    };
    for (let index = 0; index * TILE_WIDTH < head.size; index += 1) {
      const width = Math.min(TILE_WIDTH, head.size - index * TILE_WIDTH);
      const hashes = split(await this.#file(tilePath({ level: 0, index, width })));
      // Whole bundles that are not there, from the first on: hashes speak for them, if an entry further on says that they were pruned.
      const isPruned = this.#pruned === index * TILE_WIDTH && width === TILE_WIDTH && !(await this.#isThere(bundlePath({ index, width })));
      if (isPruned) this.#pruned += width;
      const entries = isPruned ? [] : await this.#bundle({ index, width });
      const leaves = isPruned ? hashes : entries.map((entry) => hashLeaf(sha256, entry));
      // What is clean is hashed once: the tile's own hash stands for its entries and, where these are the tile's, for those.
      const isClean = entries.length === width && hashes.length === width && leaves.every((leaf, n) => sameHash(leaf, hashes[n] ?? NONE));
      const tile = width === TILE_WIDTH ? hashOver(sha256, hashes) : undefined;
      if (tile) tiles.push(tile);
      const isKnownInside = heads[0] !== undefined && heads[0].size < (index + 1) * TILE_WIDTH;
      if (tile && isClean && !different && !isKnownInside && byEntries.size === index * TILE_WIDTH) {
        for (const [n, entry] of entries.entries()) this.#judge(index * TILE_WIDTH + n, entry, leaves[n] ?? NONE);
        byEntries.appendSubtree(tile, TILE_WIDTH);
        byTiles.appendSubtree(tile, TILE_WIDTH);
        meet((index + 1) * TILE_WIDTH);
        continue;
      }
      for (let n = 0; n < width; n += 1) {
        const at = index * TILE_WIDTH + n;
        const entry = entries[n];
        const leaf = leaves[n];
        const signed = hashes[n];
        if (signed) byTiles.append(signed);
        if (leaf) byEntries.append(leaf);
        if (!leaf) different ??= { kind: 'missing', index: at, words: `entry ${at} is not there` };
        else if (entry && signed && !sameHash(leaf, signed)) different ??= difference(at, entry, entries.slice(n + 1));
        // After the first entry that is another, everything stands elsewhere: only the first is told.
        if (entry && leaf && !different) this.#judge(at, entry, leaf);
        meet(at + 1);
      }
      const end = index * TILE_WIDTH + Math.min(width, hashes.length);
      if (entries.length > width)
        different ??= { kind: 'added', index: end, words: `bundle ${index} has ${entries.length} entries, not ${width}` };
      if (hashes.length !== width)
        different ??= { kind: 'tile', index: end, words: `tile 0/${index} has ${hashes.length} hashes, not ${width}` };
    }
    if (this.#pruned > this.#allowed)
      different = {
        kind: 'missing',
        index: this.#allowed,
        words: `entry ${this.#allowed} is not there, and no entry says that it was pruned`,
      };
    const entriesHold = this.#pruned <= this.#allowed && byEntries.size === head.size && sameHash(byEntries.root(), head.root);
    const tilesHold = byTiles.size === head.size && sameHash(byTiles.root(), head.root);
    if (different && entriesHold && different.kind !== 'added')
      different = {
        ...different,
        kind: 'tile',
        words: `tile 0/${Math.floor((different.index ?? 0) / TILE_WIDTH)} is not what its entries hash to`,
      };
    if (different) this.#say(different);
    if (forked) this.#say(forked);
    // Where the tiles are those that were signed, the difference above is exact; where neither is, a known head brackets it.
    if (!entriesHold && !(tilesHold && different) && !forked)
      this.#say({
        kind: 'rewritten',
        index: vouched,
        words: `the entries are not those that were signed, somewhere from entry ${vouched} on`,
      });
    await this.#upperTiles(tiles);
  }

  async #upperTiles(below: Uint8Array[], level = 1): Promise<void> {
    if (below.length === 0) return;
    const full: Uint8Array[] = [];
    for (let index = 0; index * TILE_WIDTH < below.length; index += 1) {
      const hashes = below.slice(index * TILE_WIDTH, (index + 1) * TILE_WIDTH);
      const kept = split(await this.#file(tilePath({ level, index, width: hashes.length })));
      if (kept.length !== hashes.length || kept.some((hash, n) => !sameHash(hash, hashes[n] ?? hash)))
        this.#say({ kind: 'tile', words: `tile ${level}/${index} is not what the tiles below hash to` });
      if (hashes.length === TILE_WIDTH) full.push(hashOver(this.parts.sha256, hashes));
    }
    await this.#upperTiles(full, level + 1);
  }

  /** What an entry says of its own place. The signature covers it already; this finds a log that was made wrong, not one that was changed. */
  #judge(at: number, entry: Uint8Array, leaf: Uint8Array): void {
    const body = parse(entry);
    const wrong = (words: string) => this.#say({ kind: 'inconsistent', index: at, words: `entry ${at} ${words}` });
    if (!body) wrong('is no JSON object');
    else if (body.index !== String(at)) wrong(`says that it is entry ${body.index}`);
    if (!body || body.index !== String(at)) return;
    if (body.time < this.#time) wrong('is older than the one before');
    this.#time = body.time;
    if (body.action === 'audit.prune' && body.outcome === 'done')
      this.#allowed = Math.max(this.#allowed, Number(body.facts?.['until']) || 0);
    const announced = body.facts?.['key'];
    if (body.action === 'audit.key' && body.outcome === 'done' && typeof announced === 'string') this.#announced.add(announced);
    if (body.key === undefined || body.use === undefined) return;
    const last = this.#keys.get(body.key);
    const isFirstKept = last === undefined && this.#pruned > 0;
    if (!isFirstKept && body.use !== String((last?.use ?? 0) + 1))
      wrong(`is use ${body.use} of a key that was used ${last?.use ?? 0} times`);
    else if (!isFirstKept && body.previous !== last?.leaf) wrong('does not name the use of its key before');
    this.#keys.set(body.key, { use: Number(body.use), leaf: base64url(leaf) });
  }

  async #bundle(which: { index: number; width: number }): Promise<Uint8Array[]> {
    const bytes = await this.#file(bundlePath(which));
    const { entries, rest } = decodeBundle(bytes ?? new Uint8Array());
    if (rest > 0)
      this.#say({
        kind: 'changed',
        index: which.index * TILE_WIDTH + entries.length,
        words: `bundle ${which.index} ends inside an entry`,
      });
    return entries;
  }

  /** A tile or bundle; one of another width in its place shows how far it goes. */
  async #file(path: string): Promise<Uint8Array | undefined> {
    const there = await this.source.read(path);
    if (there) {
      this.#seen.add(path);
      return there;
    }
    this.#paths ??= await this.source.paths();
    const [whole = path] = path.split('.p/');
    const found = this.#paths.find((one) => one === whole || one.startsWith(`${whole}.p/`));
    if (found === undefined) return undefined;
    this.#seen.add(found);
    return this.source.read(found);
  }

  async #isThere(path: string): Promise<boolean> {
    if (await this.source.read(path)) return true;
    this.#paths ??= await this.source.paths();
    return this.#paths.some((one) => one.startsWith(`${path}.p/`));
  }

  async #text(path: string): Promise<string> {
    try {
      return utf8.decode(await this.source.read(path));
    } catch {
      return '';
    }
  }

  #say(damage: Damage): void {
    if (this.#damages.filter(({ kind }) => kind === damage.kind).length < TOLD) this.#damages.push(damage);
  }

  #verdict(size: number | undefined, covering: number, heads = 0): Verdict {
    const until = size === undefined ? '' : `whole up to size ${size}${this.#time ? ` at ${this.#time}` : ''} at best; `;
    return {
      damages: this.#damages.toSorted((a, b) => (a.index ?? -1) - (b.index ?? -1)),
      ...(size === undefined ? {} : { size }),
      ...(this.#time ? { time: this.#time } : {}),
      ...(this.#pruned > 0 ? { pruned: this.#pruned } : {}),
      heads,
      ...(this.#stamps.there > 0 ? { stamps: this.#stamps } : {}),
      cannotExclude:
        covering > 0
          ? `${until}entries after the newest remembered head cannot be spoken of`
          : `${until}later cuts cannot be excluded: no remembered head is as new as this checkpoint`,
    };
  }
}

interface Placed {
  index: string;
  time: string;
  key?: string;
  use?: string;
  previous?: string;
  action?: string;
  outcome?: string;
  facts?: Record<string, unknown>;
}

function parse(entry: Uint8Array): Placed | undefined {
  try {
    const body = JSON.parse(utf8.decode(entry)) as Placed | null; // each member is compared, whatever it is
    return body !== null && typeof body === 'object' ? body : undefined;
  } catch {
    return undefined;
  }
}

/** At the first entry that is not the signed one, its own words and those of its followers tell what was done. */
function difference(at: number, entry: Uint8Array, after: readonly Uint8Array[]): Damage {
  const said = Number(parse(entry)?.index);
  const next = Number(after[0] && parse(after[0])?.index);
  if (said === at + 1 && next !== at) return { kind: 'missing', index: at, words: `entry ${at} is missing: ${said} stands in its place` };
  if (said > at) return { kind: 'swapped', index: at, words: `entry ${said} stands in the place of ${at}` };
  if (said < at) return { kind: 'added', index: at, words: `entry ${said} stands again in the place of ${at}` };
  if (next === at) return { kind: 'added', index: at, words: `an entry was put in before ${at}` };
  return { kind: 'changed', index: at, words: `entry ${at} is not the one that was signed` };
}

function split(bytes: Uint8Array | undefined): Uint8Array[] {
  if (!bytes || bytes.length % HASH_BYTES > 0) return [];
  return Array.from({ length: bytes.length / HASH_BYTES }, (_, n) => bytes.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES));
}

const base64url = (bytes: Uint8Array): string =>
  btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
