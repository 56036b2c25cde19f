import { describe, expect, test } from '@jest/globals';
import { AuditReader, BoundedAuditLog, DurableAuditLog } from '../../src/audit/index.js';
import { Clock, Fault, orRefused, type Storage } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';

class TestClock extends Clock {
  time = Date.parse('2026-11-25T12:00:00.000Z');
  override now(): Date {
    return new Date(this.time);
  }
}

describe('a log that nobody fills with their refusals', () => {
  eachDatabase((database) => {
    const open = (storage: Storage, minute = 3, day = 5) => {
      const clock = new TestClock();
      const audit = new BoundedAuditLog(new DurableAuditLog(clock), clock, { minute, day });
      const refuse = async (network: string, code = 'app-unknown') => {
        const attempt = { action: 'app.admit', actor: { kind: 'stranger' }, personal: { network } } as const;
        const fault = new Fault('unauthenticated', code, 'no');
        await expect(orRefused({ storage, audit }, attempt, () => Promise.reject(fault))).rejects.toBe(fault);
      };
      const log = async () => (await new AuditReader(storage).latest(100)).map(({ body }) => body);
      return { clock, audit, refuse, log };
    };

    test('so many refusals of a source are entries, the others a number; other sources are listed all the same', async () => {
      const { storage } = await database();
      const { clock, audit, refuse, log } = open(storage);
      for (let n = 0; n < 10; n++) await refuse('10.1.6.6');
      await refuse('10.1.6.6', 'app-clock');
      await refuse('10.1.0.7');
      expect(await log()).toHaveLength(4);
      await audit.settle(storage);
      expect(await log()).toHaveLength(4);
      clock.time += 60_000;
      await refuse('10.1.6.6', 'app-replayed'); // who never pauses is told of all the same
      await audit.settle(storage);
      const counted = { action: 'refusals.count', outcome: 'refused' };
      expect((await log()).slice(5)).toMatchObject([
        { ...counted, reason: 'app-unknown', facts: { of: 'app.admit', count: 7 } },
        { ...counted, reason: 'app-clock', facts: { of: 'app.admit', count: 1 } },
      ]);
      await audit.settle(storage);
      expect(await log()).toHaveLength(7);
      // The next minute has entries again, until the day's are used up.
      for (let n = 0; n < 10; n++) await refuse('10.1.6.6');
      await audit.settle(storage, true);
      expect((await log()).slice(7)).toMatchObject([{ action: 'app.admit' }, { facts: { count: 9 } }]);
    });

    test('a count that could not be written is not lost', async () => {
      const { storage } = await database();
      const { audit, refuse, log } = open(storage, 1);
      for (let n = 0; n < 4; n++) await refuse('10.1.6.6');
      const away = { write: () => Promise.reject(new Fault('unavailable', 'storage-unavailable', 'away')) } as unknown as Storage;
      await expect(audit.settle(away, true)).rejects.toMatchObject({ code: 'storage-unavailable' });
      await refuse('10.1.6.6');
      await audit.settle(storage, true);
      expect((await log()).at(-1)).toMatchObject({ facts: { count: 4 } });
    });
  });
});
