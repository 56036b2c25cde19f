import { hashChildren, type Sha256 } from './hashing.js';

/** A whole subtree: 2^height leaves, the `index`-th of its height from the left. */
export interface Subtree {
  height: number;
  index: number;
}

/** Whole subtrees, from the left, that make up the leaves `from` to `to` (RFC 9162 §2.1.1 splits them so, where `from` begins a subtree). */
function coverOf(from: number, to: number): Subtree[] {
  const cover: Subtree[] = [];
  for (let at = from; at < to; ) {
    let height = 0;
    while (at % 2 ** (height + 1) === 0 && at + 2 ** (height + 1) <= to) height += 1;
    cover.push({ height, index: at / 2 ** height });
    at += 2 ** height;
  }
  return cover;
}

/** Each hash of a proof, as the whole subtrees that it is over. */
export type Recipe = readonly (readonly Subtree[])[];

const largestPowerBelow = (size: number): number => {
  let power = 1;
  while (power * 2 < size) power *= 2;
  return power;
};

/** RFC 9162 §2.1.3.1. */
export function inclusionRecipe(index: number, size: number): Recipe {
  if (!(Number.isSafeInteger(index) && index >= 0 && index < size)) throw new RangeError(`a tree of size ${size} has no leaf ${index}`);
  const path = (from: number, to: number): Subtree[][] => {
    if (to - from === 1) return [];
    const middle = from + largestPowerBelow(to - from);
    return index < middle ? [...path(from, middle), coverOf(middle, to)] : [...path(middle, to), coverOf(from, middle)];
  };
  return path(0, size);
}

/** RFC 9162 §2.1.4.1. Empty where there is nothing to prove: from 0, and from a size to itself. */
export function consistencyRecipe(size1: number, size2: number): Recipe {
  if (!(Number.isSafeInteger(size1) && size1 >= 0 && size1 <= size2)) throw new RangeError(`a tree of size ${size2} had no size ${size1}`);
  if (size1 === 0 || size1 === size2) return [];
  const subproof = (from: number, to: number, isOld: boolean): Subtree[][] => {
    if (to === size1) return isOld ? [] : [coverOf(from, to)];
    const middle = from + largestPowerBelow(to - from);
    return size1 <= middle
      ? [...subproof(from, middle, isOld), coverOf(middle, to)]
      : [...subproof(middle, to, false), coverOf(from, middle)];
  };
  return subproof(0, size2, true);
}

/** Makes the hashes of a proof, given those of whole subtrees. */
export async function proofOf(sha256: Sha256, recipe: Recipe, subtree: (which: Subtree) => Promise<Uint8Array>): Promise<Uint8Array[]> {
  const proof: Uint8Array[] = [];
  for (const cover of recipe) {
    const hashes: Uint8Array[] = [];
    for (const which of cover) hashes.push(await subtree(which));
    proof.push(hashes.reduceRight((right, left) => hashChildren(sha256, left, right)));
  }
  return proof;
}
