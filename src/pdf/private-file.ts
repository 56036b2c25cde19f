import { createHash, randomBytes } from 'node:crypto';
import { close, createReadStream, openSync, type ReadStream, read, statfsSync, unlinkSync, write } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Fault } from '../foundation/index.js';

const writeSome = promisify(write);
const closeFile = promisify(close);

/** What documents leave free of the disk, as a share of it, and at most these bytes: the database and its log are on it too, and without them nobody gets a key. */
const LEFT = { share: 0.05, most: 2 ** 30 } as const;
/** Bytes that are written between two looks at the disk. */
const STRIDE = 16 * 2 ** 20;

/** A file that has no name: for this process alone, and gone with it however it ends. */
export class PrivateFile {
  #size = 0;
  #closed: Promise<void> | undefined;
  /** Bytes that may be written before the disk is looked at again. */
  #room = 0;

  private constructor(
    readonly descriptor: number,
    private readonly folder: string,
  ) {}

  /**
   * Throws `disk-full`.
   * @param folder private to this user
   * @param bytes that there must be room for
   */
  static create(folder: string, bytes = 0): PrivateFile {
    if (roomIn(folder) < bytes) throw diskFull();
    const path = join(folder, `.pdf-${randomBytes(12).toString('hex')}`);
    const descriptor = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    return new PrivateFile(descriptor, folder);
  }

  get size(): number {
    return this.#size;
  }

  /** Takes a stream to its end; resolves with the SHA-256 of what it was. Throws `pdf-too-large` beyond `most` bytes, `disk-full`. */
  async fill(content: AsyncIterable<Buffer>, most: number): Promise<Buffer> {
    const hash = createHash('sha256');
    for await (const piece of content) {
      if (this.#size + piece.length > most) throw new Fault('too-large', 'pdf-too-large', `a document has at most ${most} bytes here`);
      hash.update(piece);
      await this.#write(piece);
    }
    return hash.digest();
  }

  /**
   * From its first byte to byte `size`. It closes when nothing reads the file any more, however that came, and leaves the file open: a stream that is destroyed
   * closes its descriptor whatever `autoClose` says, and by then its number may be another file's.
   */
  content(size: number): ReadStream {
    const fs = { read, close: (_descriptor: number, done: (error: null) => void) => done(null) };
    return createReadStream('', { fd: this.descriptor, start: 0, end: size - 1, highWaterMark: 256 * 1024, fs } as never); // its types name fewer options
  }

  /** Once, however often it is asked. */
  close(): Promise<void> {
    this.#closed ??= closeFile(this.descriptor);
    return this.#closed;
  }

  async #write(piece: Buffer): Promise<void> {
    if (this.#room < piece.length) this.#room = Math.min(STRIDE, roomIn(this.folder));
    if (this.#room < piece.length) throw diskFull();
    this.#room -= piece.length;
    try {
      for (let done = 0; done < piece.length; ) {
        const { bytesWritten } = (await writeSome(this.descriptor, piece, done, piece.length - done, this.#size + done)) as unknown as {
          bytesWritten: number;
        }; // promisified by its own symbol, which the types do not know
        done += bytesWritten;
      }
    } catch (error) {
      throw diskFault(error);
    }
    this.#size += piece.length;
  }
}

/** Bytes that documents may take of the disk under this folder. */
function roomIn(folder: string): number {
  const { bavail, blocks, bsize } = statfsSync(folder);
  return bavail * bsize - Math.min(blocks * bsize * LEFT.share, LEFT.most);
}

const diskFull = () => new Fault('unavailable', 'disk-full', 'there is no room for the document at the moment', 60);

export function diskFault(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOSPC' || code === 'EDQUOT' ? diskFull() : error;
}
