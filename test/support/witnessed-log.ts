import { createHash, generateKeyPairSync, sign } from 'node:crypto';

export const sha256 = (...parts: Buffer[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();
export const leavesOf = (kind: string, count: number) =>
  Array.from({ length: count }, (_, n) => sha256(Buffer.of(0), Buffer.from(`${kind} ${n}`)));
/** RFC 9162 §2.1.1 and §2.1.4.1, word for word. */
const split = (n: number) => 2 ** Math.floor(Math.log2(n - 1));
export const root = (leaves: Buffer[]): Buffer =>
  leaves.length === 1
    ? (leaves[0] as Buffer) // one
    : sha256(Buffer.of(1), root(leaves.slice(0, split(leaves.length))), root(leaves.slice(split(leaves.length))));
export function subproof(m: number, leaves: Buffer[], isWhole: boolean): Buffer[] {
  if (m === leaves.length) return isWhole ? [] : [root(leaves)];
  const k = split(leaves.length);
  return m <= k
    ? [...subproof(m, leaves.slice(0, k), isWhole), root(leaves.slice(k))]
    : [...subproof(m - k, leaves.slice(k), false), root(leaves.slice(0, k))];
}

/** Another's log: its key, and requests to cosign its heads as https://c2sp.org/tlog-witness writes them. */
export class WitnessedLog {
  constructor(
    readonly origin: string,
    readonly pair = generateKeyPairSync('ed25519'),
  ) {}

  get raw(): Buffer {
    return this.pair.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  }

  get key(): string {
    return `${this.origin}+${this.#id(this.origin).toString('hex')}+${Buffer.concat([Buffer.of(1), this.raw]).toString('base64')}`;
  }

  #id(origin: string): Buffer {
    return sha256(Buffer.from(`${origin}\n`), Buffer.of(1), this.raw).subarray(0, 4);
  }

  text(leaves: Buffer[], more = ''): string {
    return `${this.origin}\n${leaves.length}\n${root(leaves).toString('base64')}\n${more}`;
  }

  ask(
    old: number,
    leaves: Buffer[],
    { by = this as WitnessedLog, proof = old === 0 ? [] : subproof(old, leaves, true), more = '' } = {},
  ): string {
    const text = this.text(leaves, more);
    const signature = Buffer.concat([this.#id(this.origin), sign(null, Buffer.from(text), by.pair.privateKey)]);
    const stranger = `— other.example/w ${Buffer.alloc(76).toString('base64')}\n`;
    return `old ${old}\n${proof.map((hash) => `${hash.toString('base64')}\n`).join('')}\n${text}\n${stranger}— ${this.origin} ${signature.toString('base64')}\n`;
  }
}
