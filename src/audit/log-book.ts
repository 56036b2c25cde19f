import { TILE_WIDTH, type Tile } from '../codec/merkle/index.js';
import { type AuditActor, type AuditLog, Fault, type Storage } from '../foundation/index.js';
import type { LogTree } from './log-tree.js';
import { prunedUntil } from './pruning.js';
import { TileReader } from './tile-reader.js';

/** Who reads, for the entry that says so. */
export interface ReadingBy {
  actor: AuditActor;
  request?: { id: string; network: string };
}

/** The log as others may read it: its checkpoint, its tiles, and for auditors its entries. */
export class LogBook {
  readonly tiles: TileReader;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly tree: LogTree,
    /** `Token.auditSuccessions` */
    private readonly notes: () => Promise<string[]> = async () => [],
  ) {
    this.tiles = new TileReader(storage);
  }

  /** The last signed note. Throws `checkpoint-missing`. */
  async checkpoint(): Promise<string> {
    const { note } = await this.tree.state();
    if (note === null) throw new Fault('not-found', 'checkpoint-missing', 'nothing of this log has been signed yet');
    return note;
  }

  /** Former checkpoints that were kept, oldest first. */
  async formerCheckpoints(): Promise<{ size: number; note: string }[]> {
    const { note } = await this.tree.state();
    const name = note?.slice(0, note.indexOf('\n') + 1) ?? '';
    // Those of a former name are another log's.
    return (await this.storage.all<{ size: number; note: string }>('SELECT size, note FROM audit_checkpoints ORDER BY size')).filter(
      (one) => one.note.startsWith(name),
    );
  }

  /** What both keys signed each time that one took over from another, oldest first. */
  async successions(): Promise<string[]> {
    const { note } = await this.tree.state();
    const name = note?.slice(0, note.indexOf('\n') + 1) ?? '';
    return (await this.notes()).filter((one) => one.startsWith(name));
  }

  /** Throws `tile-unknown` for what no checkpoint covers yet. */
  async tile(tile: Tile): Promise<Buffer> {
    await this.#requireSigned(tile);
    return (await this.tiles.tile(tile)) ?? missing();
  }

  async bundle(bundle: Pick<Tile, 'index' | 'width'>, by: ReadingBy): Promise<Uint8Array> {
    await this.#requireSigned({ level: 0, ...bundle });
    if (bundle.index * TILE_WIDTH < (await prunedUntil(this.storage)))
      throw new Fault('not-found', 'entries-pruned', 'these entries were pruned; their hashes are there');
    const bytes = (await this.tiles.bundle(bundle)) ?? missing();
    await this.storage.write((unit) =>
      this.audit.append(unit, {
        action: 'audit.read',
        outcome: 'done',
        actor: by.actor,
        ...(by.request ? { request: by.request.id, personal: { network: by.request.network } } : {}),
        facts: { from: bundle.index * TILE_WIDTH, count: bundle.width },
      }),
    );
    return bytes;
  }

  async #requireSigned({ level, index, width }: Tile): Promise<void> {
    const { signed } = await this.tree.state();
    if (index * TILE_WIDTH + width > Math.floor(signed / TILE_WIDTH ** level)) missing();
  }
}

function missing(): never {
  throw new Fault('not-found', 'tile-unknown', 'the log has no such tile');
}
