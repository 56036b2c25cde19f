import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '../../storage/index.js';
import type { LogEntry } from '../audit-reader.js';
import { type Delivered, type LineForm, Sink } from './sink.js';

export interface FileSettings {
  directory: string;
  form: LineForm;
  /** Of the files' names, with the dot. */
  extension: string;
  /** Bytes after which the next file begins. */
  bytes: number;
  /** Files that stay; the oldest goes when there is one more. */
  keep: number;
}

/** Digits of an index in a name, so that names sort as numbers do. */
const DIGITS = 12;

/**
 * Lines in files that a SIEM reads, each named by the index of its first entry; the last one grows. A batch counts once it is on the disk. What
 * could not be written whole is taken back, so that no reader finds half a line.
 */
export class FileSink extends Sink {
  constructor(private readonly settings: FileSettings) {
    super();
  }

  override async deliver(entries: readonly LogEntry[]): Promise<Delivered> {
    const [first] = entries;
    if (!first) return { rejected: 0 };
    const { directory, form, bytes } = this.settings;
    await mkdir(directory, { recursive: true, mode: 0o750 });
    const last = (await this.#files()).at(-1);
    let file = await this.#open(last ?? this.#name(first.index));
    try {
      let { size } = await file.stat();
      if (size >= bytes) {
        await file.close();
        file = await this.#open(this.#name(first.index));
        size = (await file.stat()).size;
        await this.#forgetOldest();
      }
      const start = await endOfLines(file, size);
      if (start < size) await file.truncate(start); // cut off in the middle, at a crash
      try {
        await writeAll(file, Buffer.from(entries.map((entry) => `${form(entry)}\n`).join('')), start);
        await file.sync();
      } catch (error) {
        await file.truncate(start).catch(() => undefined);
        throw error;
      }
    } finally {
      await file.close().catch(() => undefined);
    }
    return { rejected: 0 };
  }

  #name(index: number): string {
    return `ekms-audit-${String(index).padStart(DIGITS, '0')}${this.settings.extension}`;
  }

  /** Ours, oldest first. */
  async #files(): Promise<string[]> {
    const { directory, extension } = this.settings;
    const isOurs = (name: string) => name.endsWith(extension) && /^ekms-audit-\d{12,}\./.test(name);
    return (await readdir(directory)).filter(isOurs).sort();
  }

  async #open(name: string): Promise<FileHandle> {
    const { directory } = this.settings;
    const path = join(directory, name);
    try {
      return await open(path, 'r+');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    const file = await open(path, 'wx+', 0o640);
    await syncFolder(directory);
    return file;
  }

  async #forgetOldest(): Promise<void> {
    const { directory, keep } = this.settings;
    for (const name of (await this.#files()).slice(0, -keep)) await rm(join(directory, name));
  }
}

async function writeAll(file: FileHandle, bytes: Buffer, from: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at, from + at)).bytesWritten;
}

/** Where the last whole line ends. An entry has at most 65,535 bytes; a line of it is at most some times as long. */
async function endOfLines(file: FileHandle, size: number): Promise<number> {
  const span = Math.min(size, 2 ** 20);
  const { buffer } = await file.read(Buffer.alloc(span), 0, span, size - span);
  return size - span + buffer.lastIndexOf(0x0a) + 1;
}
