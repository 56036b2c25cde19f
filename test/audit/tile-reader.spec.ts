import { randomBytes } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { sha256 } from '../../src/audit/log-tree.js';
import { TileReader } from '../../src/audit/tile-reader.js';
import { Frontier, HASH_BYTES, hashOver, TILE_WIDTH, verifyConsistency, verifyInclusion } from '../../src/codec/merkle/index.js';
import type { Reader, SqlValue } from '../../src/foundation/index.js';
import { dice } from '../faults/dice.js';

const SIZE = 2 * 65_536 + 3 * 256 + 77;

/** A log of three levels of tiles, as the tables hold it; counts what is read of it. */
class Tiles implements Reader {
  reads = 0;
  readonly leaves: Buffer[] = Array.from({ length: SIZE }, () => randomBytes(HASH_BYTES));
  readonly #levels: Buffer[][] = [this.leaves];

  constructor() {
    for (let below = this.leaves; below.length >= TILE_WIDTH; ) {
      const roots: Buffer[] = [];
      for (let at = 0; at + TILE_WIDTH <= below.length; at += TILE_WIDTH)
        roots.push(Buffer.from(hashOver(sha256, below.slice(at, at + TILE_WIDTH))));
      this.#levels.push(roots);
      below = roots;
    }
  }

  async all<T extends object>(sql: string, [first = 0, second = 0, third = 0]: readonly SqlValue[] = []): Promise<T[]> {
    this.reads += 1;
    const [level, from, to] = sql.includes('audit_entries') ? [0, first, second] : [Number(first) + 1, second, third];
    return (this.#levels[level] ?? []).slice(Number(from), Number(to)).map((hash) => ({ hash })) as unknown as T[]; // its two callers ask for that
  }

  async one<T extends object>(_sql: string, [level = 0, n = 0]: readonly SqlValue[] = []): Promise<T | undefined> {
    this.reads += 1;
    const from = Number(n) * TILE_WIDTH;
    const hashes = (this.#levels[Number(level)] ?? []).slice(from, from + TILE_WIDTH);
    return hashes.length === TILE_WIDTH ? ({ hashes: Buffer.concat(hashes) } as unknown as T) : undefined; // as above
  }
}

test('proofs of a log of a hundred thousand entries hold, and after the first ones read a tile or two each', async () => {
  const tiles = new Tiles();
  const reader = new TileReader(tiles);
  const roll = dice(11);
  const heads = [0, 1, 2, 3].map(() => SIZE - roll(SIZE / 2)).concat(SIZE, 65_536, 2 * 65_536);
  const roots = new Map<number, Uint8Array>();
  const frontier = new Frontier(sha256);
  for (const [n, leaf] of tiles.leaves.entries()) {
    frontier.append(leaf);
    if (heads.includes(n + 1)) roots.set(n + 1, frontier.root());
  }
  for (const size of heads) {
    const head = { size, root: roots.get(size) ?? new Uint8Array() };
    for (let n = 0; n < 30; n += 1) {
      const index = roll(size);
      const leaf = tiles.leaves[index] ?? new Uint8Array();
      expect(verifyInclusion(sha256, index, leaf, head, await reader.inclusion(index, size))).toBe(true);
    }
    for (const before of heads.filter((other) => other < size)) {
      const proof = await reader.consistency(before, size);
      expect(verifyConsistency(sha256, { size: before, root: roots.get(before) ?? new Uint8Array() }, head, proof)).toBe(true);
    }
  }
  tiles.reads = 0;
  for (let n = 0; n < 100; n += 1) await reader.inclusion(roll(SIZE), SIZE);
  expect(tiles.reads / 100).toBeLessThan(4);

  // A log that lost its end and goes on otherwise, as persons have accepted it.
  const end = SIZE - 40;
  for (let n = end; n < SIZE; n += 1) tiles.leaves[n] = randomBytes(HASH_BYTES);
  const other = new Frontier(sha256);
  for (const leaf of tiles.leaves) other.append(leaf);
  const holds = async () =>
    verifyInclusion(
      sha256,
      end,
      tiles.leaves[end] ?? new Uint8Array(),
      { size: SIZE, root: other.root() },
      await reader.inclusion(end, SIZE),
    );
  expect(await holds()).toBe(false);
  reader.forget();
  expect(await holds()).toBe(true);
});
