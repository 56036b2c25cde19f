import { damaged, excessive } from './faults.js';
import { LIMITS } from './limits.js';
import { Parser, WindowTooSmall } from './parser.js';
import type { Source } from './ports.js';

/** As much is read at once: objects stand close together, and mostly in order. */
const WINDOW = 128 * 1024;

/** Parses at any place of the file, reading as far ahead as a value needs. */
export class Window {
  #start = 0;
  #bytes: Buffer = Buffer.alloc(0);

  /** @param meter told of bytes that were looked at and came to nothing: a file may ask for that again and again */
  constructor(
    private readonly source: Source,
    private readonly meter: (bytes: number) => void,
  ) {}

  get size(): number {
    return this.source.size;
  }

  parse<T>(at: number, read: (parser: Parser) => T): T {
    if (at < 0 || at >= this.source.size) throw damaged(`it points outside of itself, to ${at}`);
    for (let length = WINDOW; ; length = Math.min(4 * length, LIMITS.objectBytes)) {
      this.#cover(at, length);
      const isWhole = this.#start + this.#bytes.length === this.source.size;
      const parser = new Parser(this.#bytes, at - this.#start, isWhole);
      try {
        return read(parser);
      } catch (error) {
        this.meter(parser.at - (at - this.#start));
        if (!(error instanceof WindowTooSmall)) throw error;
        if (length >= LIMITS.objectBytes) throw excessive(`an object of more than ${LIMITS.objectBytes} bytes`);
      }
    }
  }

  /** Where in the file a parser of `parse` stands. */
  placeOf(parser: Parser): number {
    return this.#start + parser.at;
  }

  bytes(at: number, length: number): Buffer {
    return Buffer.from(this.source.read(at, length));
  }

  /** Where `word` stands next, from `at` on; -1 if it does not. */
  find(word: string, at: number): number {
    const step = 2 ** 20;
    for (let from = at; from < this.source.size; from += step) {
      const found = this.source.read(from, step + word.length - 1).indexOf(word, 0, 'latin1');
      if (found >= 0) {
        this.meter(from + found - at);
        return from + found;
      }
    }
    this.meter(this.source.size - at);
    return -1;
  }

  /** At least a quarter of a window's room from `at`, so that parsing goes on where it stood without reading again. */
  #cover(at: number, length: number): void {
    const end = this.#start + this.#bytes.length;
    const isInside = at >= this.#start && at < end;
    if (isInside && length === WINDOW && (end === this.source.size || end - at >= WINDOW / 4)) return;
    this.#bytes = Buffer.from(this.source.read(at, length));
    this.#start = at;
  }
}
