import { describe, expect, test } from '@jest/globals';
import { AuditReports, DurableAuditLog, SearchIndex } from '../../src/audit/index.js';
import { siteOf, type Use, unusualUses } from '../../src/audit/reports/unusual-uses.js';
import { type AuditEvent, Clock, type Storage } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';

const DAY = 86_400_000;
const START = Date.parse('2026-03-01T09:00:00.000Z');

class MovingClock extends Clock {
  time = START;
  override now(): Date {
    return new Date(this.time);
  }
}

async function houseOf(storage: Storage) {
  const clock = new MovingClock();
  const log = new DurableAuditLog(clock);
  const says = (...events: AuditEvent[]) =>
    storage.write(async (unit) => {
      for (const event of events) await log.append(unit, event);
    });
  const fetches = (device: string, network: string, times = 1, outcome: 'done' | 'refused' = 'done') =>
    says(
      ...Array.from(
        { length: times },
        (): AuditEvent => ({
          ...{ action: 'key.deliver', outcome, actor: { kind: 'device', id: device }, device, employee: 'anna', personal: { network } },
        }),
      ),
    );
  const reports = new AuditReports(storage, log, clock, new SearchIndex(storage));
  return {
    clock,
    says,
    fetches,
    make: (name: Parameters<AuditReports['make']>[0], range = {}) => reports.make(name, range, { actor: { kind: 'operator' } }),
  };
}

describe('reports', () => {
  eachDatabase((open) => {
    test('keys released by day; what is unusual of them; devices not heard of; recoveries; and reading them is an entry', async () => {
      const { storage } = await open();
      const { clock, says, fetches, make } = await houseOf(storage);
      await storage.write(async (unit) => {
        await unit.run("INSERT INTO employees (id, state, created) VALUES ('anna', 'active', 1)");
        for (const [n, id] of ['laptop', 'phone', 'ended'].entries())
          await unit.run(
            `INSERT INTO devices (id, employee, certificate_digest, serial, delivery_key, delivery_digest, identity_jkt, platform, app, state, enrolled)
             VALUES (?, 'anna', ?, 's', ?, ?, ?, 'linux', 'a', ?, ?)`,
            [id, Buffer.of(n), Buffer.of(n), Buffer.of(n), id, id === 'ended' ? 'revoked' : 'active', START - 200 * DAY],
          );
      });
      for (let day = 0; day < 5; day += 1) {
        clock.time = START + day * DAY;
        await fetches('laptop', `10.1.0.${day + 1}`, day === 3 ? 40 : 2);
      }
      await fetches('laptop', '10.9.9.9');
      await fetches('laptop', '10.1.0.9', 3, 'refused');
      await says({
        action: 'recovery.file',
        outcome: 'done',
        actor: { kind: 'administrator', id: 'rita' },
        employee: 'anna',
        subject: 'case',
        facts: { reason: 'legal' },
      });
      // Somebody's mailbox is read by their key: a release, and part of a recovery.
      await says({
        action: 'key.read',
        outcome: 'done',
        actor: { kind: 'administrator', id: 'rita' },
        employee: 'anna',
        subject: 'case',
        key: 'k',
      });
      clock.time += 1_000;

      expect((await make('releases')).rows).toEqual([
        ...['2026-03-01', '2026-03-02', '2026-03-03'].map((day) => ({ day, released: 2, refused: 0, keys: 0, people: 1, devices: 1 })),
        { day: '2026-03-04', released: 40, refused: 0, keys: 0, people: 1, devices: 1 },
        { day: '2026-03-05', released: 4, refused: 3, keys: 1, people: 1, devices: 1 },
      ]);
      expect((await make('releases', { from: START + 2 * DAY, to: START + 3 * DAY })).rows).toHaveLength(1);
      expect((await make('unusual')).rows).toMatchObject([
        { index: 6, why: 'many', day: '2026-03-04', device: 'laptop', count: 40, usual: 2 },
        { index: 48, why: 'new-network', day: '2026-03-05', network: '10.9.9.0/24' },
      ]);
      expect((await make('dormant')).rows).toMatchObject([{ device: 'phone', last: null }]);
      expect((await make('dormant', { from: clock.time - 500 })).rows).toMatchObject([
        { device: 'laptop', last: '2026-03-05T09:00:00.000Z' },
        { device: 'phone' },
      ]);
      expect((await make('recoveries')).rows).toMatchObject([
        { action: 'recovery.file', actor: 'rita', case: 'case', why: 'legal' },
        { action: 'key.read', actor: 'rita', case: 'case', employee: 'anna' },
      ]);
      const { body } = (await storage.one<{ body: string }>('SELECT body FROM audit_entries ORDER BY idx DESC LIMIT 1')) ?? { body: '{}' };
      expect(JSON.parse(body)).toMatchObject({ action: 'audit.report', facts: { report: 'recoveries', rows: 2 } });
    });
  });

  test('a device’s first day, and an address that changes within its network, are nothing unusual', () => {
    const use = (index: number, day: string, address: string): Use => ({ index, day, device: 'd', employee: 'e', site: siteOf(address) });
    expect(unusualUses([use(0, '2026-03-01', '10.1.0.1'), use(1, '2026-03-01', '10.2.0.1'), use(2, '2026-03-02', '10.1.0.200')])).toEqual(
      [],
    );
    expect(siteOf('fd00:1:2:3:4::5')).toBe('fd00:1:2:3::/64');
  });
});
