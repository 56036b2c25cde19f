import type { LogEntry } from '../audit-reader.js';

/** Where the log goes to besides: a SIEM, its files, a collector. */
export abstract class Sink {
  /**
   * Hands over these entries, in their order. Resolves when they are the receiver's; rejects otherwise, and the same ones are handed over again.
   * @param signal ends an attempt that takes too long
   */
  abstract deliver(entries: readonly LogEntry[], signal: AbortSignal): Promise<Delivered>;
}

export interface Delivered {
  /** Entries that the receiver took and would not keep. To send them again would not help. */
  rejected: number;
}

/** How an entry is written for somebody else: one line, without its end. */
export type LineForm = (entry: LogEntry) => string;
