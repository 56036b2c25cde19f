import { hash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type ExportSource, successionPath } from '../codec/audit-log/index.js';
import {
  bundlePath,
  type Checkpoint,
  decodeBundle,
  HASH_BYTES,
  hashLeaf,
  hashOver,
  parseCheckpoint,
  parseNote,
  sameHash,
  TILE_HEIGHT,
  TILE_WIDTH,
  type Tile,
  tilePath,
  verifyConsistency,
  verifyInclusion,
} from '../codec/merkle/index.js';
import { Fault, isFault, type Storage } from '../foundation/index.js';
import { replaceFile } from '../storage/index.js';
import { exportFolder } from './export-files.js';
import type { LogBook } from './log-book.js';
import { sha256 } from './log-tree.js';
import { prunedUntil } from './pruning.js';

const FOLDER = 'log';
/** Milliseconds between two looks at whether the log has grown: what was revoked in the last ones a restore may not know. */
const EVERY = 5_000;
/** Milliseconds after which a try that has not come to its end is told of. */
const HANGS = 60_000;
/** Nothing is written over them: either may be the one that was changed. */
const REMEDY = 'see ekms audit verify; where the log is whole, move the folder log there away, and it is copied anew';
const BEHIND = 'the copy of the log does not follow';
/** Newest bundles of entries that are read again at a time, and at the least as many of the rest. */
const READ_AGAIN = 64;
/** Times that it is read until all of it was: of each hour, a week. */
const ROUND = 7 * 24;
/** Bundles that are remembered as damaged. Where there are more, what is there is to be copied anew anyway. */
const REMEMBERED = 1_024;
/** Down to which bundle the round that is under way has come: a process that is started anew each night comes to its end too. */
const READ_DOWN_TO = 'audit-copy-read';

/** A file of the copy, as the log has it; undefined where it has it not. Of a bundle and of a tile of entries' hashes: which entries. */
interface LogFile {
  path: string;
  bytes: Uint8Array | undefined;
  lowest?: Tile;
}

/** What was found where the copy was read again: paths in it. */
export interface ReadAgain {
  /** Entries that the copy has, and that it lacks of the signed ones. */
  size: number;
  behind: number;
  /** Not as the log has them, and left so. */
  damaged: string[];
  /** The same, written anew. */
  mended: string[];
}

/**
 * The log at the second place, as far as it is signed (docs/formats/escrow-journal.md): what was taken away since the last backup a restore takes away again by it, with no export
 * that somebody had to think of. It follows the log and keeps nothing waiting: who revokes does not ask whether a share is mounted. Entries hold digests of what is
 * personal, never the values.
 */
export class LogCopy {
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> = Promise.resolve();
  /** When the try that is under way began (performance.now()). */
  #since: number | undefined;
  #trouble: string | undefined;
  /** Bundles before this one were pruned and are gone here too. */
  #dropped = 0;
  /** What reading again found and left: paths, by bundle. Who was looked at last is last. */
  readonly #damaged = new Map<number, string[]>();
  #mended = 0;
  /** The reading that is under way. */
  #reading: Promise<ReadAgain> | undefined;
  #isStopping = false;

  constructor(
    private readonly book: Pick<LogBook, 'checkpoint' | 'successions' | 'tiles'>,
    private readonly storage: Storage,
    /** The second place, and whether it is there: a share that is not mounted leaves an empty folder. */
    private readonly directory: string,
    private readonly isThere: (directory: string) => Promise<boolean>,
  ) {}

