import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { AuditReader, checkLog, DurableAuditLog, LogStanding, SealedEntries, Veil } from '../../src/audit/index.js';
import { type AuditEvent, Clock, sha256 } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';

const DAY = 86_400_000;
class MovingClock extends Clock {
  time = Date.parse('2026-03-01T09:00:00.000Z');
  override now(): Date {
    return new Date(this.time);
  }
}

describe('a sealed entry', () => {
  eachDatabase((open) => {
    test('stands at once, with its place in the key’s chain; what it says waits for its date, also in the database', async () => {
      const { storage } = await open();
      const clock = new MovingClock();
      const veil = new Veil((salt) => sha256(Buffer.from('a secret'), salt));
      const log = new DurableAuditLog(clock, undefined, undefined, undefined, veil);
      const sealed = new SealedEntries(storage, log, clock, veil);
      await storage.write(async (unit) => {
        await unit.run("INSERT INTO employees (id, state, created) VALUES ('anna', 'active', 1)");
        await unit.run(
          `INSERT INTO keys (id, version, employee, suite, bits, state, mode, kek, public_key_digest, public_key, wrapped, mac, created)
           VALUES ('k1', 1, 'anna', 'rsa', 3072, 'active', 'deliver', 'k', ?, ?, ?, ?, 1)`,
          [Buffer.of(1), Buffer.alloc(1), Buffer.alloc(1), Buffer.alloc(1)],
        );
      });
      const released: AuditEvent = {
        action: 'recovery.release',
        outcome: 'done',
        actor: { kind: 'administrator', id: 'rita' },
        employee: 'anna',
        key: 'k1',
        subject: 'case-7',
        facts: { message: true },
        personal: { network: '10.2.0.9' },
        sealedUntil: clock.time + 30 * DAY,
      };
      const used: AuditEvent = { action: 'key.deliver', outcome: 'done', actor: { kind: 'device', id: 'd' }, employee: 'anna', key: 'k1' };
      const receipts = [];
      for (const event of [used, released, used]) receipts.push(await storage.write((unit) => log.append(unit, event)));
      const reader = new AuditReader(storage);
      const [, stub, after] = await reader.page(0, 10);
      expect(stub?.body).toEqual({
        ...{ v: 1, index: '1', time: '2026-03-01T09:00:00.000Z', action: 'entry.sealed', outcome: 'done', actor: { kind: 'system' } },
        ...{
          key: 'k1',
          use: '2',
          previous: receipts[0]?.leaf,
          facts: { until: clock.time + 30 * DAY },
          personal: { sealed: expect.any(String) },
        },
      });
      expect(stub?.personal).toEqual({});
      expect(after?.body).toMatchObject({ use: '3', previous: receipts[1]?.leaf });
      const everything = JSON.stringify([
        await storage.all('SELECT * FROM audit_entries'),
        await storage.all('SELECT * FROM audit_sealed'),
        await storage.all('SELECT * FROM audit_values'),
      ]);
      const told = Buffer.from((await storage.one<{ content: Buffer }>('SELECT content FROM audit_sealed'))?.content ?? []).toString(
        'latin1',
      );
      expect(everything + told).not.toMatch(/rita|recovery|case-7|10\.2\.0\.9/);
      expect(await sealed.unsealDue()).toBe(0);
      expect(await sealed.first()).toBe(1);

      clock.time += 31 * DAY;
      expect(await sealed.unsealDue()).toBe(1);
      expect(await sealed.unsealDue()).toBe(0);
      const [, opened, , unseal] = await reader.page(0, 10);
      expect(opened?.leaf).toEqual(stub?.leaf);
      expect(JSON.parse(opened?.personal['sealed'] ?? '{}')).toEqual({
        ...{
          action: 'recovery.release',
          outcome: 'done',
          actor: { kind: 'administrator', id: 'rita' },
          employee: 'anna',
          subject: 'case-7',
        },
        ...{ facts: { message: true }, personal: { network: '10.2.0.9' } },
      });
      const value = await storage.one<{ salt: Buffer; value: string }>('SELECT salt, value FROM audit_values WHERE idx = 1');
      expect(
        createHash('sha256')
          .update(value?.salt ?? '')
          .update(value?.value ?? '')
          .digest('base64url'),
      ).toBe(opened?.body.personal?.['sealed']);
      expect(unseal?.body).toMatchObject({ action: 'entry.unseal', employee: 'anna', subject: 'case-7', facts: { entry: 1 } });
      expect((await checkLog(storage)).problems).toEqual([]);
    });

    test('what would not be admitted is not admitted sealed, and a broken log releases nothing under a seal', async () => {
      const { storage } = await open();
      const clock = new MovingClock();
      const standing = new LogStanding();
      const log = new DurableAuditLog(clock, standing, undefined, undefined, new Veil(() => Buffer.alloc(32)));
      const event: AuditEvent = {
        action: 'recovery.release',
        outcome: 'done',
        actor: { kind: 'system' },
        facts: { message: true },
        sealedUntil: 1,
      };
      const bent = { ...event, facts: { text: 'a sentence' } } as unknown as AuditEvent;
      await expect(storage.write((unit) => log.append(unit, bent))).rejects.toMatchObject({ code: 'audit-unavailable' });
      standing.break({ code: 'audit-forked', words: 'it is another', known: { origin: 'o', size: 1, root: '' } });
      await expect(storage.write((unit) => log.append(unit, event))).rejects.toMatchObject({ code: 'audit-forked' });
    });
  });
});
