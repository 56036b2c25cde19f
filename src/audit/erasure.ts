import { type AuditActor, type AuditLog, Fault, isId, type Storage } from '../foundation/index.js';
import { AuditReader, type LogEntry } from './audit-reader.js';
import { forgetTerms, Postings } from './search/postings.js';
import type { SearchIndex } from './search/search-index.js';
import { addressesOf, saidBy, type TermKind, termOf } from './search/terms.js';

export interface ErasureParts {
  storage: Storage;
  audit: AuditLog;
  index: Pick<SearchIndex, 'catchUp' | 'next'>;
}

export interface Erased {
  employee: string | undefined;
  entries: number;
  values: number;
}

/** A value that goes, and the terms that were made of it. */
interface Target {
  index: number;
  name: string;
  terms: number[];
}

/** Values of one unit of work, with an entry for them: some 100 ms of the writer's time. */
const TOGETHER = 2_000;
const PAGE = 500;
/** Whose network an entry holds: of these, the person's own. Administrators and the operator have theirs. */
const OWN: ReadonlySet<string> = new Set(['device', 'staff', 'app', 'stranger']);
const ADDRESSES: ReadonlySet<string> = new Set(['address', 'recipient', 'recipients', 'sought']);

/**
 * Deletes what the log knows of a person by name, address and network: values and salts, so that what is left in the entries is a digest that nobody
 * can tell from any other, and the terms by which a search would find them. The leaves stay, and the log verifies as before.
 */
export class Erasure {
  readonly #reader: AuditReader;
  readonly #postings: Postings;

  constructor(private readonly parts: ErasureParts) {
    this.#reader = new AuditReader(parts.storage);
    this.#postings = new Postings(parts.storage);
  }

  /**
   * @param person an employee's id, or an e-mail address; also one that nobody was ever enrolled with
   * Rejects with `person-unknown`, `person-ambiguous` (several had the address: give an id) or `person-active` (an address is still theirs).
   */
  async erase(person: string, by: AuditActor): Promise<Erased> {
    const { storage, audit, index } = this.parts;
    await index.catchUp();
    const employee = isId(person) ? person : await this.#ownerOf(person.toLowerCase());
    if (employee) await this.#requireGone(employee);
    const targets = employee ? await this.#ofEmployee(employee) : await this.#ofAddress(person.toLowerCase(), () => true);
    if (targets.length === 0) throw new Fault('not-found', 'person-unknown', 'the log holds nothing personal of them');
    const entries = new Set(targets.map((target) => target.index)).size;
    for (let at = 0; at < targets.length; at += TOGETHER) {
      const some = targets.slice(at, at + TOGETHER);
      await storage.write(async (unit) => {
        for (const { index: idx, name } of some) await unit.run('DELETE FROM audit_values WHERE idx = ? AND name = ?', [idx, name]);
        await forgetTerms(unit, some);
        await audit.append(unit, {
          action: 'audit.erase',
          outcome: 'done',
          actor: by,
          ...(employee ? { subject: employee } : {}),
          facts: { values: some.length },
        });
      });
    }
    return { employee, entries, values: targets.length };
  }

  /** The one whom an address was bound to, as the log knows it. */
  async #ownerOf(address: string): Promise<string | undefined> {
    const owners = [...new Set((await this.#bindings(address)).map((binding) => binding.employee))];
    if (owners.length > 1)
      throw new Fault('conflict', 'person-ambiguous', `several people had this address: give the id of one (${owners.join(', ')})`);
    return owners[0];
  }

  async #requireGone(employee: string): Promise<void> {
    const open = await this.parts.storage.one<{ open: number }>(
      'SELECT COUNT(*) AS open FROM bindings WHERE employee = ? AND to_time IS NULL',
      [employee],
    );
    if (Number(open?.open ?? 0) > 0)
      throw new Fault('conflict', 'person-active', 'an address is still theirs: stop them and release it first (ekms employee)');
  }

  async #ofEmployee(employee: string): Promise<Target[]> {
    const targets: Target[] = [];
    const addresses = new Set<string>();
    for await (const entries of this.#byTerm('employee', employee))
      for (const entry of entries) {
        // What an entry said under a seal is a value of the sealed one.
        const sealed = Number(entry.body.action === 'entry.unseal' ? entry.body.facts?.['entry'] : undefined);
        for (const { idx, name } of sealed >= 0 ? await this.#reader.values(sealed, sealed) : [])
          targets.push({ index: idx, name, terms: [] });
        if (entry.body.action.startsWith('binding.')) for (const address of addressesOf(entry)) addresses.add(address);
        for (const name of Object.keys(entry.personal))
          if (name !== 'network' || OWN.has(entry.body.actor.kind)) targets.push(target(entry, name));
      }
    for (const address of addresses) {
      const bindings = await this.#bindings(address);
      // Of entries that name an address and no employee, they are whose binding was the first not to have ended.
      const isTheirs = (index: number) => bindings.find(({ end }) => end >= index)?.employee === employee;
      targets.push(...(await this.#ofAddress(address, isTheirs)));
    }
    return targets;
  }

  /** Values in entries that name the address, and no employee. */
  async #ofAddress(address: string, isTheirs: (index: number) => boolean): Promise<Target[]> {
    const targets: Target[] = [];
    for await (const entries of this.#byTerm('address', address))
      for (const entry of entries.filter(({ index, body }) => body.employee === undefined && isTheirs(index)))
        for (const [name, value] of Object.entries(entry.personal)) {
          const isAddress = ADDRESSES.has(name) && value.toLowerCase().split(' ').includes(address);
          if (isAddress || (name === 'network' && OWN.has(entry.body.actor.kind))) targets.push(target(entry, name));
        }
    return targets;
  }

  /** Who had an address, in order: up to which entry it was theirs. */
  async #bindings(address: string): Promise<{ employee: string; end: number }[]> {
    const bindings: { employee: string; end: number }[] = [];
    for await (const entries of this.#byTerm('address', address))
      for (const { index, body } of entries) {
        if (body.employee === undefined) continue;
        if (body.action === 'binding.begin') bindings.push({ employee: body.employee, end: Number.POSITIVE_INFINITY });
        const open = bindings.find(({ employee, end }) => employee === body.employee && end === Number.POSITIVE_INFINITY);
        if (body.action === 'binding.end' && open) open.end = index;
      }
    return bindings;
  }

  /** Oldest first, some at a time. */
  async *#byTerm(kind: TermKind, value: string): AsyncGenerator<LogEntry[]> {
    const all = { bottom: 0, top: await this.parts.index.next() };
    for await (const { indices } of this.#postings.walk([[termOf(kind, value)]], all, 'oldest first'))
      for (let at = 0; at < indices.length; at += PAGE)
        yield (await this.#reader.entries(indices.slice(at, at + PAGE))).filter((entry) => saidBy(entry)[kind].includes(value));
  }
}

function target({ index, personal }: LogEntry, name: string): Target {
  const value = personal[name] ?? '';
  if (name === 'network') return { index, name, terms: [termOf('network', value)] };
  return {
    index,
    name,
    terms: ADDRESSES.has(name)
      ? value
          .toLowerCase()
          .split(' ')
          .map((one) => termOf('address', one))
      : [],
  };
}
