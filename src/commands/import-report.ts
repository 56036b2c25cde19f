import { existsSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { base64url, sha256 } from '../foundation/index.js';

/** What a line must have to be believed when the run is begun again; the rest is for people. */
interface ReportLine {
  /** SHA-256 of the file, base64url: a name may be another file's elsewhere, or tomorrow. */
  sha256?: string;
  /** Which line about this file this is, of how many. */
  n?: number;
  of?: number;
  outcome: string;
  dryRun?: true;
}

/** Lines between two words to the disk. A line that a power cut takes is a file that is opened again, and found to be here. */
const SYNC_EVERY = 500;

/**
 * What became of each file, one line of JSON a key; and from an earlier run, which files need not be opened again. Only those count of which every key is said to be here,
 * by a run that was no dry one: whatever is cut off, damaged or of an older version is no reason to leave a file out.
 */
export class ImportReport {
  readonly #taken: Set<string>;
  #file: FileHandle | undefined;
  #unsynced = 0;
  /** One at a time, so that a file's lines stand together. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(
    private readonly path: string | undefined,
    taken: Set<string>,
  ) {
    this.#taken = taken;
  }

  /** Without a path nothing is kept. */
  static async open(path: string | undefined): Promise<ImportReport> {
    return new ImportReport(path, path !== undefined && existsSync(path) ? await takenIn(path) : new Set());
  }

  isTaken(file: Buffer): boolean {
    return this.#taken.size > 0 && this.#taken.has(base64url(sha256(file)));
  }

  /** All lines of one file. Resolves once they are with the operating system. */
  tell(file: Buffer | undefined, lines: readonly { outcome: string }[], dryRun: boolean): Promise<void> {
    const about = { ...(file ? { sha256: base64url(sha256(file)) } : {}), ...(dryRun ? { dryRun } : {}) };
    const texts = lines.map((line, n) => `${JSON.stringify({ ...line, ...about, n: n + 1, of: lines.length })}\n`);
    const written = this.#writing.then(() => this.#write(texts));
    this.#writing = written.catch(() => undefined);
    return written;
  }

  async #write(texts: readonly string[]): Promise<void> {
    if (this.path === undefined) return;
    this.#file ??= await continued(this.path);
    await this.#file.appendFile(texts.join(''));
    this.#unsynced += texts.length;
    if (this.#unsynced >= SYNC_EVERY) await this.#sync(this.#file);
  }

  async #sync(file: FileHandle): Promise<void> {
    this.#unsynced = 0;
    // A pipe or a terminal has no disk.
    await file.datasync().catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EINVAL') throw error;
    });
  }

  async close(): Promise<void> {
    await this.#writing;
    const file = this.#file;
    this.#file = undefined;
    try {
      if (file) await this.#sync(file);
    } finally {
      await file?.close();
    }
  }
}

/** What a killed run left half is ended here, so that it spoils no line but its own. */
async function continued(path: string): Promise<FileHandle> {
  const file = await open(path, 'a+', 0o600);
  const { size } = await file.stat();
  const last = Buffer.alloc(1);
  if (size > 0) await file.read(last, 0, 1, size - 1);
  if (size > 0 && last[0] !== 0x0a) await file.appendFile('\n');
  return file;
}

/** By SHA-256. What was said of a file last counts: what was refused may have been taken the next time. */
async function takenIn(path: string): Promise<Set<string>> {
  const taken = new Set<string>();
  // The file that the lines before this one said was taken so far, and the line that follows.
  let soFar = '';
  for await (const text of (await open(path)).readLines()) {
    const { sha256: of = '', n = 0, of: all = 0, outcome, dryRun } = parse(text);
    if (of === '' || dryRun) continue;
    if (n === 1) taken.delete(of);
    const isTaken = (outcome === 'imported' || outcome === 'there') && (n === 1 || soFar === `${of} ${n}`);
    if (isTaken && n === all) taken.add(of);
    soFar = isTaken ? `${of} ${n + 1}` : '';
  }
  return taken;
}

/** Whoever may write the report may leave files out anyway. */
function parse(text: string): Partial<ReportLine> {
  try {
    return (JSON.parse(text) as ReportLine | null) ?? {};
  } catch {
    return {}; // the end of a run that was killed
  }
}
