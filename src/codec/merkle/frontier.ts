import { HASH_BYTES, hashChildren, hashOfNothing, type Sha256 } from './hashing.js';

/**
 * The right edge of a tree: the hashes of its whole subtrees, largest first, one for each 1 in the binary form of its size. All that is needed
 * to go on, and to know the root: 64 hashes at most, however long the log is.
 */
export class Frontier {
  #size: number;
  readonly #hashes: Uint8Array[];

  /** @param state as `state` gave it. Throws RangeError when it is none for that size. */
  constructor(
    private readonly sha256: Sha256,
    size = 0,
    state: Uint8Array = new Uint8Array(),
  ) {
    if (state.length !== HASH_BYTES * onesIn(size)) throw new RangeError(`a tree of size ${size} has another right edge`);
    this.#size = size;
    this.#hashes = Array.from({ length: state.length / HASH_BYTES }, (_, n) => state.slice(n * HASH_BYTES, (n + 1) * HASH_BYTES));
  }

  get size(): number {
    return this.#size;
  }

  get state(): Uint8Array {
    const bytes = new Uint8Array(this.#hashes.length * HASH_BYTES);
    for (const [n, hash] of this.#hashes.entries()) bytes.set(hash, n * HASH_BYTES);
    return bytes;
  }

  append(leaf: Uint8Array): void {
    this.appendSubtree(leaf, 1);
  }

  /** Appends `width` leaves, a power of two that divides the size, by the hash over them all. */
  appendSubtree(subtree: Uint8Array, width: number): void {
    if (this.#size % width > 0) throw new RangeError(`a subtree of ${width} leaves does not begin at ${this.#size}`);
    let hash = subtree;
    for (let rest = this.#size / width; rest % 2 === 1; rest = (rest - 1) / 2) hash = hashChildren(this.sha256, this.#pop(), hash);
    this.#hashes.push(hash);
    this.#size += width;
  }

  root(): Uint8Array {
    const last = this.#hashes.at(-1);
    if (!last) return hashOfNothing(this.sha256);
    return this.#hashes.slice(0, -1).reduceRight((right, left) => hashChildren(this.sha256, left, right), last);
  }

  #pop(): Uint8Array {
    const last = this.#hashes.pop();
    if (!last) throw new RangeError('the right edge does not fit its size');
    return last;
  }
}

function onesIn(size: number): number {
  let ones = 0;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) ones += rest % 2;
  return ones;
}