  /** Why it was behind when last tried; undefined while it is not. That the place is away the journal of keys says by itself. */
  get trouble(): string | undefined {
    const hangs = this.#since !== undefined && performance.now() - this.#since > HANGS;
    return hangs ? `${BEHIND}: the place does not answer` : (this.#trouble ?? this.#rotten);
  }

  /** Whether this process keeps it: else nobody has looked yet. */
  get isFollowing(): boolean {
    return this.#timer !== undefined;
  }

  /** Files that had changed and were written anew since the start. */
  get mended(): number {
    return this.#mended;
  }

  get #rotten(): string | undefined {
    const paths = [...this.#damaged.values()].flat();
    return paths[0] && `${paths.length} files of the copy of the log are not as the log has them (${paths[0]}): ${REMEDY}`;
  }

  begin(): void {
    void this.#attempt();
    this.#timer = setInterval(() => void this.#attempt(), EVERY);
  }

  async stop(): Promise<void> {
    if (!this.#timer) return; // a restore opens the house too, and goes by what is here
    clearInterval(this.#timer);
    this.#isStopping = true;
    await this.#reading?.catch(() => undefined);
    await this.#working;
    await this.#attempt();
  }

  /** Brings the copy up to the last checkpoint. One after the other. Rejects with what is in the way. */
  follow(): Promise<void> {
    return this.#inTurn(() => this.#follow());
  }

  /**
   * Reads some of the copy again, for a disk rots where nobody reads, and nobody would know before a restore: what was damaged, the newest, and so much of the rest that in a week all of it was read.
   * What differs is written anew only where the head that lies here proves the log's own: of what was signed nothing is hidden by that. Following goes on between one bundle and
   * the next. Where it is being read already, that is the answer. Rejects where the place is away, or another log's.
   * @param most newest bundles to be read, without mending only those; and of the rest as many, or more of a large log
   */
  readAgain({ mend = true, most = READ_AGAIN }: { mend?: boolean; most?: number } = {}): Promise<ReadAgain> {
    this.#reading ??= this.#readAgain(mend, most).finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  /** What touches the copy does so one after the other. */
  #inTurn<R>(act: () => Promise<R>): Promise<R> {
    const next = this.#working.then(act);
    this.#working = next.then(
      () => undefined,
      () => undefined,
    );
    return next;
  }

  async #readAgain(mend: boolean, most: number): Promise<ReadAgain> {
    const found: ReadAgain = { size: 0, behind: 0, damaged: [], mended: [] };
    const { held, head } = await this.#inTurn(() => this.#heads());
    if (!held || !head) return { ...found, behind: head?.size ?? 0 };
    const bundles = Math.ceil(held.size / TILE_WIDTH);
    const newest = Math.max(0, bundles - most);
    const first = new Set(mend ? [...this.#damaged.keys()].slice(0, most) : []);
    for (let index = bundles - 1; index >= newest; index -= 1) first.add(index);
    const look = (index: number) => this.#inTurn(() => this.#look(index, mend, found));
    for (const index of first) if (!this.#isStopping) await look(index);
    if (mend) {
      let at = await this.#roundAt(bundles);
      const until = Math.max(0, at - Math.max(most, Math.ceil(bundles / ROUND)));
      try {
        for (; at > until && !this.#isStopping; at -= 1) if (!first.has(at - 1)) await look(at - 1);
      } finally {
        await this.#keepRound(at);
      }
    }
    return { ...found, size: held.size, behind: head.size - held.size };
  }

  /** One bundle and what comes with it. */
  async #look(index: number, mend: boolean, found: ReadAgain): Promise<void> {
    const { held } = await this.#heads();
    if (!held) return; // moved away meanwhile
    const damaged: string[] = [];
    if (index * TILE_WIDTH < held.size)
      for (const file of await this.#filesAt(index, held.size)) {
        if (await this.#isWhole(file)) continue;
        if (mend && (await this.#mend(file, held))) found.mended.push(file.path);
        else damaged.push(file.path);
      }
    found.damaged.push(...damaged);
    this.#damaged.delete(index);
    if (mend && damaged.length > 0 && this.#damaged.size < REMEMBERED) this.#damaged.set(index, damaged);
  }

  /** The last signed head, and the one that lies here where it is of the same log. Rejects where the place is away, or what is here is not how the log begins. */
  async #heads(): Promise<{ held?: Checkpoint; head?: Checkpoint }> {
    await this.#requireThere();
    const note = await this.#signed();
    const head = note === undefined ? undefined : headOf(note);
    const held = await this.#held();
    if (!head || held?.origin !== head.origin) return head ? { head } : {};
    await this.#requireBeginning(held, head);
    return { held, head };
  }

  /** Bundles of the round that is under way which were not read yet: those before this one. A round goes from what was the newest when it began down to the first. */
  async #roundAt(bundles: number): Promise<number> {
    const row = await this.storage.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [READ_DOWN_TO]);
    const at = Number(row?.value);
    return Number.isSafeInteger(at) && at > 0 && at <= bundles ? at : bundles;
  }

  async #keepRound(at: number): Promise<void> {
    await this.storage.write((unit) =>
      unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
        READ_DOWN_TO,
        String(at),
      ]),
    );
  }

  /** The files that come with this bundle, as the log has them: its entries, the tile of their hashes, and each tile above that begins with it. */
  async #filesAt(index: number, size: number): Promise<LogFile[]> {
    const { tiles } = this.book;
    const lowest = { level: 0, index, width: Math.min(TILE_WIDTH, size - index * TILE_WIDTH) };
    const files: LogFile[] = [{ path: tilePath(lowest), bytes: await tiles.tile(lowest), lowest }];
    if (index * TILE_WIDTH >= (await prunedUntil(this.storage)))
      files.push({ path: bundlePath(lowest), bytes: await tiles.bundle(lowest), lowest });
    for (let [level, at, count] = [1, index, Math.floor(size / TILE_WIDTH)]; count > 0 && at % TILE_WIDTH === 0; level += 1) {
      at /= TILE_WIDTH;
      const tile = { level, index: at, width: Math.min(TILE_WIDTH, count - at * TILE_WIDTH) };
      if (tile.width > 0) files.push({ path: tilePath(tile), bytes: await tiles.tile(tile) });
      count = Math.floor(count / TILE_WIDTH);
    }
    return files;
  }

  /** Whether it lies here as the log has it. One that cannot be read does not, whatever the reason. */
  async #isWhole({ path, bytes }: LogFile): Promise<boolean> {
    const place = this.#path(path);
    try {
      const about = await stat(place);
      // What lies there may be of any size.
      return bytes !== undefined && about.isFile() && about.size === bytes.length && (await readFile(place)).equals(bytes);
    } catch {
      await this.#requireThere();
      return false;
    }
  }

