import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { DurableAuditLog } from '../../src/audit/index.js';
import { remember } from '../../src/custody/backups.js';
import { TokenKeyRotation } from '../../src/custody/token-key-rotation.js';
import { SystemClock } from '../../src/foundation/index.js';
import { OnePlace } from '../../src/keys/index.js';
import type { SuccessorName, Token, TokenKeyInfo } from '../../src/tokens/index.js';
import { eachDatabase } from '../support/database.js';

describe('two rotations of token keys at once', () => {
  eachDatabase((open) => {
    test('on one node each is done, with its entry; on another it is refused, and hides nobody’s entry', async () => {
      const { storage } = await open();
      const clock = new SystemClock();
      const audit = new DurableAuditLog(clock);
      const now = new Map<SuccessorName, number>();
      let held: Promise<void> | undefined;
      const token = {
        tokenKeys: async () => [...now].map(([name, n]) => ({ name, n }) as TokenKeyInfo),
        succeedKey: async (name: SuccessorName, n: number) => {
          await turn();
          await held;
          now.set(name, n);
          return { publicKey: Buffer.from(`${name} ${n}`) };
        },
      } as unknown as Token;
      const node = () =>
        new TokenKeyRotation({
          ...{ storage, audit, token, clock, urls: {} as never, authorities: {} as never, second: new OnePlace() },
          ready: async () => {},
        });
      const [one, other] = [node(), node()];
      const entries = async () => {
        const rows = await storage.all<{ body: string }>("SELECT body FROM audit_entries WHERE action = 'token-key.rotate' ORDER BY idx");
        return rows.map(({ body }) => `${JSON.parse(body).facts.name} ${JSON.parse(body).facts.n}`);
      };
      const by = { kind: 'operator' } as const;
      await Promise.all([one.rotate('mail', by), one.rotate('delivery', by), one.resume()]);
      expect(await entries()).toEqual(['mail 2', 'delivery 2']);

      // What a crash left begun is finished by who asks for it again, and is not done twice.
      await storage.write((unit) => remember(unit, 'custody.key-rotation', { name: 'mail', n: 3, by }));
      expect(await other.rotate('mail', by)).toEqual({ name: 'mail', n: 3 });
      expect(await entries()).toEqual(['mail 2', 'delivery 2', 'mail 3']);

      // Both have seen that nothing is begun when each writes down what it begins.
      let go = () => {};
      held = new Promise((resolve) => {
        go = resolve;
      });
      const both = Promise.allSettled([one.rotate('mail', by), other.rotate('delivery', by)]);
      for (let waited = 0; waited < 20; waited += 1) await turn();
      go();
      const ended = await both;
      const done = ended.filter(({ status }) => status === 'fulfilled').length;
      expect((await entries()).length).toBe(3 + done);
      for (const one of ended) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'rotation-under-way' });
      expect(await storage.all("SELECT name FROM settings WHERE name = 'custody.key-rotation'")).toEqual([]);
    });
  });
});
