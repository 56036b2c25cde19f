import { setImmediate as turn } from 'node:timers/promises';
import { Fault, isFault, OneAtATime, type Storage, type Unit } from '../../foundation/index.js';
import { AuditReader } from '../audit-reader.js';
import { type Gathered, gather } from './gathering.js';
import { indexState } from './postings.js';

/** Entries that may wait: fewer are read by whoever searches, and nobody is woken for them. */
const FEW = 512;
/** Rows of one statement. */
const TOGETHER = 32;
/** Milliseconds between looks. */
const EVERY = 1_000;
/** Looks that are left out after one that failed: what is wrong will be so for a while. */
const REST = 30;

/** Gathers terms beside the service. `SearchThread` is the real one. */
export interface Gatherer {
  gather(): Promise<Gathered | undefined>;
  stop(): Promise<void>;
}

/**
 * Terms of entries, kept behind the log: an entry's own commit pays for no index, and what was not taken in yet is short and is read itself by whoever
 * searches. Reading entries and making their terms is a thread's work; the log's one writer adds the rows that come of it, in a unit that moves the
 * index on from exactly where they were gathered, so it is whole wherever it was cut off and whichever node was quicker.
 */
export class SearchIndex {
  readonly #reader: AuditReader;
  #timer: NodeJS.Timeout | undefined;
  readonly #turns = new OneAtATime();
  #stopping = false;

  /** @param thread where much is gathered; without it, here */
  constructor(
    private readonly storage: Storage,
    private readonly thread?: Gatherer,
  ) {
    this.#reader = new AuditReader(storage);
  }

  /** @param failed hears of what is no outage */
  begin(failed: (error: unknown) => void): void {
    let isLooking = false;
    let rest = 0;
    const look = async () => {
      if (rest > 0) rest -= 1;
      else if ((await this.#behind()) >= FEW) await this.catchUp();
    };
    this.#timer = setInterval(() => {
      if (isLooking) return;
      isLooking = true;
      look()
        .catch((error: unknown) => {
          rest = REST;
          if (!isFault(error)) failed(error);
        })
        .finally(() => {
          isLooking = false;
        });
    }, EVERY);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping = true;
    await this.#turns.run('catch-up', async () => undefined); // whoever is at it ends
    await this.thread?.stop();
  }

  /** Index of the first entry that is not in here. */
  async next(): Promise<number> {
    return (await indexState(this.storage)).next;
  }

  /** Takes in what there is now; what comes meanwhile is the next one's. One after the other; where another node was quicker, from there. */
  catchUp(): Promise<void> {
    return this.#turns.run('catch-up', () => this.#catchUp());
  }

  async #behind(): Promise<number> {
    return (await this.#reader.size()) - (await this.next());
  }

  async #catchUp(): Promise<void> {
    const end = await this.#reader.size();
    while (!this.#stopping) {
      const behind = end - (await this.next());
      if (behind <= 0) return;
      const gathered = await (this.thread && behind >= FEW ? this.thread.gather() : gather(this.storage));
      if (!gathered) return;
      await this.storage
        .write((unit) => keep(unit, gathered))
        .catch((error: unknown) => {
          if (!isFault(error, 'search-moved')) throw error;
        });
      await turn();
    }
  }
}

async function keep(unit: Unit, { after, to, rows }: Gathered): Promise<void> {
  if (after.next === 0) await unit.run('INSERT INTO audit_indexed (id, next, forgotten) VALUES (1, 0, 0) ON CONFLICT (id) DO NOTHING');
  const moved = await unit.run('UPDATE audit_indexed SET next = ? WHERE id = 1 AND next = ? AND forgotten = ?', [
    to,
    after.next,
    after.forgotten,
  ]);
  if (moved === 0) throw new Fault('conflict', 'search-moved', 'another node took these entries in, or a person was erased');
  // Two statements that are prepared once: of many rows, and of one.
  const whole = rows.length - (rows.length % TOGETHER);
  const sizes = [...Array.from({ length: whole / TOGETHER }, () => TOGETHER), ...Array.from({ length: rows.length - whole }, () => 1)];
  let at = 0;
  for (const size of sizes) {
    const some = rows.slice(at, at + size);
    await unit.run(
      size === 1 ? INSERT_ONE : INSERT_MANY,
      some.flatMap(({ segment, bucket, found }) => [segment, bucket, found]),
    );
    at += size;
  }
}

const insert = (rows: number) =>
  `INSERT INTO audit_postings (segment, bucket, found) VALUES ${Array.from({ length: rows }, () => '(?, ?, ?)').join(', ')} ON CONFLICT (segment, bucket) DO UPDATE SET found = excluded.found`;
const INSERT_ONE = insert(1);
const INSERT_MANY = insert(TOGETHER);
