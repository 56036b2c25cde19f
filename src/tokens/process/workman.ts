import { Worker } from 'node:worker_threads';
import type { HsmErrorCode } from '../hsm.js';
import type { Done, Errand } from './desk.js';
import type { FaultOnWire } from './token-faults.js';
import type { KeysInForce } from './token-state.js';

/** What the main thread tells a worker thread. */
export type Order = { do: 'open' | 'refresh'; keys: KeysInForce } | { do: 'close' } | { do: 'probe' } | { do: 'judge'; errand: Errand };

export type Reply =
  | ({ kind: 'done' } & Done)
  | { kind: 'fault'; fault: FaultOnWire }
  /** The token did not do as it should: not the caller's doing. */
  | { kind: 'hsm'; code: HsmErrorCode; message: string };

/** One worker thread with one session: obeys in the order of asking. `onDefect` is called when it dies or does not come back. */
export class Workman {
  private readonly worker: Worker;
  private readonly asked: ((reply: Reply) => void)[] = [];
  /** Called whenever an order is done. */
  onFree: () => void = () => undefined;

  constructor(
    entry: string,
    workerData: object,
    private readonly onDefect: (what: string) => void,
  ) {
    this.worker = new Worker(entry, { workerData });
    this.worker.on('message', (reply: Reply) => this.asked.shift()?.(reply));
    this.worker.on('error', (error) => onDefect(`a worker thread died: ${String(Object(error).name)}`)); // its message might tell too much
    this.worker.on('exit', () => onDefect('a worker thread ended'));
  }

  /** Orders that it has in hand. */
  get load(): number {
    return this.asked.length;
  }

  /** @param limitMs after which the thread counts as stuck inside the module */
  ask(order: Order, limitMs: number): Promise<Reply> {
    return new Promise((resolve) => {
      const stuck = setTimeout(
        () => this.onDefect(`the token module has not come back from ${order.do} for ${limitMs / 1000} s`),
        limitMs,
      ).unref();
      this.asked.push((reply) => {
        clearTimeout(stuck);
        resolve(reply);
        this.onFree();
      });
      this.worker.postMessage(order);
    });
  }

  /** Ends the thread for good. Its session is closed. */
  async end(): Promise<void> {
    this.worker.removeAllListeners('exit');
    await this.worker.terminate();
  }
}
