import type { Clock, Storage } from '../foundation/index.js';

/** Milliseconds between two signs of life, and after which somebody who gave none is gone. */
const BEAT = 5_000;
const GONE = 30_000;

/**
 * Which processes serve from this database. Each says so by a row; one that was killed is known by its silence. Whoever starts must know whether others are up: what
 * looks cut in half may be what they are doing just now.
 */
export class Nodes {
  #timer: NodeJS.Timeout | undefined;

  /** @param name the same at each start of this node: of two with one name each would take the other for its own past */
  constructor(
    private readonly storage: Storage,
    private readonly clock: Clock,
    private readonly name: string,
  ) {}

  /** Resolves with whether no other is up. */
  async join(): Promise<boolean> {
    const others = await this.storage.write(async (unit) => {
      const now = this.clock.now().getTime();
      await unit.run('DELETE FROM nodes WHERE seen < ?', [now - GONE]);
      await unit.run('INSERT INTO nodes (name, seen) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET seen = excluded.seen', [
        this.name,
        now,
      ]);
      return unit.all('SELECT name FROM nodes WHERE name <> ?', [this.name]);
    });
    // A beat that the database did not take is followed by the next one.
    this.#timer = setInterval(() => void this.#beat().catch(() => undefined), BEAT);
    return others.length === 0;
  }

  async leave(): Promise<void> {
    clearInterval(this.#timer);
    await this.storage.write((unit) => unit.run('DELETE FROM nodes WHERE name = ?', [this.name])).catch(() => undefined);
  }

  async #beat(): Promise<void> {
    await this.storage.write((unit) =>
      unit.run('INSERT INTO nodes (name, seen) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET seen = excluded.seen', [
        this.name,
        this.clock.now().getTime(),
      ]),
    );
  }
}
