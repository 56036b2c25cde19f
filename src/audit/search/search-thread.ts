import { Worker } from 'node:worker_threads';
import { Fault } from '../../foundation/index.js';
import type { StorageSettings } from '../../storage/index.js';
import type { Gathered } from './gathering.js';
import type { Gatherer } from './search-index.js';

export type Told = { gathered: Gathered | undefined } | { failed: string | Pick<Fault, 'kind' | 'code' | 'message'> };

/** Milliseconds for some thousand entries: a thousand times what is usual. */
const DEADLINE = 60_000;

/** Gathers in a thread of its own, begun when there first is much to gather. One that fails, or does not come back, is ended: the next asking begins another. */
export class SearchThread implements Gatherer {
  #worker: Worker | undefined;
  /** Hears what becomes of the asking that is under way. */
  #heard: (told: Told) => void = () => undefined;

  /** @param entry the built search-worker.js */
  constructor(
    private readonly entry: string,
    private readonly database: StorageSettings,
  ) {}

  /** One at a time. */
  async gather(): Promise<Gathered | undefined> {
    this.#worker ??= this.#begin();
    let timer: NodeJS.Timeout | undefined;
    const told = await new Promise<Told>((resolve) => {
      timer = setTimeout(() => resolve({ failed: 'the thread of the search index did not come back' }), DEADLINE);
      this.#heard = resolve;
      this.#worker?.postMessage('gather');
    });
    clearTimeout(timer);
    if ('gathered' in told) return told.gathered;
    await this.stop();
    throw typeof told.failed === 'string' ? new Error(told.failed) : new Fault(told.failed.kind, told.failed.code, told.failed.message);
  }

  async stop(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }

  #begin(): Worker {
    const worker = new Worker(this.entry, { workerData: this.database, stdin: false });
    worker.unref(); // it keeps nobody from ending
    worker.on('message', (told: Told) => this.#heard(told));
    worker.on('error', (error: Error) => this.#heard({ failed: `the thread of the search index died: ${error.message}` }));
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
      this.#heard({ failed: 'the thread of the search index ended' });
    });
    return worker;
  }
}
