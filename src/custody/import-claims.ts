import { type Clock, Fault, newId, OneAtATime, type Storage, type Unit } from '../foundation/index.js';
import { fulfil, intend } from '../storage/index.js';

/** What lets its holder store a key that comes from outside. */
export interface ImportClaim {
  /** Higher than that of every claim before it, whatever a clock said: by this the second place tells several lines about one key apart. Else it is when it was claimed. */
  since: number;
  /** In the unit that stores the key. Rejects with `import-under-way` where it was taken away meanwhile. */
  end(unit: Unit): Promise<void>;
}

/** In `settings`: the `since` of the last claim of all nodes. */
const LAST = 'custody.import-claim';

/**
 * One at a time brings a key here, of all nodes: who writes its line into the second place is who stores it, so of several lines the one claimed last says whose it is. A claim whose holder
 * died is taken away like any intent that nobody finishes; a holder that only slept finds it gone and stores nothing.
 */
export class ImportClaims {
  readonly #turns = new OneAtATime();
  /** Whose claims are this process's: what it left open itself, when its database was away, it takes up again. */
  readonly #by = newId();

  constructor(
    private readonly storage: Storage,
    private readonly clock: Clock,
  ) {}

  /** Rejects with `import-under-way` (503) while another node has this key. */
  run<T>(publicKey: string, act: (claim: ImportClaim) => Promise<T>): Promise<T> {
    return this.#turns.run(publicKey, async () => {
      const id = `take:${publicKey}`;
      const since = await this.storage.write((unit) => this.#begin(unit, id));
      let isOpen = true;
      const end = async (unit: Unit) => {
        const open = await this.#of(unit, id);
        if (open?.by !== this.#by) throw open ? underWay() : takenAway();
        await fulfil(unit, id);
        isOpen = false;
      };
      try {
        return await act({ since, end });
      } catch (error) {
        isOpen = true; // with the unit it was to end in
        throw error;
      } finally {
        // What cannot be taken away now is taken up with the next try, or by whoever looks for abandoned intents.
        if (isOpen) await this.storage.write((unit) => this.#leave(unit, id)).catch(() => undefined);
      }
    });
  }

  async #begin(unit: Unit, id: string): Promise<number> {
    const open = await this.#of(unit, id);
    if (open && open.by !== this.#by) throw underWay();
    if (open) await fulfil(unit, id);
    await intend(unit, id, 'take-key', { by: this.#by }, this.clock);
    const last = await unit.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [LAST]);
    const since = Math.max(this.clock.now().getTime(), Number(last?.value ?? 0) + 1);
    await unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
      LAST,
      String(since),
    ]);
    return since;
  }

  async #leave(unit: Unit, id: string): Promise<void> {
    if ((await this.#of(unit, id))?.by === this.#by) await fulfil(unit, id);
  }

  async #of(unit: Unit, id: string): Promise<{ by: string } | undefined> {
    const row = await unit.one<{ body: string }>('SELECT body FROM intents WHERE id = ?', [id]);
    return row && (JSON.parse(row.body) as { by: string }); // only this class writes these intents
  }
}

const underWay = (): Fault =>
  new Fault('unavailable', 'import-under-way', 'another node is just importing this key: ask again in a moment', 2);
const takenAway = (): Fault =>
  new Fault(
    'unavailable',
    'import-under-way',
    'this import took so long that it was taken for abandoned, and the key was not stored: is the second place slow? Ask again',
    2,
  );
