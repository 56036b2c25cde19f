import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type ExportSource, successionPath } from '../codec/audit-log/index.js';
import { bundlePath, type Checkpoint, parseCheckpoint, parseNote, TILE_WIDTH, tilePath } from '../codec/merkle/index.js';
import { Fault, isFault, type Reader } from '../foundation/index.js';
import { syncFolder } from '../storage/index.js';
import { exportFolder } from './export-files.js';
import type { LogBook } from './log-book.js';
import { prunedUntil } from './pruning.js';

const FOLDER = 'log';
/** Milliseconds between two looks at whether the log has grown: what was revoked in the last ones a restore may not know. */
const EVERY = 5_000;

/**
 * The log at the second place, as far as it is signed (docs/formats/escrow-journal.md): what was taken away since the last backup a restore takes away again by it, with no export
 * that somebody had to think of. It follows the log and keeps nothing waiting: who revokes does not ask whether a share is mounted. Entries hold digests of what is
 * personal, never the values.
 */
export class LogCopy {
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> = Promise.resolve();
  #trouble: string | undefined;
  /** Bundles before this one were pruned and are gone here too. */
  #dropped = 0;

  constructor(
    private readonly book: Pick<LogBook, 'checkpoint' | 'successions' | 'tiles'>,
    private readonly reader: Reader,
    /** The second place, and whether it is there: a share that is not mounted leaves an empty folder. */
    private readonly directory: string,
    private readonly isThere: (directory: string) => boolean,
  ) {}

  /** Why it was behind when last tried; undefined while it is not. That the place is away the journal of keys says by itself. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  begin(): void {
    void this.#attempt();
    this.#timer = setInterval(() => void this.#attempt(), EVERY);
  }

  async stop(): Promise<void> {
    if (!this.#timer) return; // a restore opens the house too, and goes by what is here
    clearInterval(this.#timer);
    await this.#attempt();
  }

  /** Brings the copy up to the last checkpoint. One after the other. Rejects with what is in the way. */
  follow(): Promise<void> {
    const next = this.#working.then(() => this.#follow());
    this.#working = next.catch(() => undefined);
    return next;
  }

  async #attempt(): Promise<void> {
    try {
      await this.follow();
      this.#trouble = undefined;
    } catch (error) {
      if (this.isThere(this.directory))
        this.#trouble = `the copy of the log is behind: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`;
    }
  }

  async #follow(): Promise<void> {
    this.#requireThere();
    const note = await this.book.checkpoint().catch((error: unknown) => {
      if (isFault(error, 'checkpoint-missing')) return undefined;
      throw error;
    });
    const head = note === undefined ? undefined : headOf(note);
    if (note === undefined || !head) return;
    const size = await this.#begun(head);
    if (size > head.size) throw new Error(`it has ${size} entries, the log has signed ${head.size}`);
    if (size < head.size) await this.#copy(size, head.size, note);
    await this.#dropPruned();
  }

  /** Entries that are here. What is here of a former name of the log (before a restore that lost entries) is put aside: it is another log's. */
  async #begun({ origin }: Checkpoint): Promise<number> {
    const text = await readFile(join(this.directory, FOLDER, 'checkpoint'), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    const held = text === undefined ? undefined : headOf(text);
    if (held?.origin === origin) return held.size;
    if (held) {
      await rename(join(this.directory, FOLDER), join(this.directory, asideOf(held.origin)));
    }
    return 0;
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
    await this.#put('checkpoint', Buffer.from(note));
    for (const path of full) await rm(this.#path(`${path}.p`), { recursive: true, force: true });
  }

  async #dropPruned(): Promise<void> {
    for (const until = await prunedUntil(this.reader); this.#dropped * TILE_WIDTH < until; this.#dropped += 1)
      await rm(this.#path(bundlePath({ index: this.#dropped, width: TILE_WIDTH })), { force: true });
  }

  #requireThere(): void {
    if (!this.isThere(this.directory)) throw new Error(`${this.directory} does not carry its mark: is it mounted?`);
  }

  #path(path: string): string {
    return join(this.directory, FOLDER, path);
  }

  async #put(path: string, bytes: Uint8Array): Promise<void> {
    this.#requireThere(); // it may go at any moment, and no folder is to be made in its stead
    const place = this.#path(path);
    await mkdir(dirname(place), { recursive: true, mode: 0o700 });
    const file = await open(`${place}.new`, 'w', 0o600);
    try {
      await file.writeFile(bytes);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(`${place}.new`, place);
    await syncFolder(dirname(place));
  }
}

const headOf = (note: string): Checkpoint | undefined => parseCheckpoint(parseNote(note)?.text ?? '');

const asideOf = (origin: string): string => `${FOLDER}-${createHash('sha256').update(origin).digest('hex').slice(0, 16)}`;

/**
 * The copy of the log of this name at a second place, as an export of it; undefined where there is none. What lies there beside the files that its checkpoint speaks of (a copy
 * that was cut off, former partial tiles) is no part of it.
 */
export function copyOfLog(directory: string, origin: string): ExportSource | undefined {
  const folder = [FOLDER, asideOf(origin)].map((name) => join(directory, name)).find((path) => originAt(path) === origin);
  if (folder === undefined) return undefined;
  const { read, paths } = exportFolder(folder);
  return { read, paths: async () => (await paths()).filter((path) => path === 'checkpoint' || /^successions\/\d+$/.test(path)) };
}

function originAt(folder: string): string | undefined {
  const path = join(folder, 'checkpoint');
  return existsSync(path) ? headOf(readFileSync(path, 'utf8'))?.origin : undefined;
}
