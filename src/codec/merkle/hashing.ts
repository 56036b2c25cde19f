/** SHA-256, synchronous. Comes in from outside: node:crypto on the server, `pureSha256` in a browser. */
export type Sha256 = (bytes: Uint8Array) => Uint8Array;

export const HASH_BYTES = 32;

/** RFC 9162 §2.1.1: SHA-256(0x00 ‖ entry). */
export function hashLeaf(sha256: Sha256, entry: Uint8Array): Uint8Array {
  const input = new Uint8Array(1 + entry.length);
  input.set(entry, 1);
  return sha256(input);
}

// One buffer for all: hashing is synchronous, so nobody sees it half filled.
const pair = new Uint8Array(1 + 2 * HASH_BYTES);
pair[0] = 1;

/** RFC 9162 §2.1.1: SHA-256(0x01 ‖ left ‖ right). */
export function hashChildren(sha256: Sha256, left: Uint8Array, right: Uint8Array): Uint8Array {
  pair.set(left, 1);
  pair.set(right, 1 + HASH_BYTES);
  return sha256(pair);
}

/** The head of a tree without entries (RFC 9162 §2.1.1). */
export const hashOfNothing = (sha256: Sha256): Uint8Array => sha256(new Uint8Array());

/** Hashes are public: this need not take the same time for all. */
export function sameHash(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, n) => byte === b[n]);
}

/** The one hash over a row of hashes that are neighbours of the same height, up to a power of two of them (RFC 9162 §2.1.1). */
export function hashOver(sha256: Sha256, hashes: readonly Uint8Array[]): Uint8Array {
  const [first, ...rest] = hashes;
  if (!first) return hashOfNothing(sha256);
  if (rest.length === 0) return first;
  let half = 1;
  while (half * 2 < hashes.length) half *= 2;
  return hashChildren(sha256, hashOver(sha256, hashes.slice(0, half)), hashOver(sha256, hashes.slice(half)));
}
