import type { Budgets, DeviceActor } from '../access/index.js';
import { parseNote } from '../codec/merkle/index.js';
import { type AuditLog, Fault, type Storage, type Unit } from '../foundation/index.js';
import type { Token } from '../tokens/index.js';
import type { StoredEntry, StoredValue } from './audit-reader.js';
import type { Checkpoints } from './checkpoints.js';
import type { LogTree, TreeState } from './log-tree.js';
import { prunedBy } from './pruning.js';
import { Postings } from './search/postings.js';
import type { SearchIndex } from './search/search-index.js';
import { termOf } from './search/terms.js';
import type { LogStanding } from './standing.js';
import type { TileReader } from './tile-reader.js';

/** One entry about a key, with the proof (RFC 9162 §2.1.3) that the answer's checkpoint covers it. */
export interface KeyUse {
  index: number;
  /** The very bytes of the leaf, as text. */
  entry: string;
  proof: Buffer[];
  /** Opens the entry's digests of these names, as far as they have not been erased and are not sealed any more. */
  opened: ReadonlyMap<OpenedName, Opening>;
}

type Opening = Pick<StoredValue, 'salt' | 'value'>;
/** What a person is told of an entry about their keys: where the request came from, who read their mail, what was sealed until its date. */
const OPENED = ['network', 'reader', 'sealed'] as const;
export type OpenedName = (typeof OPENED)[number];

/** docs/formats/uses.md */
export interface KeyUsesAnswer {
  checkpoint: string;
  /** The key of checkpoints, vouched for by the token (compact JWS). */
  vouch: string;
  /** What both keys of the log signed each time that one took over from another, oldest first. */
  successions: string[];
  /** That `checkpoint` extends the tree of `since` entries; null where there never were so many. */
  consistency: Buffer[] | null;
  uses: KeyUse[];
  /** The entry that says up to where the log was pruned, proved as each is: uses before that are not shown. Null where nothing was. */
  pruned: Omit<KeyUse, 'opened'> | null;
  /** Index to go on from; null at the end. */
  next: number | null;
}

/** Entries in one answer: some 300 KB with their proofs. */
const PAGE = 200;
/** Entries that are looked through besides the index: some 50 ms. */
const BEHIND = 50_000;

export interface KeyUsesParts {
  storage: Storage;
  audit: AuditLog;
  tree: LogTree;
  tiles: TileReader;
  checkpoints: Checkpoints;
  standing: LogStanding;
  token: Pick<Token, 'vouchAuditKey' | 'auditSuccessions'>;
  index: Pick<SearchIndex, 'next'>;
  budgets: Pick<Budgets, 'ofDevice' | 'within'>;
}

/**
 * Every entry about a person's keys, for that person to check. Reading is an entry about each key itself, so it takes the next number of that key's
 * chain of uses, and says the reader's nonce: whoever leaves out the last uses would have to write two entries of one number into the log, where every auditor
 * sees them.
 */
export class KeyUses {
  #vouch: { by: string; jws: string } | undefined;

  readonly #postings: Postings;

  constructor(private readonly parts: KeyUsesParts) {
    this.#postings = new Postings(parts.storage);
  }

  /** Rejects with the breach's code while the log is not the one that was signed: nothing could be proved; with `search-behind`; and with `budget-exceeded`. */
  async of(actor: DeviceActor, { from, since, nonce }: { from: number; since: number; nonce: string }): Promise<KeyUsesAnswer> {
    const { tiles, standing } = this.parts;
    standing.requireWhole();
    const keys = await this.#keysOf(actor.employee);
    const { note, signed } = await this.#covering(await this.#sayRead(actor, keys, nonce));
    const rows = keys.length === 0 ? [] : await this.#entries(keys, from, signed);
    const page = rows.slice(0, PAGE);
    const values = await this.#opened(page.map(({ idx }) => idx));
    const uses: KeyUse[] = [];
    for (const { idx, body } of page)
      uses.push({ index: idx, entry: body, proof: await tiles.inclusion(idx, signed), opened: values.get(idx) ?? new Map() });
    return {
      checkpoint: note,
      vouch: await this.#vouched(note),
      successions: await this.parts.token.auditSuccessions(),
      consistency: since > signed ? null : await tiles.consistency(since, signed),
      uses,
      pruned: await this.#pruned(signed),
      next: rows[PAGE]?.idx ?? null,
    };
  }

