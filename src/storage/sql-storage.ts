import { setImmediate as turn } from 'node:timers/promises';
import { Fault, isFault, type Row, type SqlValue, Storage, type Unit } from '../foundation/index.js';
import type { Engine } from './engine.js';
import { storageUnavailable } from './sql-faults.js';
import { SqlUnit } from './sql-unit.js';

export interface WriterLimits {
  /** Units that may wait; the next one hears `storage-busy`. What a second or two of writing can clear. */
  waiting: number;
  /** Units committed together: bounds how long the first of them waits for the last. */
  batch: number;
  /** Milliseconds from `write` to its commit. */
  deadline: number;
}

export const WRITER_LIMITS: WriterLimits = { waiting: 4096, batch: 256, deadline: 5_000 };

/** A unit in the queue. Its caller is answered once: after the COMMIT, or at its deadline, and then it is not committed. */
interface Job {
  work: (unit: Unit) => Promise<unknown>;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
  until: number;
  timer: NodeJS.Timeout;
  expired: boolean;
  /** What the deadline means where the job stands now: leave the queue, nothing, or stop working. */
  stop: () => void;
}

/** How a unit ended: whether the COMMIT is for it too, and how its caller hears of it. */
interface End {
  kept: boolean;
  tell: () => void;
}

/**
 * One writer for the whole database. All units that wait are done one after the other in one transaction, each in a savepoint of its
 * own, and share one COMMIT: what is slow (the disk) is paid once for all of them. One that is alone needs no savepoint: it is the transaction.
 */
export class SqlStorage extends Storage {
  #waiting: Job[] = [];
  #draining: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    private readonly engine: Engine,
    private readonly limits: WriterLimits = WRITER_LIMITS,
  ) {
    super();
  }

  override async all<T extends object = Row>(sql: string, parameters: readonly SqlValue[] = []): Promise<T[]> {
    return (await this.engine.read(sql, parameters)) as T[]; // the statement's author knows its columns
  }

  override async one<T extends object = Row>(sql: string, parameters: readonly SqlValue[] = []): Promise<T | undefined> {
    return (await this.all<T>(sql, parameters))[0];
  }

  override write<T>(work: (unit: Unit) => Promise<T>): Promise<T> {
    if (this.#closing) return Promise.reject(storageUnavailable('the appliance is stopping'));
    if (this.#waiting.length >= this.limits.waiting)
      return Promise.reject(new Fault('unavailable', 'storage-busy', 'too much waits to be written; try again soon', 1));
    return new Promise<T>((resolve, reject) => {
      const job: Job = {
        work,
        resolve: resolve as (value: unknown) => void, // it is what `work` resolved with
        reject,
        until: performance.now() + this.limits.deadline,
        timer: setTimeout(() => {
          job.expired = true;
          reject(tooLate());
          job.stop();
        }, this.limits.deadline),
        expired: false,
        stop: () => this.#waiting.splice(this.#waiting.indexOf(job), 1),
      };
      this.#waiting.push(job);
      this.#draining ??= this.#drain();
    });
  }

  /** Waits for what is queued, then lets the database go. */
  close(): Promise<void> {
    this.#closing ??= (this.#draining ?? Promise.resolve()).then(() => this.engine.close());
    return this.#closing;
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      await turn(); // requests that have come in meanwhile join this batch
      await this.#commitTogether(this.#waiting.splice(0, this.limits.batch));
    }
    this.#draining = undefined;
  }

  async #commitTogether(batch: Job[]): Promise<void> {
    const ends: End[] = [];
    const alone = batch.length === 1;
    for (const job of batch) job.stop = () => undefined;
    try {
      await this.engine.begin(batch.at(-1)?.until ?? 0);
      for (const job of batch) ends.push(await this.#perform(job, alone));
      if (ends.some(({ kept }) => kept)) await this.engine.commit();
      // Where nothing is kept every end is true already. SQLite may have rolled back by itself, a connection may be gone: no word on the first error.
      else await this.engine.query('ROLLBACK').catch(() => this.engine.abandon());
    } catch (error) {
      await this.engine.abandon();
      // On PostgreSQL a connection lost during COMMIT leaves open what became of it; ids are made by callers, so they can look.
      const fault = isFault(error) ? error : storageUnavailable(`its transaction could not be finished: ${(error as Error).message}`);
      ends.splice(0, ends.length, ...batch.map((job) => ({ kept: false, tell: () => job.reject(fault) })));
    }
    for (const job of batch) clearTimeout(job.timer);
    // Also a refusal is told only now: it may rest on what a neighbour in this batch wrote.
    for (const { tell } of ends) tell();
  }

  async #perform(job: Job, alone: boolean): Promise<End> {
    if (job.expired) return { kept: false, tell: () => undefined };
    const unit = new SqlUnit(this.engine);
    if (!alone) await this.engine.query('SAVEPOINT unit');
    try {
      const value = await new Promise((resolve, reject) => {
        job.stop = () => reject(tooLate());
        job.work(unit).then(resolve, reject);
      });
      unit.end();
      if (!alone) await this.engine.query('RELEASE SAVEPOINT unit');
      clearTimeout(job.timer); // from here on it may become durable: no answer before that is known
      return { kept: true, tell: () => job.resolve(value) };
    } catch (error) {
      await this.#undo(unit, error, alone);
      return { kept: false, tell: () => job.reject(error) };
    }
  }

  async #undo(unit: SqlUnit, error: unknown, alone: boolean): Promise<void> {
    try {
      unit.end();
    } catch {
      // What spoiled the unit is what brought us here, or was replaced by its author's own word.
    }
    if (alone) return; // nothing of this transaction is kept
    try {
      await this.engine.query('ROLLBACK TO SAVEPOINT unit');
      await this.engine.query('RELEASE SAVEPOINT unit');
    } catch (second) {
      // The transaction is gone with all its units: the first error says why.
      throw isFault(error) && error.kind === 'unavailable' ? error : second;
    }
  }
}

const tooLate = (): Fault => new Fault('unavailable', 'storage-unavailable', 'the database did not take this in time; try again', 2);
