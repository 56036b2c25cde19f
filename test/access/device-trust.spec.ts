import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { DeviceRegistry } from '../../src/devices/index.js';
import { SystemClock } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';

/** One certificate of an open connection: the guard keeps its digest's bytes as long as that. */
const digest = Buffer.alloc(32, 7);
/** What ends somebody's trust, and what the guard's look-up says from then on. */
const ENDS = [
  { end: "UPDATE devices SET state = 'revoked'", of: 'devices', says: { state: 'revoked' } },
  { end: "UPDATE employees SET state = 'stopped'", of: 'employees', says: { employeeState: 'stopped' } },
  { end: "UPDATE apps SET state = 'stopped'", of: 'apps', says: { appState: 'stopped' } },
  { end: 'DELETE FROM apps', of: 'apps', says: { appState: null } },
  {
    end: "INSERT INTO budget_freezes (scope, subject, counter, since) VALUES ('person', 'anna', 'retrievals', 0)",
    of: 'budget_freezes',
    says: { frozen: 'person' },
  },
  { end: 'DELETE FROM devices', of: 'devices', says: undefined },
] as const;

describe('what is remembered of a device', () => {
  eachDatabase((open, kind) => {
    const known = async () => {
      const database = await open();
      await database.storage.write(async (unit) => {
        await unit.run("INSERT INTO employees (id, state, created) VALUES ('anna', 'active', 0)");
        await unit.run("INSERT INTO apps (id, platform, public_key, state, created) VALUES ('app1', 'linux', ?, 'active', 0)", [digest]);
        await unit.run(
          `INSERT INTO devices (id, employee, certificate_digest, serial, delivery_key, delivery_digest, identity_jkt, platform, app, state, enrolled)
           VALUES ('d1', 'anna', ?, '1', ?, ?, 'jkt', 'linux', 'app1', 'active', 0)`,
          [digest, digest, digest],
        );
      });
      // Looking up asks the database alone.
      const registry = new DeviceRegistry(
        database.storage,
        ...([null, null, null] as never as [never, never, never]),
        new SystemClock(),
        1,
      );
      expect(await registry.find(digest)).toMatchObject({
        id: 'd1',
        state: 'active',
        employeeState: 'active',
        appState: 'active',
        frozen: null,
      });
      // Another request comes in by another turn of the event loop.
      await nextTurn();
      return { database, registry };
    };

    test.each(ENDS)('$end: seen at the next request, whoever says it', async ({ end, says }) => {
      const { database, registry } = await known();
      await database.tamper(end);
      const found = await registry.find(digest);
      if (says) expect(found).toMatchObject(says);
      else expect(found).toBeUndefined();
    });

    test('guard off: without what counts the changes each of these would go unseen', async () => {
      for (const { end, of } of ENDS) {
        const { database, registry } = await known();
        const verb = /^\w+/.exec(end)?.[0].toLowerCase();
        await database.tamper(kind === 'sqlite' ? `DROP TRIGGER ${of}_${verb}_counted` : `DROP TRIGGER ${of}_counted ON ${of}`);
        await database.tamper(end);
        expect(await registry.find(digest)).toMatchObject({ id: 'd1', state: 'active', employeeState: 'active', frozen: null });
      }
    });
  });
});
