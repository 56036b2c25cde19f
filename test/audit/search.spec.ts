import { describe, expect, test } from '@jest/globals';
import { AuditReader, AuditSearch, DurableAuditLog, type LogEntry, SearchIndex, searchQuestion } from '../../src/audit/index.js';
import { type AuditEvent, type AuditLog, Clock, newId, type Storage } from '../../src/foundation/index.js';
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

describe('search', () => {
  eachDatabase((open) => {
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
      const { storage } = await open();
      const log = new DurableAuditLog(new Ticking());
      await filled(storage, log, 500);
      await Promise.allSettled([new SearchIndex(storage).catchUp(), new SearchIndex(storage).catchUp()]);
      const index = new SearchIndex(storage);
      await index.catchUp();
      expect(await index.next()).toBe(502);
      const { found } = await allOf(new AuditSearch(storage, log, index), { action: 'binding.begin' }, 25);
      expect(found.map((entry) => entry.index)).toEqual([1, 0]);
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
