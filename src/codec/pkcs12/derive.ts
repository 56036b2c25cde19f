import { hash as digest } from 'node:crypto';

/** What the derived bytes are for (RFC 7292 §B.3). */
export const PURPOSE = { key: 1, iv: 2, mac: 3 } as const;

/** Hashes of RFC 7292 §B.2 by the length of their blocks in octets. */
const BLOCK = { sha1: 64, sha224: 64, sha256: 64, sha384: 128, sha512: 128 } as const;
export type DerivationHash = keyof typeof BLOCK;

/** PKCS#12 key derivation (RFC 7292 §B.2). `onSum` sees each sum of step 6C. @param phrase null: none at all, which is not the empty one */
export function derive(
  hash: DerivationHash,
  phrase: string | null,
  salt: Buffer,
  iterations: number,
  purpose: number,
  length: number,
  onSum: (sum: Buffer) => void = () => {},
): Buffer {
  const block = BLOCK[hash];
  // §B.1: UTF-16 big endian, closed by two zero octets.
  const secret = phrase === null ? Buffer.alloc(0) : Buffer.from(`${phrase}\0`, 'utf16le').swap16();
  const input = Buffer.concat([repeated(salt, block), repeated(secret, block)]);
  const pieces: Buffer[] = [];
  for (let made = 0; made < length; ) {
    let a = digest(hash, Buffer.concat([Buffer.alloc(block, purpose), input]), 'buffer');
    for (let round = 1; round < iterations; round++) a = digest(hash, a, 'buffer');
    pieces.push(a);
    made += a.length;
    if (made >= length) break;
    for (let at = 0; at < input.length; at += block) {
      const sum = input.subarray(at, at + block);
      addInPlace(sum, repeated(a, block));
      onSum(sum);
    }
  }
  return Buffer.concat(pieces).subarray(0, length);
}

/** As often as it takes to fill a multiple of `block`. */
const repeated = (bytes: Buffer, block: number): Buffer => Buffer.alloc(Math.ceil(bytes.length / block) * block, bytes);

/** target = target + addend + 1, modulo 2^(8·length). */
function addInPlace(target: Buffer, addend: Buffer): void {
  let carry = 1;
  for (let at = target.length - 1; at >= 0; at--) {
    carry += (target[at] ?? 0) + (addend[at] ?? 0);
    target[at] = carry & 0xff;
    carry >>= 8;
  }
}
