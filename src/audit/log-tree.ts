import { hash } from 'node:crypto';
import { Frontier, hashOver, type Sha256, TILE_WIDTH, type TreeHead } from '../codec/merkle/index.js';
import { Fault, type Reader, type Storage, type Unit } from '../foundation/index.js';
import { AuditReader } from './audit-reader.js';

export const sha256: Sha256 = (bytes) => hash('sha256', bytes, 'buffer');

/** The tree as it is kept: as far as it has grown, and the last checkpoint. */
export interface TreeState extends TreeHead {
  root: Buffer;
  frontier: Buffer;
  /** Rises with every step, so that a step made from an older state finds that it is one. */
  fence: number;
  note: string | null;
  /** Entries that `note` covers. */
  signed: number;
  /** Milliseconds since 1970. */
  signed_at: number;
}

/** Leaves per unit of work: about 10 ms of the writer's time. */
const STEP = 4_096;
/** A former checkpoint is kept where so many entries, or so much time (ms), lie between. */
const KEEP = { entries: TILE_WIDTH, time: 3_600_000 } as const;

/**
 * The Merkle tree over the log. Entries get their index and leaf hash with the act that they tell of; the tree follows in steps of many leaves,
 * before each checkpoint. Its right edge and full tiles are rows: nothing is hashed twice, and a start hashes nothing.
 */
export class LogTree {
  constructor(private readonly storage: Storage) {}

  async state(reader: Reader = this.storage): Promise<TreeState> {
    const row = await reader.one<TreeState>('SELECT size, root, frontier, fence, note, signed, signed_at FROM audit_tree WHERE id = 1');
    if (!row) throw new Fault('unavailable', 'audit-unavailable', 'the row of the log’s tree is missing', 2);
    return row;
  }

  /** Takes in all entries there are now. Rejects with `audit-holed` where some are not there. */
  async grow(): Promise<TreeState> {
    for (;;) {
      // In this order: the log has at least what the tree covered a moment before.
      const state = await this.state();
      const size = await new AuditReader(this.storage).size();
      if (state.size > size) throw holed(`it has ${size} entries, and ${state.size} were covered`);
      if (state.size === size) return state;
      await this.storage.write((unit) => this.#step(unit));
    }
  }

  /** Keeps a checkpoint that the token signed. One that is older than the last is dropped. */
  async keep(note: string, size: number, time: number): Promise<void> {
    await this.storage.write(async (unit) => {
      const stored = await unit.run(
        'UPDATE audit_tree SET note = ?, signed = ?, signed_at = ?, fence = fence + 1 WHERE id = 1 AND signed <= ? AND size >= ?',
        [note, size, time, size, size],
      );
      if (stored === 0) return;
      const last = await unit.one<{ size: number; signed_at: number }>(
        'SELECT size, signed_at FROM audit_checkpoints ORDER BY size DESC LIMIT 1',
      );
      if (last && size - last.size < KEEP.entries && time - last.signed_at < KEEP.time) return;
      await unit.run('INSERT INTO audit_checkpoints (size, signed_at, note) VALUES (?, ?, ?) ON CONFLICT (size) DO NOTHING', [
        size,
        time,
        note,
      ]);
    });
  }

  async #step(unit: Unit): Promise<void> {
    const before = await this.state(unit);
    const after = Math.min(await new AuditReader(unit).size(), before.size + STEP);
    if (after <= before.size) return; // another node was quicker
    // From the beginning of the tile that is under way, so that it can be written whole.
    const from = before.size - (before.size % TILE_WIDTH);
    const rows = await unit.all<{ leaf: Buffer }>('SELECT leaf FROM audit_entries WHERE idx >= ? AND idx < ? ORDER BY idx', [from, after]);
    if (rows.length !== after - from) throw holed(`between ${from} and ${after} some are not there`);
    const leaves = rows.map(({ leaf }) => leaf);
    const frontier = new Frontier(sha256, before.size, before.frontier);
    for (const leaf of leaves.slice(before.size - from)) frontier.append(leaf);
    for (let at = 0; at + TILE_WIDTH <= leaves.length; at += TILE_WIDTH)
      await keepTile(unit, 0, (from + at) / TILE_WIDTH, leaves.slice(at, at + TILE_WIDTH));
    const stored = await unit.run(
      'UPDATE audit_tree SET size = ?, root = ?, frontier = ?, fence = fence + 1 WHERE id = 1 AND size = ? AND root = ? AND fence = ?',
      [after, frontier.root(), frontier.state, before.size, before.root, before.fence],
    );
    if (stored === 0) throw new Fault('unavailable', 'audit-unavailable', 'the log’s tree was changed at the same time', 1);
  }
}

const holed = (why: string): Fault => new Fault('unavailable', 'audit-holed', `entries are gone from the log: ${why}`);

/** A full tile, and where it completes one above, that one too. */
async function keepTile(unit: Unit, level: number, n: number, hashes: readonly Uint8Array[]): Promise<void> {
  const root = hashOver(sha256, hashes);
  await unit.run('INSERT INTO audit_tiles (level, n, root, hashes) VALUES (?, ?, ?, ?)', [level, n, root, Buffer.concat(hashes)]);
  if ((n + 1) % TILE_WIDTH > 0) return;
  const below = await unit.all<{ root: Buffer }>('SELECT root FROM audit_tiles WHERE level = ? AND n > ? AND n <= ? ORDER BY n', [
    level,
    n - TILE_WIDTH,
    n,
  ]);
  if (below.length !== TILE_WIDTH) throw new Fault('unavailable', 'audit-unavailable', `tiles of level ${level} before ${n} are missing`);
  await keepTile(
    unit,
    level + 1,
    (n + 1) / TILE_WIDTH - 1,
    below.map((row) => row.root),
  );
}