  /** Writes it anew where that hides nothing; whether it did. */
  async #mend(file: LogFile, held: Checkpoint): Promise<boolean> {
    const { path, bytes } = file;
    if (!bytes || !(await this.#isSigned(file, held))) return false;
    try {
      await this.#put(path, bytes);
    } catch {
      await this.#requireThere(); // a full disk, a place that cannot be written: the next one is looked at all the same
      return false;
    }
    this.#mended += 1;
    return true;
  }

  /** Whether what the log has there is what the head that lies here was signed over. */
  async #isSigned({ path, bytes, lowest }: LogFile, held: Checkpoint): Promise<boolean> {
    const { tiles } = this.book;
    // A tile above the lowest says nothing that those do not say; whoever reads it reckons it out of them.
    if (!lowest) return true;
    const isTile = path === tilePath(lowest);
    const hashes = (isTile ? bytes : await tiles.tile(lowest)) ?? new Uint8Array();
    if (hashes.length !== lowest.width * HASH_BYTES) return false;
    const leaves = Array.from({ length: lowest.width }, (_, n) => hashes.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES));
    if (!(await this.#areUnder(held, lowest.index * TILE_WIDTH, leaves))) return false;
    if (isTile) return true;
    const { entries } = decodeBundle(bytes ?? new Uint8Array());
    return entries.length === lowest.width && entries.every((entry, n) => sameHash(hashLeaf(sha256, entry), leaves[n] ?? entry));
  }

  /** Whether that head was signed over these hashes, from leaf `first` on. Of a full tile one path says it of all, for what stands beside its first leaf is reckoned out of the tile itself. */
  async #areUnder(head: Checkpoint, first: number, leaves: Uint8Array[]): Promise<boolean> {
    const path = (at: number) =>
      this.book.tiles.inclusion(at, head.size).catch((error: unknown) => {
        if (isFault(error, 'audit-unavailable')) return []; // the log lacks hashes itself
        throw error;
      });
    if (leaves.length === TILE_WIDTH) {
      const beside = Array.from({ length: TILE_HEIGHT }, (_, height) => hashOver(sha256, leaves.slice(2 ** height, 2 ** (height + 1))));
      const [leaf = new Uint8Array()] = leaves;
      return verifyInclusion(sha256, first, leaf, head, [...beside, ...(await path(first)).slice(TILE_HEIGHT)]);
    }
    for (const [n, leaf] of leaves.entries()) if (!verifyInclusion(sha256, first + n, leaf, head, await path(first + n))) return false;
    return true;
  }

