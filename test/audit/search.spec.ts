import { resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  AuditReader,
  AuditSearch,
  DurableAuditLog,
  type LogEntry,
  SearchIndex,
  SearchThread,
  searchQuestion,
} from '../../src/audit/index.js';
import {
  BUCKETS,
  bucketOf,
  decodeRow,
  encodeRow,
  offsetsOf,
  type PostingRow,
  SEGMENT,
  segmentOf,
} from '../../src/audit/search/posting-row.js';
import { forgetTerms, Postings } from '../../src/audit/search/postings.js';
import type { Gatherer } from '../../src/audit/search/search-index.js';
import { termOf } from '../../src/audit/search/terms.js';
import { type AuditEvent, type AuditLog, Clock, newId, type Storage } from '../../src/foundation/index.js';
import type { StorageSettings } from '../../src/storage/index.js';
import { dice } from '../faults/dice.js';
import { eachDatabase } from '../support/database.js';

const NOON = Date.parse('2026-11-23T12:00:00.000Z');
class Ticking extends Clock {
  time = NOON;
  override now(): Date {
    this.time += 1_000;
    return new Date(this.time);
  }
}

const [alice, bob] = [newId(), newId()];
const DEVICES = [newId(), newId(), newId()];
const NETWORKS = ['10.1.0.1', '10.1.0.2'];

/** Uses of keys, refusals, mails: what a log is mostly made of. */
async function filled(storage: Storage, log: AuditLog, count: number): Promise<void> {
  const roll = dice(5);
  const pick = <T>(from: readonly T[]): T => from[roll(from.length)] as T; // never empty
  await storage.write(async (unit) => {
    for (const [employee, address] of [
      [alice, 'alice@corp.example'],
      [bob, 'bob@corp.example'],
    ] as const)
      await log.append(unit, { action: 'binding.begin', outcome: 'done', actor: { kind: 'system' }, employee, personal: { address } });
    for (let n = 0; n < count; n += 1) {
      const device = pick(DEVICES);
      const used: AuditEvent = {
        action: 'key.deliver',
        outcome: 'done',
        actor: { kind: 'device', id: device },
        ...{ device, employee: device === DEVICES[0] ? alice : bob, personal: { network: pick(NETWORKS) } },
      };
      const mailed: AuditEvent = {
        action: 'mail.send',
        outcome: 'done',
        actor: { kind: 'system' },
        personal: { recipient: pick(['alice@corp.example', 'carol@corp.example']) },
      };
      const refused: AuditEvent = { action: 'device.admit', outcome: 'refused', reason: 'device-unknown', actor: { kind: 'stranger' } };
      await log.append(unit, pick([used, used, used, mailed, refused]));
    }
  });
}

/** The devices' owners, as their room keeps them. */
async function owned(storage: Storage): Promise<void> {
  await storage.write(async (unit) => {
    for (const id of [alice, bob]) await unit.run("INSERT INTO employees (id, state, created) VALUES (?, 'active', 1)", [id]);
    for (const [n, id] of DEVICES.entries())
      await unit.run(
        `INSERT INTO devices (id, employee, certificate_digest, serial, delivery_key, delivery_digest, identity_jkt, platform, app, state, enrolled)
         VALUES (?, ?, ?, 's', ?, ?, ?, 'linux', 'a', 'active', 1)`,
        [id, n === 0 ? alice : bob, Buffer.of(n), Buffer.of(n), Buffer.of(n), String(n)],
      );
  });
}

async function allOf(search: AuditSearch, question: Record<string, string>, count: number): Promise<{ found: LogEntry[]; pages: number }> {
  const { filter } = searchQuestion.parse(question);
  const found: LogEntry[] = [];
  let [before, pages]: [number | undefined, number] = [undefined, 0];
  do {
    const page = await search.look(filter, { before, count });
    found.push(...page.entries);
    [before, pages] = [page.next, pages + 1];
  } while (before !== undefined);
  return { found, pages };
}

/** A thread in its real form, over the built program. */
const threadOf = (settings: StorageSettings) => new SearchThread(resolve('dist/programs/audit/search-worker.js'), settings);

describe('a row of postings', () => {
  const row = fc.uniqueArray(
    fc.tuple(
      fc.integer({ min: 0, max: 2 ** 48 - 1 }),
      fc.uniqueArray(fc.integer({ min: 0, max: SEGMENT - 1 }), { minLength: 1, maxLength: 40 }),
    ),
    { selector: ([term]) => term, maxLength: 30 },
  );

  test('gives back what was put in, by term too', () => {
    fc.assert(
      fc.property(row, fc.integer({ min: 0, max: 2 ** 48 - 1 }), (terms, other) => {
        const bytes = encodeRow(new Map(terms));
        expect(decodeRow(bytes)).toEqual(new Map(terms));
        for (const [term, offsets] of terms) expect(offsetsOf(bytes, term)).toEqual(offsets);
        expect(offsetsOf(bytes, other)).toEqual(new Map(terms).get(other) ?? []);
      }),
    );
  });
});

