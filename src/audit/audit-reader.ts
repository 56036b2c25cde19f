import type { Reader } from '../foundation/index.js';
import type { EntryBody } from './entry.js';

/** An entry for people: its body, and the personal values it stands for as far as they have not been erased. */
export interface LogEntry {
  index: number;
  leaf: Buffer;
  body: EntryBody;
  personal: Record<string, string>;
}

export interface StoredEntry {
  idx: number;
  leaf: Buffer;
  body: string;
  time: number;
  action: string;
  outcome: string;
  key: string | null;
  device: string | null;
  employee: string | null;
}

export interface StoredValue {
  idx: number;
  name: string;
  salt: Buffer;
  value: string;
}

export class AuditReader {
  constructor(private readonly reader: Reader) {}

  /** Entries there were ever: pruned ones count. */
  async size(): Promise<number> {
    return ((await this.ends()).last ?? -1) + 1;
  }

  /** The lowest and highest index there is. */
  async ends(): Promise<{ first: number | null; last: number | null }> {
    const ends = await this.reader.one<{ first: number | null; last: number | null }>(
      'SELECT (SELECT min(idx) FROM audit_entries) AS first, (SELECT max(idx) FROM audit_entries) AS last',
    );
    return ends ?? { first: null, last: null };
  }

  /** The last entries, oldest of them first. */
  async latest(count: number): Promise<LogEntry[]> {
    const rows = await this.reader.all<StoredEntry>('SELECT * FROM audit_entries ORDER BY idx DESC LIMIT ?', [count]);
    return this.#resolve(rows.reverse());
  }

  /** Up to `count` entries from index `from` on. */
  async page(from: number, count: number): Promise<LogEntry[]> {
    return this.#resolve(await this.stored(from, count));
  }

  /** Those of the given entries that are there, in the order given. */
  async entries(indices: readonly number[]): Promise<LogEntry[]> {
    const found = new Map<number, LogEntry>();
    for (let at = 0; at < indices.length; at += SOME) {
      // Always as many places, so that the statement is prepared once; -1 is no index.
      const some = Array.from({ length: SOME }, (_, n) => indices[at + n] ?? -1);
      const rows = await this.reader.all<StoredEntry>(`SELECT * FROM audit_entries WHERE idx IN (${PLACES})`, some);
      const values = await this.reader.all<StoredValue>(`SELECT idx, name, salt, value FROM audit_values WHERE idx IN (${PLACES})`, some);
      for (const entry of resolved(rows, values)) found.set(entry.index, entry);
    }
    return indices.flatMap((index) => found.get(index) ?? []);
  }

  /** The first index whose entry is not before `time`, or where the next one will stand: time never goes back along the log, so no index is needed. */
  async indexAt(time: number): Promise<number> {
    const { first, last } = await this.ends();
    let [low, high] = [first ?? 0, (last ?? -1) + 1];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const entry = await this.reader.one<{ time: number }>('SELECT time FROM audit_entries WHERE idx = ?', [middle]);
      if (entry && entry.time < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The rows as they lie there, for whoever judges them. */
  stored(from: number, count: number): Promise<StoredEntry[]> {
    return this.reader.all<StoredEntry>('SELECT * FROM audit_entries WHERE idx >= ? ORDER BY idx LIMIT ?', [from, count]);
  }

  values(from: number, to: number): Promise<StoredValue[]> {
    return this.reader.all<StoredValue>('SELECT idx, name, salt, value FROM audit_values WHERE idx >= ? AND idx <= ?', [from, to]);
  }

  async #resolve(rows: StoredEntry[]): Promise<LogEntry[]> {
    const [first, last] = [rows[0], rows.at(-1)];
    return first && last ? resolved(rows, await this.values(first.idx, last.idx)) : [];
  }
}

/** Entries asked for by one statement. */
const SOME = 64;
const PLACES = Array.from({ length: SOME }, () => '?').join(', ');

function resolved(rows: readonly StoredEntry[], values: readonly StoredValue[]): LogEntry[] {
  const personal = new Map<number, Record<string, string>>();
  for (const { idx, name, value } of values) personal.set(idx, { ...personal.get(idx), [name]: value });
  // The body is ours: checkLog says whether it still is what we wrote.
  return rows.map(({ idx, leaf, body }) => ({ index: idx, leaf, body: JSON.parse(body) as EntryBody, personal: personal.get(idx) ?? {} }));
}
