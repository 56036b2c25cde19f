import { setTimeout as pause } from 'node:timers/promises';
import { type AuditLog, type Clock, newId, type Storage } from '../../foundation/index.js';
import { AuditReader, type LogEntry } from '../audit-reader.js';
import { Cursors } from '../cursors.js';
import type { Delivered, Sink } from './sink.js';

/** How a sink stands. */
export interface SinkState {
  sink: string;
  state: 'good' | 'failing';
  /** Entries that it has not got yet. */
  behind: number;
  /** Milliseconds that the oldest of them has waited. */
  waited: number;
  /** Attempts that failed since the last one that did not. */
  failures: number;
  /** Why the last one failed. */
  reason?: string;
  /** Since the start of this process. */
  forwarded: number;
  rejected: number;
  failed: number;
}

/** Milliseconds and numbers that bound what forwarding may take of the service. */
export interface ForwardingLimits {
  /** Entries handed over at once: some 5 ms of work. */
  batch: number;
  /** Between two batches while there is more: four fifths of the time are others'. */
  breath: number;
  /** Between two looks for new entries. */
  every: number;
  /** For one attempt. */
  attempt: number;
  /** After a first and at most after any failure. */
  backOff: { first: number; most: number };
}
const FORWARDING_LIMITS: ForwardingLimits = {
  batch: 256,
  breath: 20,
  every: 2_000,
  attempt: 30_000,
  backOff: { first: 1_000, most: 60_000 },
};

/** Failures in a row after which the log says that a sink is out, once for each time. */
const OUT = 5;

interface Line {
  sink: Sink;
  failures: number;
  reason: string | undefined;
  forwarded: number;
  rejected: number;
  failed: number;
  /** Whether an attempt was given up and has not come back: a disk that hangs hears of no deadline, and two that write at once would tear lines. */
  isHanging: boolean;
  /** Entries for the next attempt: half as many after each that failed, for a receiver may take no more at once, and slowly more again. */
  batch: number;
}

/**
 * Carries the log to its sinks, each at its own pace behind a durable cursor: at least once, in order. It reads what is committed and waits for
 * nobody, so a sink that is dead, slow or full is behind, and nothing else is any different.
 */
export class Forwarder {
  readonly #reader: AuditReader;
  readonly #cursors: Cursors;
  readonly #lines: ReadonlyMap<string, Line>;
  readonly #stopping = new AbortController();
  /** Of several nodes only one carries to a sink: this is who. */
  readonly #node = newId();
  #running: Promise<void>[] = [];

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly clock: Clock,
    sinks: ReadonlyMap<string, Sink>,
    private readonly limits: ForwardingLimits = FORWARDING_LIMITS,
  ) {
    this.#reader = new AuditReader(storage);
    this.#cursors = new Cursors(storage);
    this.#lines = new Map(
      [...sinks].map(([name, sink]) => [
        name,
        { sink, failures: 0, reason: undefined, forwarded: 0, rejected: 0, failed: 0, isHanging: false, batch: limits.batch },
      ]),
    );
  }

  begin(): void {
    this.#running = [...this.#lines].map(([name, line]) => this.#carry(name, line));
  }

  /** Ends after the batch under way, or at once where that hangs. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.race([Promise.all(this.#running), pause(1_000, undefined, { ref: false })]);
  }

  async states(): Promise<SinkState[]> {
    if (this.#lines.size === 0) return [];
    const end = await this.#reader.size();
    const states: SinkState[] = [];
    for (const [sink, { failures, reason, forwarded, rejected, failed }] of this.#lines) {
      const next = await this.#cursors.next(cursor(sink));
      const [oldest] = await this.#reader.stored(next, 1);
      states.push({
        sink,
        state: failures > 0 ? 'failing' : 'good',
        behind: Math.max(0, end - next),
        waited: oldest ? Math.max(0, this.clock.now().getTime() - oldest.time) : 0,
        ...{ failures, forwarded, rejected, failed, ...(reason === undefined ? {} : { reason }) },
      });
    }
    return states;
  }

  /** The first entry that some sink has not got: none after it may be pruned. */
  async next(): Promise<number> {
    const all = await Promise.all([...this.#lines.keys()].map((name) => this.#cursors.next(cursor(name))));
    return Math.min(Number.MAX_SAFE_INTEGER, ...all);
  }

  async #carry(name: string, line: Line): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      let wait = this.limits.every;
      try {
        if ((await this.#batch(name, line)) === line.batch) wait = this.limits.breath;
        line.batch = Math.min(this.limits.batch, line.batch + Math.ceil(line.batch / 8));
        if (line.failures >= OUT) await this.#note('forward.resume', name);
        [line.failures, line.reason] = [0, undefined];
      } catch (error) {
        [line.failures, line.failed, line.reason] = [line.failures + 1, line.failed + 1, reasonOf(error)];
        line.batch = Math.ceil(line.batch / 2);
        wait = Math.min(this.limits.backOff.most, this.limits.backOff.first * 2 ** (line.failures - 1)) * (0.75 + Math.random() / 4);
        if (line.failures === OUT) await this.#note('forward.fail', name);
      }
      await pause(wait, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
  }

  /** Resolves with the number of entries that were handed over. */
  async #batch(name: string, line: Line): Promise<number> {
    const from = await this.#cursors.next(cursor(name));
    const entries = await this.#reader.page(from, line.batch);
    const last = entries.at(-1);
    if (!last || !(await this.#cursors.hold(cursor(name), this.#node, this.clock.now().getTime(), 2 * this.limits.attempt))) return 0;
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(this.limits.attempt)]);
    const { rejected } = await deliver(line, entries, signal);
    await this.storage.write((unit) => this.#cursors.move(unit, cursor(name), from, last.index + 1));
    line.forwarded += entries.length;
    line.rejected += rejected;
    return entries.length;
  }

  async #note(action: 'forward.fail' | 'forward.resume', sink: string): Promise<void> {
    await this.storage
      .write((unit) => this.audit.append(unit, { action, outcome: 'done', actor: { kind: 'system' }, facts: { sink } }))
      .catch(() => undefined); // the database is out too: the next failures are told by health
  }
}

/** Rejects at the signal, whatever the sink makes of it. */
function deliver(line: Line, entries: readonly LogEntry[], signal: AbortSignal): Promise<Delivered> {
  if (line.isHanging) return Promise.reject(new Error('an earlier attempt has not come back'));
  return new Promise((resolve, reject) => {
    const late = () => reject(new Error('it took too long'));
    if (signal.aborted) return late();
    signal.addEventListener('abort', late, { once: true });
    line.isHanging = true;
    line.sink
      .deliver(entries, signal)
      .then(resolve, reject)
      .finally(() => {
        line.isHanging = false;
        signal.removeEventListener('abort', late);
      });
  });
}

const cursor = (sink: string): string => `sink:${sink}`;

/** A code where there is one. Receivers are ours to name: what they answered is no secret. */
function reasonOf(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return String(typeof code === 'string' ? code : (message ?? error)).slice(0, 200);
}
