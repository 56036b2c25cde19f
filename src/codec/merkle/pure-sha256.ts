import type { Sha256 } from './hashing.js';

const primes = (count: number): number[] => {
  const found: number[] = [];
  for (let n = 2; found.length < count; n += 1) if (found.every((prime) => n % prime !== 0)) found.push(n);
  return found;
};
/** The first 32 bits of the fractional part. */
const fraction = (x: number): number => ((x - Math.floor(x)) * 2 ** 32) | 0;
const K = Int32Array.from(primes(64), (prime) => fraction(Math.cbrt(prime)));
const H = Int32Array.from(primes(8), (prime) => fraction(Math.sqrt(prime)));
const turn = (x: number, by: number): number => (x >>> by) | (x << (32 - by));

/** FIPS 180-4 §6.2 without any library: WebCrypto's digest is asynchronous, which would cost a turn of the loop for each node of the tree. */
export const pureSha256: Sha256 = (bytes) => {
  const blocks = Math.ceil((bytes.length + 9) / 64);
  const padded = new DataView(new ArrayBuffer(blocks * 64));
  new Uint8Array(padded.buffer).set(bytes);
  padded.setUint8(bytes.length, 0x80);
  padded.setBigUint64(blocks * 64 - 8, BigInt(bytes.length) * 8n);
  const hash = Int32Array.from(H);
  const w = new Int32Array(64);
  const word = (n: number): number => w[n] ?? 0;
  for (let block = 0; block < blocks; block += 1) {
    for (let t = 0; t < 16; t += 1) w[t] = padded.getInt32(block * 64 + t * 4);
    for (let t = 16; t < 64; t += 1) {
      const [early, late] = [word(t - 15), word(t - 2)];
      const s0 = turn(early, 7) ^ turn(early, 18) ^ (early >>> 3);
      const s1 = turn(late, 17) ^ turn(late, 19) ^ (late >>> 10);
      w[t] = (word(t - 16) + s0 + word(t - 7) + s1) | 0;
    }
    let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = hash;
    for (let t = 0; t < 64; t += 1) {
      const big1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
      const t1 = (h + big1 + ((e & f) ^ (~e & g)) + (K[t] ?? 0) + word(t)) | 0;
      const big0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
      const t2 = (big0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    for (const [n, x] of [a, b, c, d, e, f, g, h].entries()) hash[n] = ((hash[n] ?? 0) + x) | 0;
  }
  const out = new DataView(new ArrayBuffer(32));
  for (const [n, x] of hash.entries()) out.setInt32(n * 4, x);
  return new Uint8Array(out.buffer);
};
