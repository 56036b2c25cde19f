import type { Storage } from '../foundation/index.js';
import type { ReadyPool } from '../keys/index.js';
import type { KeyIssuance } from './key-issuance.js';

/** Keys and certificates for people whom the directory has announced, before their first day and before their first device. */
export class PremadeKeys {
  #round: Promise<void> = Promise.resolve();

  constructor(
    private readonly storage: Storage,
    private readonly issuance: KeyIssuance,
    private readonly pool: ReadyPool,
  ) {}

  /** Gives keys while more than half of the pool remains: whoever enrols today is never kept waiting by those who come tomorrow. */
  async serve(): Promise<void> {
    this.#round = this.#round.then(
      () => this.#serve(),
      () => this.#serve(),
    );
    await this.#round;
  }

  async #serve(): Promise<void> {
    while ((await this.pool.level()) > this.pool.settings.target / 2) {
      const next = await this.storage.one<{ id: string }>(
        `SELECT e.id FROM employees e WHERE e.directory_id IS NOT NULL AND e.state = 'active'
         AND EXISTS (SELECT 1 FROM bindings b WHERE b.employee = e.id AND b.to_time IS NULL)
         AND NOT EXISTS (SELECT 1 FROM keys k WHERE k.employee = e.id AND k.origin IS NULL) AND NOT EXISTS (SELECT 1 FROM intents i WHERE i.id = 'key:' || e.id) LIMIT 1`,
      );
      if (!next) return;
      await this.storage.write((unit) => this.issuance.wait(unit, next.id));
      await this.issuance.serveWaiting();
    }
  }
}