  async #attempt(): Promise<void> {
    if (this.#since !== undefined) return; // a share that hangs is not asked again and again
    this.#since = performance.now();
    try {
      await this.follow();
      this.#trouble = undefined;
    } catch (error) {
      if (await this.isThere(this.directory))
        this.#trouble = `${BEHIND}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`;
    } finally {
      this.#since = undefined;
    }
  }

  async #follow(): Promise<void> {
    await this.#requireThere();
    const note = await this.#signed();
    const head = note === undefined ? undefined : headOf(note);
    if (note === undefined || !head) return;
    const held = await this.#begun(head);
    if (held) await this.#requireBeginning(held, head);
    const size = held?.size ?? 0;
    if (size < head.size) await this.#copy(size, head.size, note);
    if (!held) this.#damaged.clear(); // all of it is new
    await this.#dropPruned();
  }

  /** The last checkpoint of the log. */
  #signed(): Promise<string | undefined> {
    return this.book.checkpoint().catch((error: unknown) => {
      if (isFault(error, 'checkpoint-missing')) return undefined;
      throw error;
    });
  }

  /** What is here must be the beginning of the log: else one of the two was put back, and what is here may be all there is to say so. Nothing is written over it. */
  async #requireBeginning(held: Checkpoint, head: Checkpoint): Promise<void> {
    const isBeginning =
      held.size < head.size
        ? await verifyConsistency(sha256, held, head, await this.book.tiles.consistency(held.size, head.size))
        : held.size === head.size && sameHash(held.root, head.root);
    if (!isBeginning)
      throw new Error(
        `its ${held.size} entries are not how the ${head.size} signed ones of the log begin: log or second place were put back. See ekms audit verify; then move ${join(this.directory, FOLDER)} away`,
      );
  }

  async #held(): Promise<Checkpoint | undefined> {
    try {
      return headOf(await readFile(join(this.directory, FOLDER, 'checkpoint'), 'utf8'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** The head that is here. What is here of a former name of the log (before a restore that lost entries) is put aside: it is another log's. */
  async #begun({ origin }: Checkpoint): Promise<Checkpoint | undefined> {
    const held = await this.#held();
    if (!held || held.origin === origin) return held;
    const aside = join(this.directory, asideOf(held.origin));
    let place = aside;
    for (let n = 2; existsSync(place); n += 1) place = `${aside}-${n}`;
    await rename(join(this.directory, FOLDER), place);
    return undefined;
  }

  /** The checkpoint after all that it speaks of, and before what the one before it spoke of goes: whenever this is cut off, what is there is whole. */
  async #copy(from: number, to: number, note: string): Promise<void> {
    const { tiles } = this.book;
    const full: string[] = [];
    const there = (bytes: Uint8Array | undefined, path: string): Uint8Array => {
      if (!bytes) throw new Fault('unavailable', 'tile-unknown', `the log has no ${path}`);
      return bytes;
    };
    for (let [level, before, after] = [0, from, to]; before < after; level += 1) {
      for (let index = Math.floor(before / TILE_WIDTH); index * TILE_WIDTH < after; index += 1) {
        const tile = { level, index, width: Math.min(TILE_WIDTH, after - index * TILE_WIDTH) };
        const path = tilePath(tile);
        await this.#put(path, there(await tiles.tile(tile), path));
        // A whole bundle that is not there any more was pruned, which an entry further on says.
        const bundle = level === 0 ? await tiles.bundle(tile) : undefined;
        if (bundle || (level === 0 && tile.width < TILE_WIDTH)) await this.#put(bundlePath(tile), there(bundle, bundlePath(tile)));
        if (tile.width === TILE_WIDTH) full.push(path, bundlePath(tile));
      }
      [before, after] = [Math.floor(before / TILE_WIDTH), Math.floor(after / TILE_WIDTH)];
    }
    for (const [n, one] of (await this.book.successions()).entries()) await this.#put(successionPath(n + 1), Buffer.from(one));
    // Another node may have been quicker: what its head speaks of stays.
    if (((await this.#held())?.size ?? 0) >= to) return;
    await this.#put('checkpoint', Buffer.from(note));
    for (const path of full) await rm(this.#path(`${path}.p`), { recursive: true, force: true });
  }

  async #dropPruned(): Promise<void> {
    for (const until = await prunedUntil(this.storage); this.#dropped * TILE_WIDTH < until; this.#dropped += 1)
      await rm(this.#path(bundlePath({ index: this.#dropped, width: TILE_WIDTH })), { force: true });
  }

  async #requireThere(): Promise<void> {
    if (!(await this.isThere(this.directory))) throw new Error(`${this.directory} does not carry its mark: is it mounted?`);
  }

  #path(path: string): string {
    return join(this.directory, FOLDER, path);
  }

  async #put(path: string, bytes: Uint8Array): Promise<void> {
    await this.#requireThere(); // it may go at any moment, and no folder is to be made in its stead
    const place = this.#path(path);
    await mkdir(dirname(place), { recursive: true, mode: 0o700 });
    await replaceFile(place, bytes);
  }
}

const headOf = (note: string): Checkpoint | undefined => parseCheckpoint(parseNote(note)?.text ?? '');

const asideOf = (origin: string): string => `${FOLDER}-${hash('sha256', origin).slice(0, 16)}`;

/**
 * The copy of the log at a second place, as an export of it; undefined where there never was one. What lies there beside the files that its checkpoint speaks of (a copy that
 * was cut off, former partial tiles) is no part of it. Throws `tail-damaged` where its checkpoint cannot be read, or is of a log that goes by another name: then a restore came
 * between, and whoever restores says which they mean.
 * @param origin name of the log in the backup; absent in older backups
 */
export function copyOfLog(directory: string, origin: string | undefined): ExportSource | undefined {
  const folder = join(directory, FOLDER);
  if (!existsSync(join(folder, 'checkpoint'))) return undefined;
  const held = headOf(readFileSync(join(folder, 'checkpoint'), 'utf8'));
  if (!held) throw new Fault('conflict', 'tail-damaged', `the checkpoint in ${folder} cannot be read`);
  if (origin !== undefined && held.origin !== origin)
    throw new Fault(
      'conflict',
      'tail-damaged',
      `the log in ${folder} goes by another name (${held.origin}) than the one in the backup (${origin}): a restore came between, and what was there until then lies in ${asideOf(origin)}`,
    );
  const { read, paths } = exportFolder(folder);
  return { read, paths: async () => (await paths()).filter((path) => path === 'checkpoint' || /^successions\/\d+$/.test(path)) };
}
