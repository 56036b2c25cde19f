import { describe, expect, test } from '@jest/globals';
import { AuditReader, AuditSearch, checkLog, DurableAuditLog, Erasure, SearchIndex } from '../../src/audit/index.js';
import { type AuditEvent, newId, type Storage, SystemClock } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';

const [alice, bob] = [newId(), newId()];
const shared = 'sales@corp.example';
const by = { kind: 'operator', id: 'root' } as const;
const system = { kind: 'system' } as const;

/** Alice had the shared address, then Bob has it. */
async function lived(storage: Storage) {
  const log = new DurableAuditLog(new SystemClock());
  const events: AuditEvent[] = [
    { action: 'enrolment.request', outcome: 'done', actor: { kind: 'app', id: 'a' }, personal: { address: shared, network: '10.1.0.1' } },
    { action: 'mail.send', outcome: 'done', actor: system, personal: { recipient: shared } },
    { action: 'binding.begin', outcome: 'done', actor: system, employee: alice, personal: { address: shared } },
    {
      action: 'key.deliver',
      outcome: 'done',
      actor: { kind: 'device', id: 'd' },
      device: 'd',
      employee: alice,
      personal: { network: '10.1.0.1' },
    },
    {
      action: 'device.revoke',
      outcome: 'done',
      actor: { kind: 'administrator', id: 'olga' },
      device: 'd',
      employee: alice,
      personal: { network: '10.2.0.9' },
    },
    { action: 'binding.end', outcome: 'done', actor: system, employee: alice, personal: { address: shared } },
    { action: 'enrolment.request', outcome: 'done', actor: { kind: 'app', id: 'a' }, personal: { address: shared, network: '10.1.0.2' } },
    { action: 'binding.begin', outcome: 'done', actor: system, employee: bob, personal: { address: shared } },
    {
      action: 'key.deliver',
      outcome: 'done',
      actor: { kind: 'device', id: 'e' },
      device: 'e',
      employee: bob,
      personal: { network: '10.1.0.2' },
    },
    {
      action: 'staff.code',
      outcome: 'refused',
      reason: 'address-foreign',
      actor: { kind: 'stranger' },
      personal: { address: 'Carol@else.example', network: '10.3.0.1' },
    },
  ];
  await storage.write(async (unit) => {
    for (const id of [alice, bob]) await unit.run("INSERT INTO employees (id, state, created) VALUES (?, 'active', 1)", [id]);
    for (const [id, employee, to] of [
      ['b1', alice, 5],
      ['b2', bob, null],
    ] as const)
      await unit.run(
        'INSERT INTO bindings (id, version, employee, address, shown, from_time, to_time, mac) VALUES (?, 1, ?, ?, ?, 1, ?, ?)',
        [...[id, employee, shared, shared, to], Buffer.alloc(1)],
      );
    for (const event of events) await log.append(unit, event);
  });
  const index = new SearchIndex(storage);
  const search = new AuditSearch(storage, log, index);
  const erasure = new Erasure({ storage, audit: log, index });
  return { erasure, found: async (person: string) => (await search.look({ person }, { count: 50 })).entries.map((entry) => entry.index) };
}

describe('erasing a person', () => {
  eachDatabase((open) => {
    test('takes what is theirs and nothing of who had the address after them; the log verifies, and says that it was done', async () => {
      const { storage } = await open();
      const { erasure, found } = await lived(storage);
      const before = await storage.all<{ idx: number; leaf: Buffer }>('SELECT idx, leaf FROM audit_entries ORDER BY idx');
      expect(await found(shared)).toEqual([8, 7, 6, 5, 4, 3, 2, 1, 0]);
      await expect(erasure.erase(shared, by)).rejects.toMatchObject({ code: 'person-ambiguous' });
      await expect(erasure.erase(bob, by)).rejects.toMatchObject({ code: 'person-active' });

      expect(await erasure.erase(alice, by)).toEqual({ employee: alice, entries: 5, values: 6 });
      const entries = await new AuditReader(storage).page(0, 20);
      expect(entries.map(({ personal }) => personal)).toEqual([
        ...[{}, {}, {}, {}, { network: '10.2.0.9' }, {}],
        { address: shared, network: '10.1.0.2' },
        { address: shared },
        { network: '10.1.0.2' },
        { address: 'Carol@else.example', network: '10.3.0.1' },
        {},
      ]);
      expect(entries.at(-1)?.body).toMatchObject({ action: 'audit.erase', subject: alice, actor: by, facts: { values: 6 } });
      expect(await found(shared)).toEqual([8, 7, 6]);
      expect((await checkLog(storage)).problems).toEqual([]);
      expect((await storage.all<{ idx: number; leaf: Buffer }>('SELECT idx, leaf FROM audit_entries ORDER BY idx')).slice(0, -1)).toEqual(
        before,
      );
      await expect(erasure.erase(alice, by)).rejects.toMatchObject({ code: 'person-unknown' });
    });

    test('somebody who only knocked is erased by the address', async () => {
      const { storage } = await open();
      const { erasure, found } = await lived(storage);
      expect(await found('carol@else.example')).toEqual([9]);
      expect(await erasure.erase('carol@else.example', by)).toEqual({ employee: undefined, entries: 1, values: 2 });
      expect(await found('carol@else.example')).toEqual([]);
      expect(JSON.stringify(await storage.all('SELECT value FROM audit_values'))).not.toMatch(/carol|10\.3\.0\.1/i);
    });
  });
});
