import {
  consistencyRecipe,
  encodeBundle,
  HASH_BYTES,
  hashOver,
  inclusionRecipe,
  proofOf,
  type Recipe,
  type Subtree,
  TILE_HEIGHT,
  TILE_WIDTH,
  type Tile,
} from '../codec/merkle/index.js';
import { Fault, type Reader } from '../foundation/index.js';
import { sha256 } from './log-tree.js';

/** Hashes above the lowest tiles that are remembered: of a log of eight million entries all of them, some 10 MB. */
const REMEMBERED = 65_536;

/** Tiles, entry bundles and proofs out of what is kept; `size` is that of the tree they are asked for. */
export class TileReader {
  readonly #upper = new Map<string, Uint8Array>();
  /** Of the last lowest tile, which is not full yet: nearly every proof needs some. */
  readonly #edge = new Map<string, Uint8Array>();

  constructor(private readonly reader: Reader) {}

  /** The hashes of a tile, or undefined where the tree has not come so far. */
  async tile({ level, index, width }: Tile): Promise<Buffer | undefined> {
    const full = await this.reader.one<{ hashes: Buffer }>('SELECT hashes FROM audit_tiles WHERE level = ? AND n = ?', [level, index]);
    if (full) return full.hashes.subarray(0, width * HASH_BYTES);
    if (width === TILE_WIDTH) return undefined;
    const from = index * TILE_WIDTH;
    const rows =
      level === 0
        ? await this.reader.all<{ hash: Buffer }>('SELECT leaf AS hash FROM audit_entries WHERE idx >= ? AND idx < ? ORDER BY idx', [
            from,
            from + width,
          ])
        : await this.reader.all<{ hash: Buffer }>('SELECT root AS hash FROM audit_tiles WHERE level = ? AND n >= ? AND n < ? ORDER BY n', [
            level - 1,
            from,
            from + width,
          ]);
    return rows.length === width ? Buffer.concat(rows.map(({ hash }) => hash)) : undefined;
  }

  /** Entries `index` × 256 on, as a bundle; undefined where they are not there (yet, or any more). */
  async bundle({ index, width }: Pick<Tile, 'index' | 'width'>): Promise<Uint8Array | undefined> {
    const from = index * TILE_WIDTH;
    const rows = await this.reader.all<{ body: string }>('SELECT body FROM audit_entries WHERE idx >= ? AND idx < ? ORDER BY idx', [
      from,
      from + width,
    ]);
    return rows.length === width ? encodeBundle(rows.map(({ body }) => Buffer.from(body))) : undefined;
  }

  inclusion(index: number, size: number): Promise<Buffer[]> {
    return this.#proof(inclusionRecipe(index, size), size);
  }

  consistency(from: number, size: number): Promise<Buffer[]> {
    return this.#proof(consistencyRecipe(from, size), size);
  }

  /** The log goes on from an earlier entry than was seen here: what is remembered may be of the lost ones. */
  forget(): void {
    this.#upper.clear();
    this.#edge.clear();
  }

  /** Every whole subtree of a tile, by height and index: they never change while the log is whole. */
  #remember(into: Map<string, Uint8Array>, { level, index }: Pick<Tile, 'level' | 'index'>, hashes: Buffer): void {
    let row: Uint8Array[] = Array.from({ length: hashes.length / HASH_BYTES }, (_, n) =>
      hashes.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES),
    );
    for (let height = 0; row.length > 0 && height < TILE_HEIGHT; height += 1) {
      const first = index * (TILE_WIDTH >> height);
      for (const [n, hash] of row.entries()) into.set(`${level * TILE_HEIGHT + height}/${first + n}`, Buffer.from(hash));
      row = Array.from({ length: Math.floor(row.length / 2) }, (_, n) => hashOver(sha256, row.slice(2 * n, 2 * n + 2)));
    }
  }

  async #proof(recipe: Recipe, size: number): Promise<Buffer[]> {
    const tiles = new Map<string, Promise<Buffer | undefined>>();
    const subtree = async ({ height, index }: Subtree): Promise<Uint8Array> => {
      const node = `${height}/${index}`;
      const known = this.#upper.get(node) ?? this.#edge.get(node);
      if (known) return known;
      const level = Math.floor(height / TILE_HEIGHT);
      const span = 2 ** (height % TILE_HEIGHT);
      const [tile, at] = [Math.floor((index * span) / TILE_WIDTH), (index * span) % TILE_WIDTH];
      const width = Math.min(TILE_WIDTH, Math.floor(size / TILE_WIDTH ** level) - tile * TILE_WIDTH);
      const name = `${level}/${tile}`;
      const reading = tiles.get(name) ?? this.tile({ level, index: tile, width });
      tiles.set(name, reading);
      const hashes = await reading;
      if (!hashes) throw new Fault('unavailable', 'audit-unavailable', `tile ${name} of the log is missing`, 2);
      if (level > 0) {
        if (this.#upper.size >= REMEMBERED) this.#upper.clear();
        this.#remember(this.#upper, { level, index: tile }, hashes);
      } else if (width < TILE_WIDTH) {
        this.#edge.clear();
        this.#remember(this.#edge, { level, index: tile }, hashes);
      }
      return (
        this.#upper.get(node) ??
        this.#edge.get(node) ??
        hashOver(
          sha256,
          Array.from({ length: span }, (_, n) => hashes.subarray((at + n) * HASH_BYTES, (at + n + 1) * HASH_BYTES)),
        )
      );
    };
    return (await proofOf(sha256, recipe, subtree)).map((each) => Buffer.from(each));
  }
}
