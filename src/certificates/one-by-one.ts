import { isFault } from '../foundation/index.js';

/** Of what is unavailable, this may be so for one row alone; the token or the database away is so for everybody. */
const ONES_OWN: ReadonlySet<string> = new Set(['pool-empty', 'token-defect', 'token-refused']);

/** Whether the next one is worth trying after this. */
export const isOnesOwn = (error: unknown): boolean => !isFault(error) || error.kind !== 'unavailable' || ONES_OWN.has(error.code);

/** Acts for many people: what fails for one keeps none of the others waiting and is thrown at the end; what would fail for all ends it at once. */
export class OneByOne {
  readonly #failed: unknown[] = [];

  async try(act: () => Promise<unknown>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!isOnesOwn(error)) throw error;
      this.#failed.push(error);
    }
  }

  /** Throws the first thing that failed, if something did. */
  end(): void {
    if (this.#failed.length > 0) throw this.#failed[0];
  }
}
