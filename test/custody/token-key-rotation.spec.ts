import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { DurableAuditLog } from '../../src/audit/index.js';
import { remember } from '../../src/custody/backups.js';
import { TokenKeyRotation } from '../../src/custody/token-key-rotation.js';
import { Fault, SystemClock } from '../../src/foundation/index.js';
import { OnePlace } from '../../src/keys/index.js';
import type { SuccessorName, Token, TokenKeyInfo } from '../../src/tokens/index.js';
import { eachDatabase } from '../support/database.js';
import { guardOff } from '../support/guard-off.js';

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

const by = { kind: 'operator' } as const;
const away = () => Promise.reject(new Fault('unavailable', 'second-place-away', 'away', 30));

/** A token that counts, and demands that nothing is left out. */
function counting(now: Map<string, number>) {
  const next = (name: string, n: number) => {
    const serves = now.get(name) ?? 1;
    if (n !== serves && n !== serves + 1) throw new Fault('conflict', 'key-number', `${serves} serves`);
  };
  return {
    tokenKeys: async () => [...now].map(([name, n]) => ({ name, n }) as TokenKeyInfo),
    prepareAuthority: async (name: string, n: number) => next(name, n),
    succeedKey: async (name: string, n: number) => {
      next(name, n);
      now.set(name, n);
      return { publicKey: Buffer.from(`${name} ${n}`) };
    },
    retireKey: async () => ({ destroyed: [1] }),
  } as unknown as Token;
}

describe('a rotation that was begun and cannot be finished as it stands', () => {
  eachDatabase((open) => {
    async function ekms(keys: readonly (readonly [string, number])[], ...begun: { name: string; n: number }[]) {
      const { storage } = await open();
      const clock = new SystemClock();
      const now = new Map(keys);
      const audit = new DurableAuditLog(clock);
      const parts = { storage, audit, token: counting(now), clock, urls: {} as never, authorities: {} as never, ready: async () => {} };
      for (const each of begun) await storage.write((unit) => remember(unit, 'custody.key-rotation', { ...each, by }));
      const rows = (sql: string) => storage.all<{ text: string }>(sql);
      return {
        ...{ now, parts },
        begun: async () =>
          (await rows("SELECT value AS text FROM settings WHERE name LIKE 'custody.key-rotation%'")).map(
            ({ text }) => JSON.parse(text).name,
          ),
        said: async () =>
          (await rows("SELECT body AS text FROM audit_entries WHERE action LIKE 'token-key.%' ORDER BY idx"))
            .map(({ text }) => JSON.parse(text))
            .map(({ action, outcome, facts: { name, n } }) => `${action} ${outcome} ${name} ${n}`),
      };
    }

    test('one that a restore has overtaken is over, with an entry; with the guard off no key is rotated or retired any more', async () => {
      const { parts, begun, said, now } = await ekms([['devices', 3]], { name: 'devices', n: 2 });
      const off = guardOff<{ TokenKeyRotation: typeof TokenKeyRotation }>({
        file: 'src/custody/token-key-rotation.ts',
        guard: '(await this.#serving(name)) > n',
        instead: 'false',
      });
      const stuck = new off.TokenKeyRotation({ ...parts, second: new OnePlace() });
      for (const act of [stuck.rotate('devices', by), stuck.rotate('mail', by), stuck.retire('mail', by), stuck.resume()])
        await expect(act).rejects.toMatchObject({ code: 'key-number' });
      const rotation = new TokenKeyRotation({ ...parts, second: new OnePlace() });
      // Asked for, it is a new one, not said to be the one that was begun.
      expect(await rotation.rotate('devices', by)).toEqual({ name: 'devices', n: 4 });
      expect([await begun(), now.get('devices')]).toEqual([[], 4]);
      expect(await said()).toEqual(['token-key.rotate failed devices 2', 'token-key.rotate done devices 4']);
    });

    test('one that waits for the second place lets pass what the place need not know; with the guard off it holds up all', async () => {
      const { parts, begun, said, now } = await ekms([]);
      const waiting = new TokenKeyRotation({ ...parts, second: { requireKnown: away, succeeding: away } });
      await expect(waiting.rotate('devices', by)).rejects.toMatchObject({ code: 'second-place-away' });
      const off = guardOff<{ TokenKeyRotation: typeof TokenKeyRotation }>({
        file: 'src/custody/token-key-rotation.ts',
        guard: "|| !isFault(error, 'second-place-away')",
        instead: '|| true',
      });
      const stuck = new off.TokenKeyRotation({ ...parts, second: { requireKnown: away, succeeding: away } });
      for (const act of [stuck.rotate('mail', by), stuck.retire('mail', by)])
        await expect(act).rejects.toMatchObject({ code: 'second-place-away' });
      expect(await waiting.rotate('mail', by)).toEqual({ name: 'mail', n: 2 });
      expect(await waiting.retire('mail', by)).toEqual({ destroyed: [1] });
      for (const act of [waiting.rotate('people', by), waiting.rotate('devices', by), waiting.resume()])
        await expect(act).rejects.toMatchObject({ code: 'second-place-away' });
      expect([await begun(), now.get('devices'), now.get('people')]).toEqual([['devices'], undefined, undefined]);
      await new TokenKeyRotation({ ...parts, second: new OnePlace() }).resume();
      expect([await begun(), now.get('devices')]).toEqual([[], 2]);
      expect(await said()).toEqual(['token-key.rotate done mail 2', 'token-key.destroy done mail 1', 'token-key.rotate done devices 2']);
    });
  });
});
