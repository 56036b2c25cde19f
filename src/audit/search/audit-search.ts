import { type AuditLog, Fault, isId, type Storage } from '../../foundation/index.js';
import { AuditReader, type LogEntry } from '../audit-reader.js';
import type { ReadingBy } from '../log-book.js';
import { Postings } from './postings.js';
import type { SearchIndex } from './search-index.js';
import { saidBy, type TermKind, termOf } from './terms.js';

/** What is sought; all of it must hold. */
export interface SearchFilter {
  /** An employee's id, or an e-mail address: then entries that name it, and entries of employees whom it was bound to. */
  person?: string | undefined;
  key?: string | undefined;
  device?: string | undefined;
  /** The id that an act was about. */
  subject?: string | undefined;
  action?: string | undefined;
  outcome?: string | undefined;
  /** Where the request came from. */
  network?: string | undefined;
  /** Milliseconds since 1970: not before. */
  from?: number | undefined;
  /** Milliseconds since 1970: before. */
  to?: number | undefined;
}

export interface SearchPage {
  /** Newest first. */
  entries: LogEntry[];
  /** Give it as `before` for what is older; absent where there is nothing older. A page may be short, or empty, and go on all the same. */
  next?: number;
}

/** Entries looked at for one page: bounds its time, whatever is asked. */
const LOOKED_AT = 2_000;
/** Stretches of the index looked at for one page: of a log of thirty million entries all. */
const STRETCHES = 64;
/** Entries that a search for a person may read besides the index. */
const BEHIND = 50_000;
/** Entries read at once by their indices, and in a row. */
const CHUNK = { scattered: 64, inRow: 256 } as const;

/** One thing that must be said by an entry, any of these. */
type Condition = readonly (readonly [TermKind, string])[];

/** Finds entries by what they say and what is still known of whom they name. Newest first, by index, so a page stays what it was while the log grows. */
export class AuditSearch {
  readonly #reader: AuditReader;
  readonly #postings: Postings;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly index: Pick<SearchIndex, 'next'>,
    private readonly lookedAt = LOOKED_AT,
  ) {
    this.#reader = new AuditReader(storage);
    this.#postings = new Postings(storage);
  }

  /** Searching is an entry, which names what was searched by, and whom by a salted digest. */
  async find(filter: SearchFilter, page: { before?: number | undefined; count: number }, by: ReadingBy): Promise<SearchPage> {
    const found = await this.look(filter, page);
    const names = Object.entries(filter).flatMap(([name, value]) => (value === undefined ? [] : [name]));
    const { person, key, device, subject } = filter;
    const isAddress = person !== undefined && !isId(person);
    const id = [person, key, device, subject].find((value) => value !== undefined && isId(value));
    await this.storage.write((unit) =>
      this.audit.append(unit, {
        action: 'audit.search',
        outcome: 'done',
        actor: by.actor,
        ...(id === undefined ? {} : { subject: id }),
        ...(by.request ? { request: by.request.id } : {}),
        facts: { by: names.join('+') || 'all', count: found.entries.length },
        personal: { ...(by.request ? { network: by.request.network } : {}), ...(isAddress ? { sought: person.toLowerCase() } : {}) },
      }),
    );
    return found;
  }

  /** The page alone: what `find` answers, and what other readers that write an entry of their own go by. */
  async look(filter: SearchFilter, { before, count }: { before?: number | undefined; count: number }): Promise<SearchPage> {
    const { first, last } = await this.#reader.ends();
    const size = (last ?? -1) + 1;
    const bottom = Math.max(first ?? 0, filter.from === undefined ? 0 : await this.#reader.indexAt(filter.from));
    const end = filter.to === undefined ? size : await this.#reader.indexAt(filter.to);
    const top = Math.min(before ?? end, end);
    const next = await this.index.next();
    const conditions = await this.#conditions(filter, { from: next, size });
    const indexed = Math.min(next, top);
    const entries: LogEntry[] = [];
    /** Everything from here to `top` was looked at. */
    let floor = top;
    let left = this.lookedAt;
    const answer = (): SearchPage => ({ entries, ...(floor > bottom ? { next: floor } : {}) });
    /** Newest first; true where the page is full. */
    const isFull = (read: readonly LogEntry[]): boolean => {
      for (const entry of read) {
        floor = entry.index;
        if (meetsAll(entry, conditions)) entries.push(entry);
        if (entries.length === count) return true;
      }
      return false;
    };
    // What is not in the index is read itself: the youngest entries, and everything where nothing is sought that has terms.
    const read = conditions.length === 0 ? bottom : Math.max(indexed, bottom);
    while (floor > read && left > 0) {
      const from = Math.max(read, floor - Math.min(left, CHUNK.inRow));
      left -= floor - from;
      const row = (await this.#reader.page(from, floor - from)).filter(({ index }) => index < floor); // pruning may have opened a hole
      if (isFull(row.reverse())) return answer();
      floor = from;
    }
    if (floor > read || conditions.length === 0) return answer();
    const terms = conditions.map((any) => any.map(([kind, value]) => termOf(kind, value)));
    let stretches = 0;
    for await (const { from, indices } of this.#postings.walk(terms, { bottom, top: floor })) {
      for (let at = 0; at < indices.length; at += CHUNK.scattered) {
        if (left <= 0) return answer();
        const some = indices.slice(at, at + CHUNK.scattered);
        left -= some.length;
        if (isFull(await this.#reader.entries(some))) return answer();
        floor = some.at(-1) ?? floor;
      }
      floor = from;
      stretches += 1;
      if (stretches === STRETCHES) break;
    }
    return answer();
  }

  async #conditions(filter: SearchFilter, young: { from: number; size: number }): Promise<Condition[]> {
    const { person, key, device, subject, action, outcome, network } = filter;
    const conditions: Condition[] = [];
    if (person !== undefined) {
      const address = person.toLowerCase();
      conditions.push(isId(person) ? [['employee', person]] : [['address', address], ...(await this.#employeesOf(address, young))]);
    }
    // What few entries say comes first: the others are then looked for in less.
    for (const [kind, value] of Object.entries({ key, device, subject, network, action, outcome } as const))
      if (value !== undefined) conditions.push([[kind as TermKind, value]]); // the literal's own names
    return conditions;
  }

  /**
   * Employees whom the log knows to have had an address, as far as it may still know. Rejects with `search-behind`.
   * @param young what the index has not: entries from `from` on, of a log of `size`
   */
  async #employeesOf(address: string, { from, size }: { from: number; size: number }): Promise<Condition> {
    const behind = size - from;
    if (behind > BEHIND)
      throw new Fault('unavailable', 'search-behind', `the search index is being made: ${behind} entries are not in it yet`, 10);
    const known = await this.#postings.all([[termOf('address', address)], [termOf('action', 'binding.begin')]], { bottom: 0, top: from });
    const young = await this.storage.all<{ idx: number }>(`SELECT idx FROM audit_entries WHERE idx >= ? AND action = 'binding.begin'`, [
      from,
    ]);
    const entries = await this.#reader.entries([...known.slice(0, CHUNK.scattered), ...young.map(({ idx }) => idx)]);
    return employeesIn(entries.filter(({ personal }) => personal['address'] === address));
  }
}

const employeesIn = (entries: readonly LogEntry[]): Condition =>
  [...new Set(entries.flatMap(({ body }) => body.employee ?? []))].map((employee) => ['employee', employee] as const);

const meetsAll = (entry: LogEntry, conditions: readonly Condition[]): boolean => {
  const said = saidBy(entry);
  return conditions.every((any) => any.some(([kind, value]) => said[kind].includes(value)));
};
