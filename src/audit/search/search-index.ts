import { setImmediate as turn } from 'node:timers/promises';
import { Fault, isFault, type Storage } from '../../foundation/index.js';
import { AuditReader } from '../audit-reader.js';
import { Cursors } from '../cursors.js';
import { termsOf } from './terms.js';

const NAME = 'search';
/** Entries in one unit of work: some 10 ms of the writer's time. */
const STEP = 512;
/** Rows of one statement. */
const TOGETHER = 128;
const PLACES = Array.from({ length: TOGETHER }, () => '(?, ?)').join(', ');
/** Milliseconds between looks. */
const EVERY = 1_000;

/**
 * Terms of entries, kept behind the log: an entry's own commit pays for no index but its place, and what was not looked at yet is short and is
 * read itself by whoever searches. Some seconds behind under load; whole again whenever it was cut off.
 */
export class SearchIndex {
  readonly #reader: AuditReader;
  readonly #cursors: Cursors;
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> = Promise.resolve();
  #stopping = false;

  constructor(private readonly storage: Storage) {
    this.#reader = new AuditReader(storage);
    this.#cursors = new Cursors(storage);
  }

  /** @param failed hears of what is no outage */
  begin(failed: (error: unknown) => void): void {
    this.#timer = setInterval(
      () =>
        void this.catchUp().catch((error: unknown) => {
          if (!isFault(error)) failed(error);
        }),
      EVERY,
    );
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping = true;
    await this.#working;
  }

  /** Index of the first entry that is not in here. */
  next(): Promise<number> {
    return this.#cursors.next(NAME);
  }

  /** Takes in all there is now. One after the other; where another node was quicker, from there. */
  catchUp(): Promise<void> {
    const next = this.#working.then(() => this.#catchUp());
    this.#working = next.catch(() => undefined);
    return next;
  }

  async #catchUp(): Promise<void> {
    while (!this.#stopping) {
      const taken = await this.#step().catch((error: unknown) => {
        if (!isFault(error, 'search-moved')) throw error;
        return STEP;
      });
      if (taken < STEP) return;
      await turn();
    }
  }

  async #step(): Promise<number> {
    const from = await this.next();
    const entries = await this.#reader.page(from, STEP);
    const last = entries.at(-1);
    if (!last) return 0;
    await this.storage.write(async (unit) => {
      if (!(await this.#cursors.move(unit, NAME, from, last.index + 1)))
        throw new Fault('conflict', 'search-moved', 'another node took these entries in');
      const rows = entries.flatMap((entry) => termsOf(entry).map((term) => [term, entry.index] as const));
      for (let at = 0; at < rows.length; at += TOGETHER) {
        // Always as many places, so that the statement is prepared once: what is left over says the last row again.
        const some = Array.from({ length: TOGETHER }, (_, n) => rows[at + n] ?? rows.at(-1) ?? []);
        await unit.run(`INSERT INTO audit_terms (term, idx) VALUES ${PLACES} ON CONFLICT (term, idx) DO NOTHING`, some.flat());
      }
    });
    return entries.length;
  }
}
