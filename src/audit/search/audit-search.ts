import { type AuditLog, Fault, isId, type Reader, type Storage } from '../../foundation/index.js';
import { AuditReader, type LogEntry } from '../audit-reader.js';
import type { ReadingBy } from '../log-book.js';
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
/** Entries that a search for a person may read besides the index. */
const BEHIND = 50_000;
/** Entries read at once. */
const CHUNK = 64;

/** Something that an entry says. */
type Saying = readonly [TermKind, string];
/** One thing that must be said by an entry, any of `of`; and by what it is looked for, where anything leads to it. */
interface Condition {
  of: readonly Saying[];
  leads: readonly Saying[];
}

/** Finds entries by what they say and what is still known of whom they name. Newest first, by index, so a page stays what it was while the log grows. */
export class AuditSearch {
  readonly #reader: AuditReader;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly index: Pick<SearchIndex, 'next'>,
    private readonly lookedAt = LOOKED_AT,
  ) {
    this.#reader = new AuditReader(storage);
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
    const head = await this.#reader.head();
    const bottom = Math.max(head?.first ?? 0, filter.from === undefined ? 0 : await this.#reader.indexAt(filter.from));
    const end = filter.to === undefined ? (head?.last ?? -1) + 1 : await this.#reader.indexAt(filter.to);
    const top = Math.min(before ?? end, end);
    const conditions = await this.#conditions(filter);
    const indexed = Math.min(await this.index.next(), top);
    const entries: LogEntry[] = [];
    const fits = (entry: LogEntry) => conditions.every(({ of }) => meets(entry, of));
    /** Everything from here to `top` was looked at. */
    let floor = top;
    const take = async (indices: readonly number[]): Promise<boolean> => {
      for (let at = 0; at < indices.length; at += CHUNK)
        for (const entry of await this.#reader.entries(indices.slice(at, at + CHUNK))) {
          floor = entry.index;
          if (fits(entry)) entries.push(entry);
          if (entries.length === count) return true;
        }
      return false;
    };
    const answer = (): SearchPage => ({ entries, ...(floor > bottom ? { next: floor } : {}) });
    const leading = conditions.flatMap(({ leads }) => (leads.length > 0 ? [leads] : []));
    // What no term leads to is read itself: the youngest entries, and everything where nothing is sought that has terms.
    const read = leading.length === 0 ? bottom : Math.max(indexed, bottom);
    const lowest = Math.max(read, top - this.lookedAt);
    if (await take(range(lowest, top))) return answer();
    floor = lowest;
    if (lowest > read || leading.length === 0) return answer();
    const { candidates, lower } = await candidatesOf(this.storage, leading, { bottom, top: indexed, most: this.lookedAt });
    if (await take(candidates)) return answer();
    floor = lower;
    return answer();
  }

  async #conditions({ person, key, device, subject, action, outcome, network }: SearchFilter): Promise<Condition[]> {
    const conditions: Condition[] = [];
    for (const [kind, value] of Object.entries({ subject, action, network } as const))
      if (value !== undefined) conditions.push({ of: [[kind as TermKind, value]], leads: [[kind as TermKind, value]] }); // the literal's own names
    if (outcome !== undefined) conditions.push({ of: [['outcome', outcome]], leads: outcome === 'done' ? [] : [['outcome', outcome]] });
    for (const [kind, id] of Object.entries({ key, device } as const))
      if (id !== undefined) {
        const itself: Saying = [kind as TermKind, id];
        conditions.push({ of: [itself], leads: [itself, ...(await this.#ownerOf(itself))] });
      }
    if (person === undefined) return conditions;
    const address = person.toLowerCase();
    const who: Saying[] = isId(person) ? [['employee', person]] : [['address', address], ...(await this.#employeesOf(address))];
    return [...conditions, { of: who, leads: who }];
  }

  /** Whose key or device that is: uses of keys are found by their employee. */
  async #ownerOf([kind, id]: Saying): Promise<Saying[]> {
    const row = await this.storage.one<{ employee: string }>(
      kind === 'key' ? 'SELECT employee FROM keys WHERE id = ?' : 'SELECT employee FROM devices WHERE id = ?',
      [id],
    );
    return row ? [['employee', row.employee]] : [];
  }

  /** Employees whom the log knows to have had an address, as far as it may still know. Rejects with `search-behind`. */
  async #employeesOf(address: string): Promise<Saying[]> {
    const rows = await this.storage.all<{ idx: number }>(
      `SELECT b.idx AS idx FROM audit_terms b JOIN audit_terms a ON a.idx = b.idx WHERE b.term = ? AND a.term = ? ORDER BY b.idx DESC LIMIT ${CHUNK}`,
      [termOf('address', address), termOf('action', 'binding.begin')],
    );
    const from = await this.index.next();
    const behind = ((await this.#reader.head())?.size ?? 0) - from;
    if (behind > BEHIND)
      throw new Fault('unavailable', 'search-behind', `the search index is being made: ${behind} entries are not in it yet`, 10);
    const young = await this.storage.all<{ idx: number }>(`SELECT idx FROM audit_entries WHERE idx >= ? AND action = 'binding.begin'`, [
      from,
    ]);
    const entries = await this.#reader.entries([...rows, ...young].map(({ idx }) => idx));
    return employeesIn(entries.filter(({ personal }) => personal['address'] === address));
  }
}

const employeesIn = (entries: readonly LogEntry[]): Saying[] =>
  [...new Set(entries.flatMap(({ body }) => body.employee ?? []))].map((employee) => ['employee', employee] as const);

const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from) }, (_, n) => to - 1 - n);

const meets = (entry: LogEntry, any: readonly Saying[]): boolean => {
  const said = saidBy(entry);
  return any.some(([kind, value]) => said[kind].includes(value));
};

/**
 * Entries in [bottom, top) that may meet all conditions, newest first, and down to where that is all of them. Each lead gives its newest
 * entries; the one that reaches furthest down leads, and the others strike out what they know better.
 */
async function candidatesOf(
  reader: Reader,
  leads: readonly (readonly Saying[])[],
  { bottom, top, most }: { bottom: number; top: number; most: number },
): Promise<{ candidates: number[]; lower: number }> {
  const lists: { found: number[]; lower: number }[] = [];
  for (const any of leads) {
    const parts = [];
    for (const [kind, value] of any) {
      const rows = await reader.all<{ idx: number }>(
        kind === 'employee'
          ? 'SELECT idx FROM audit_entries WHERE employee = ? AND idx >= ? AND idx < ? ORDER BY idx DESC LIMIT ?'
          : 'SELECT idx FROM audit_terms WHERE term = ? AND idx >= ? AND idx < ? ORDER BY idx DESC LIMIT ?',
        [kind === 'employee' ? value : termOf(kind, value), bottom, top, most],
      );
      const found = rows.map(({ idx }) => idx);
      parts.push({ found, lower: found.length < most ? bottom : (found.at(-1) ?? bottom) });
    }
    const lower = Math.max(...parts.map((part) => part.lower));
    const found = [...new Set(parts.flatMap((part) => part.found))].filter((idx) => idx >= lower).toSorted((a, b) => b - a);
    lists.push({ found: found.slice(0, most), lower: found.length > most ? (found[most - 1] ?? lower) : lower });
  }
  const [lead, ...others] = lists.toSorted((a, b) => a.lower - b.lower || a.found.length - b.found.length);
  if (!lead) return { candidates: [], lower: bottom };
  const known = others.map(({ found, lower }) => ({ found: new Set(found), lower }));
  return {
    candidates: lead.found.filter((idx) => known.every(({ found, lower }) => idx < lower || found.has(idx))),
    lower: lead.lower,
  };
}
