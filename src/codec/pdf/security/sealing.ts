import { createCipheriv, randomFillSync } from 'node:crypto';
import type { Sealer } from '../writer.js';

const BLOCK = 16;

/** Initialisation vectors, drawn 256 at a time. */
class Vectors {
  readonly #pool = Buffer.alloc(BLOCK * 256);
  #at = this.#pool.length;

  next(): Buffer {
    if (this.#at === this.#pool.length) {
      randomFillSync(this.#pool);
      this.#at = 0;
    }
    this.#at += BLOCK;
    return Buffer.from(this.#pool.subarray(this.#at - BLOCK, this.#at));
  }
}

/** AES-256 in CBC mode with its vector in front (ISO 32000-2 §7.6.3.3, AESV3). */
export class AesV3 implements Sealer {
  readonly #vectors = new Vectors();

  constructor(private readonly key: Buffer) {}

  string(bytes: Buffer): Buffer {
    const iv = this.#vectors.next();
    const cipher = createCipheriv('aes-256-cbc', this.key, iv);
    return Buffer.concat([iv, cipher.update(bytes), cipher.final()]);
  }

  lengthOf(length: number): number {
    return BLOCK + (Math.floor(length / BLOCK) + 1) * BLOCK;
  }

  *stream(pieces: Iterable<Buffer>): Iterable<Buffer> {
    const iv = this.#vectors.next();
    yield iv;
    const cipher = createCipheriv('aes-256-cbc', this.key, iv);
    for (const piece of pieces) yield cipher.update(piece);
    yield cipher.final();
  }
}