describe('search', () => {
  eachDatabase((open) => {
    test('a walk over a hundred segments gives just the entries that say what is sought, in order, from either end', async () => {
      const { storage } = await open();
      const roll = dice(9);
      const [low, high] = [3 * SEGMENT + 17, 103 * SEGMENT + 5];
      const says = new Map<number, Set<number>>([1, 2, 3 + BUCKETS, 3].map((term) => [term, new Set()]));
      for (const [term, entries] of says) for (let at = 0; at < (term > 3 ? 5 : 300 * term); at += 1) entries.add(roll(105 * SEGMENT));
      const rows = new Map<string, { segment: number; bucket: number; row: PostingRow }>();
      for (const [term, entries] of says)
        for (const index of [...entries].sort((a, b) => a - b)) {
          const [segment, bucket] = [segmentOf(index), bucketOf(term)];
          const one = rows.get(`${segment} ${bucket}`) ?? { segment, bucket, row: new Map() };
          rows.set(`${segment} ${bucket}`, one);
          one.row.set(term, [...(one.row.get(term) ?? []), index % SEGMENT]);
        }
      await storage.write(async (unit) => {
        for (const { segment, bucket, row } of rows.values())
          await unit.run('INSERT INTO audit_postings (segment, bucket, found) VALUES (?, ?, ?)', [segment, bucket, encodeRow(row)]);
      });
      for (const conditions of [[[1]], [[1], [2]], [[1, 2], [3]], [[3 + BUCKETS]], [[4]]])
        for (const order of ['newest first', 'oldest first'] as const) {
          const found: number[] = [];
          const stretches: number[][] = [];
          for await (const { from, to, indices } of new Postings(storage).walk(conditions, { bottom: low, top: high }, order)) {
            stretches.push([from, to]);
            found.push(...indices);
          }
          const meant = [...new Set([...says.values()].flatMap((entries) => [...entries]))]
            .filter((index) => index >= low && index < high && conditions.every((any) => any.some((term) => says.get(term)?.has(index))))
            .sort((a, b) => a - b);
          expect(found).toEqual(order === 'newest first' ? meant.reverse() : meant);
          const rising = stretches.sort(([a = 0], [b = 0]) => a - b);
          expect([rising[0]?.[0], rising.at(-1)?.[1]]).toEqual([low, high]);
          for (const [n, [from]] of rising.entries()) if (n > 0) expect(from).toBe(rising[n - 1]?.[1]);
        }
    });

    test('what a thread gathered before a person was erased is not taken in', async () => {
      const { storage, settings } = await open();
      const log = new DurableAuditLog(new Ticking());
      await filled(storage, log, 600);
      const carol = termOf('address', 'carol@corp.example');
      const isThere = async () => {
        const rows = await storage.all<{ found: Buffer }>('SELECT found FROM audit_postings WHERE bucket = ?', [bucketOf(carol)]);
        return rows.some(({ found }) => offsetsOf(found, carol).length > 0);
      };
      /** The values go while the thread has read them. */
      const late = (thread: SearchThread, erase: () => Promise<unknown>): Gatherer => ({
        gather: async () => {
          const gathered = await thread.gather();
          await erase();
          return gathered;
        },
        stop: () => thread.stop(),
      });
      const first = new SearchIndex(storage, threadOf(settings));
      await first.catchUp();
      await first.stop();
      expect([await first.next(), await isThere()]).toEqual([602, true]);
      await filled(storage, log, 600);
      let erased = 0;
      const index = new SearchIndex(
        storage,
        late(threadOf(settings), () =>
          storage.write(async (unit) => {
            const rows = await unit.all<{ idx: number }>("SELECT idx FROM audit_values WHERE value = 'carol@corp.example'");
            if (rows.length === 0) return;
            erased = await unit.run("DELETE FROM audit_values WHERE value = 'carol@corp.example'");
            await forgetTerms(
              unit,
              rows.map(({ idx }) => ({ index: idx, terms: [carol] })),
            );
          }),
        ),
      );
      await index.catchUp();
      await index.stop();
      expect(erased).toBeGreaterThan(100);
      expect([await index.next(), await isThere()]).toEqual([await new AuditReader(storage).size(), false]);
    });

    test('finds just what a reading of the whole log finds, page by page, however far its index has come', async () => {
      const { storage } = await open();
      const log = new DurableAuditLog(new Ticking());
      await filled(storage, log, 700);
      await owned(storage);
      const all = await new AuditReader(storage).page(0, 1_000);
      const isAlice = ({ body, personal }: LogEntry) =>
        body.employee === alice || personal['address'] === 'alice@corp.example' || personal['recipient'] === 'alice@corp.example';
      const questions: [Record<string, string>, (entry: LogEntry) => boolean][] = [
        [{}, () => true],
        [{ person: 'Alice@corp.example' }, isAlice],
        [{ person: alice }, ({ body }) => body.employee === alice],
        [{ person: 'carol@corp.example' }, ({ personal }) => personal['recipient'] === 'carol@corp.example'],
        [{ device: DEVICES[1] ?? '' }, ({ body }) => body.device === DEVICES[1]],
        [{ outcome: 'refused' }, ({ body }) => body.outcome === 'refused'],
        [{ outcome: 'done', action: 'mail.send' }, ({ body }) => body.action === 'mail.send'],
        [{ outcome: 'done' }, ({ body }) => body.outcome === 'done'],
        [{ action: 'binding.begin' }, ({ body }) => body.action === 'binding.begin'],
        [
          { address: '10.1.0.2', person: 'alice@corp.example', device: DEVICES[0] ?? '' },
          (entry) => isAlice(entry) && entry.personal['network'] === '10.1.0.2' && entry.body.device === DEVICES[0],
        ],
        [
          { from: new Date(NOON + 100_000).toISOString(), to: new Date(NOON + 200_000).toISOString(), action: 'key.deliver' },
          ({ body }) => body.action === 'key.deliver' && Date.parse(body.time) >= NOON + 100_000 && Date.parse(body.time) < NOON + 200_000,
        ],
        [{ key: newId() }, () => false],
      ];
      const index = new SearchIndex(storage);
      for (const behind of [true, false]) {
        if (!behind) await index.catchUp();
        for (const [question, holds] of questions) {
          const { found, pages } = await allOf(new AuditSearch(storage, log, index, 90), question, 25);
          expect({ question, found: found.map((entry) => entry.index) }).toEqual({
            question,
            found: all
              .filter(holds)
              .reverse()
              .map((entry) => entry.index),
          });
          expect(pages).toBeLessThan(45);
        }
      }
      expect(await index.next()).toBe(702);
    });

    test('an index that two nodes work at, or that was cut off, holds each entry once', async () => {
      const { storage, settings } = await open();
      const log = new DurableAuditLog(new Ticking());
      await filled(storage, log, 600);
      const threads = [threadOf(settings), threadOf(settings)];
      await Promise.all([...threads.map((thread) => new SearchIndex(storage, thread).catchUp()), new SearchIndex(storage).catchUp()]);
      await Promise.all(threads.map((thread) => thread.stop()));
      const index = new SearchIndex(storage);
      await index.catchUp();
      expect(await index.next()).toBe(602);
      const { found } = await allOf(new AuditSearch(storage, log, index), { action: 'binding.begin' }, 25);
      expect(found.map((entry) => entry.index)).toEqual([1, 0]);
      const said = await storage.all<{ found: Buffer }>('SELECT found FROM audit_postings WHERE bucket = ?', [
        bucketOf(termOf('action', 'binding.begin')),
      ]);
      expect(said.flatMap((row) => offsetsOf(row.found, termOf('action', 'binding.begin')))).toEqual([0, 1]);
    });

    test('catching up ends, however much is written meanwhile', async () => {
      const { storage } = await open();
      const log = new DurableAuditLog(new Ticking());
      await filled(storage, log, 20);
      let writes = 0;
      const busy: Storage = Object.create(storage, {
        write: {
          value: async (work: Parameters<Storage['write']>[0]) => {
            writes += 1;
            if (writes > 5) throw new Error('it does not end');
            const value = await storage.write(work);
            await filled(storage, log, 1);
            return value;
          },
        },
      });
      const index = new SearchIndex(busy);
      await index.catchUp();
      expect([writes, await index.next()]).toEqual([1, 22]);
    });

    test('searching is an entry, which names whom by a digest only', async () => {
      const { storage } = await open();
      const log = new DurableAuditLog(new Ticking());
      await filled(storage, log, 3);
      const { filter } = searchQuestion.parse({ person: 'Alice@corp.example', action: 'binding.begin' });
      await new AuditSearch(storage, log, new SearchIndex(storage)).find(filter, { count: 5 }, { actor: { kind: 'operator', id: 'root' } });
      const [entry] = await new AuditReader(storage).latest(1);
      expect(entry).toMatchObject({
        body: { action: 'audit.search', actor: { kind: 'operator', id: 'root' }, facts: { by: 'person+action', count: 1 } },
        personal: { sought: 'alice@corp.example' },
      });
      expect(JSON.stringify(entry?.body)).not.toMatch(/alice/i);
    });
  });
});

test('an action that the log does not know is refused: it would find nothing, and look as if nothing had happened', () => {
  expect(searchQuestion.safeParse({ action: 'key.deliver' }).success).toBe(true);
  for (const action of ['key.delivery', 'toString', '']) expect(searchQuestion.safeParse({ action }).success).toBe(false);
});
