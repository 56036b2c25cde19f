import { HASH_BYTES, hashChildren, type Sha256, sameHash } from './hashing.js';

export interface TreeHead {
  size: number;
  root: Uint8Array;
}

const isSize = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;
const areHashes = (hashes: readonly Uint8Array[]): boolean => hashes.every(({ length }) => length === HASH_BYTES);

/** RFC 9162 §2.1.3.2: whether the leaf hash stands at `index` in the tree of this head. */
export function verifyInclusion(sha256: Sha256, index: number, leaf: Uint8Array, head: TreeHead, proof: readonly Uint8Array[]): boolean {
  if (!isSize(index) || !isSize(head.size) || index >= head.size || !areHashes([leaf, head.root, ...proof])) return false;
  let [fn, sn] = [index, head.size - 1];
  let r = leaf;
  for (const p of proof) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      r = hashChildren(sha256, p, r);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [fn / 2, Math.floor(sn / 2)];
    } else r = hashChildren(sha256, r, p);
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && sameHash(r, head.root);
}

/** RFC 9162 §2.1.4.2: whether the tree of `later` begins with all that the tree of `earlier` holds. Of an empty tree nothing needs proof. */
export function verifyConsistency(sha256: Sha256, earlier: TreeHead, later: TreeHead, proof: readonly Uint8Array[]): boolean {
  if (!isSize(earlier.size) || !isSize(later.size) || earlier.size > later.size) return false;
  if (!areHashes([later.root, ...proof])) return false;
  if (earlier.size === later.size) return proof.length === 0 && sameHash(earlier.root, later.root);
  if (earlier.size === 0) return proof.length === 0;
  if (!areHashes([earlier.root]) || proof.length === 0) return false;
  const isWhole = Number.isInteger(Math.log2(earlier.size)) && 2 ** Math.log2(earlier.size) === earlier.size;
  const [first, ...path] = isWhole ? [earlier.root, ...proof] : proof;
  if (!first) return false;
  let [fn, sn] = [earlier.size - 1, later.size - 1];
  while (fn % 2 === 1) [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  let [fr, sr] = [first, first];
  for (const c of path) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      fr = hashChildren(sha256, c, fr);
      sr = hashChildren(sha256, c, sr);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [fn / 2, Math.floor(sn / 2)];
    } else sr = hashChildren(sha256, sr, c);
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && sameHash(fr, earlier.root) && sameHash(sr, later.root);
}
