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
  if (a.length !== b.length) return false;
  for (let n = 0; n < a.length; n += 1) if (a[n] !== b[n]) return false;
  return true;
}

/** The one hash over a row of hashes that are neighbours of the same height, up to a power of two of them (RFC 9162 §2.1.1). */
export function hashOver(sha256: Sha256, hashes: readonly Uint8Array[]): Uint8Array {
  const level = [...hashes];
  // Two by two from the left, an odd last one goes up as it is: the same tree as splitting at the largest power of two.
  for (let count = level.length; count > 1; count = Math.ceil(count / 2))
    for (let n = 0; n < count; n += 2) {
      const [left, right] = [level[n], n + 1 < count ? level[n + 1] : undefined];
      if (left) level[n / 2] = right ? hashChildren(sha256, left, right) : left;
    }
  return level[0] ?? hashOfNothing(sha256);
}