  /** A person's own, and those of the shared mailboxes that they read: each of its readers sees what the others do with it. */
  async #keysOf(employee: string): Promise<string[]> {
    const rows = await this.parts.storage.all<{ id: string }>(
      `SELECT id FROM keys WHERE employee = ? OR employee IN (SELECT mailbox FROM mailbox_members WHERE employee = ? AND to_time IS NULL) ORDER BY created, id`,
      [employee, employee],
    );
    return rows.map(({ id }) => id);
  }

  /** Resolves with the index of the last entry. */
  async #sayRead(actor: DeviceActor, keys: readonly string[], nonce: string): Promise<number> {
    const { id: device, employee, request } = actor;
    const { storage, budgets } = this.parts;
    const say = async (unit: Unit) => {
      let last = -1;
      for (const key of keys) {
        const { index } = await this.parts.audit.append(unit, {
          action: 'key.uses',
          outcome: 'done',
          actor: { kind: 'device', id: device },
          device,
          employee,
          key,
          request: request.id,
          facts: { nonce },
          personal: { network: request.network },
        });
        last = index;
      }
      return last;
    };
    return budgets.within(budgets.ofDevice('readings', actor), (charge) =>
      storage.write(async (unit) => {
        await charge(unit);
        return say(unit);
      }),
    );
  }

  /** A checkpoint that covers this entry. */
  async #covering(index: number): Promise<{ note: string; signed: number }> {
    await this.parts.checkpoints.publish();
    this.parts.standing.requireWhole();
    const { note, signed }: TreeState = await this.parts.tree.state();
    if (note === null || signed <= index)
      throw new Fault('unavailable', 'audit-unavailable', 'the head of the log could not be signed in time: ask again', 2);
    return { note, signed };
  }

  /** Up to one more than a page. Rejects with `search-behind` while the index is being made. */
  async #entries(keys: readonly string[], from: number, below: number): Promise<Pick<StoredEntry, 'idx' | 'body'>[]> {
    const { storage, index } = this.parts;
    const indexed = Math.min(await index.next(), below);
    if (below - indexed > BEHIND)
      throw new Fault('unavailable', 'search-behind', `the search index is being made: ${below - indexed} entries are not in it yet`, 10);
    const theirs = `key IN (${keys.map(() => '?').join(', ')})`;
    const rows: Pick<StoredEntry, 'idx' | 'body'>[] = [];
    const terms = keys.map((key) => termOf('key', key));
    for await (const { indices } of this.#postings.walk([terms], { bottom: from, top: indexed }, 'oldest first'))
      for (let at = 0; at < indices.length && rows.length <= PAGE; at += PAGE) {
        const some = indices.slice(at, at + PAGE);
        const places = some.map(() => '?').join(', ');
        const read = await storage.all<Pick<StoredEntry, 'idx' | 'body'>>(
          `SELECT idx, body FROM audit_entries WHERE idx IN (${places}) AND ${theirs}`,
          [...some, ...keys],
        );
        rows.push(...read.sort((a, b) => a.idx - b.idx));
        if (rows.length > PAGE) return rows;
      }
    const young = await storage.all<Pick<StoredEntry, 'idx' | 'body'>>(
      `SELECT idx, body FROM audit_entries WHERE idx >= ? AND idx < ? AND ${theirs} ORDER BY idx LIMIT ?`,
      [Math.max(from, indexed), below, ...keys, PAGE + 1],
    );
    return [...rows, ...young];
  }

  async #pruned(signed: number): Promise<KeyUsesAnswer['pruned']> {
    const { storage, tiles } = this.parts;
    const rows = await storage.all<Pick<StoredEntry, 'idx' | 'body'>>('SELECT idx, body FROM audit_entries WHERE idx = ? AND idx < ?', [
      (await prunedBy(storage)) ?? -1,
      signed,
    ]);
    const [row] = rows;
    return row ? { index: row.idx, entry: row.body, proof: await tiles.inclusion(row.idx, signed) } : null;
  }

  async #opened(indices: readonly number[]): Promise<Map<number, Map<OpenedName, Opening>>> {
    const found = new Map<number, Map<OpenedName, Opening>>();
    if (indices.length === 0) return found;
    const rows = await this.parts.storage.all<StoredValue & { name: OpenedName }>(
      `SELECT idx, name, salt, value FROM audit_values WHERE name IN (${OPENED.map((name) => `'${name}'`).join(', ')}) AND idx IN (${indices.map(() => '?').join(', ')})`,
      indices,
    );
    for (const { idx, name, salt, value } of rows) found.set(Number(idx), (found.get(Number(idx)) ?? new Map()).set(name, { salt, value }));
    return found;
  }

  /** Asked of the token once for each name and key of the log. */
  async #vouched(note: string): Promise<string> {
    const origin = note.slice(0, note.indexOf('\n'));
    const by = `${origin} ${Buffer.from(parseNote(note)?.signatures[0]?.keyId ?? []).toString('hex')}`;
    if (this.#vouch?.by !== by) this.#vouch = { by, jws: await this.parts.token.vouchAuditKey(origin) };
    return this.#vouch.jws;
  }
}
