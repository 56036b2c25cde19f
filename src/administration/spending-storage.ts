import { AsyncLocalStorage } from 'node:async_hooks';
import { type Row, type SqlValue, Storage, type Unit } from '../foundation/index.js';

interface Performance {
  spend: (unit: Unit) => Promise<void>;
  /** The spending is on disk, or the act has ended. */
  over: boolean;
}

/**
 * The house's storage. An act that runs inside `performing` spends its approval in the very unit in which it first changes anything: both are
 * on disk, or neither. So a crash before leaves an approved request and nothing done; after it, a spent one, and what the act itself had
 * begun is finished or undone by its own intents. The act knows nothing of this.
 */
export class SpendingStorage extends Storage {
  readonly #performing = new AsyncLocalStorage<Performance>();

  constructor(private readonly inner: Storage) {
    super();
  }

  override all<T extends object = Row>(sql: string, parameters?: readonly SqlValue[]): Promise<T[]> {
    return this.inner.all<T>(sql, parameters);
  }

  override one<T extends object = Row>(sql: string, parameters?: readonly SqlValue[]): Promise<T | undefined> {
    return this.inner.one<T>(sql, parameters);
  }

  override async write<T>(work: (unit: Unit) => Promise<T>): Promise<T> {
    const performance = this.#performing.getStore();
    if (!performance || performance.over) return this.inner.write(work);
    const value = await this.inner.write(async (unit) => {
      await performance.spend(unit);
      return work(unit);
    });
    performance.over = true;
    return value;
  }

  /** @param spend runs in the act's first unit, and again in another that was under way with it; rejects where the approval was spent by somebody else */
  async performing<T>(spend: (unit: Unit) => Promise<void>, act: () => Promise<T>): Promise<T> {
    const performance: Performance = { spend, over: false };
    try {
      return await this.#performing.run(performance, async () => {
        const value = await act();
        // An act that only reads spends its approval all the same.
        if (!performance.over) await this.write(async () => undefined);
        return value;
      });
    } finally {
      // Whatever the act left running must not spend anything later.
      performance.over = true;
    }
  }
}
