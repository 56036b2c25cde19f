import { describe, expect, test } from '@jest/globals';
import { migrations } from '../../src/storage/migrations/index.js';
import { eachDatabase } from '../support/database.js';

const put = 'INSERT INTO settings (name, value) VALUES (?, ?)';
const names = 'SELECT name FROM settings ORDER BY name';

describe('storage', () => {
  eachDatabase((open) => {
    test('what a unit wrote is there once it resolved, also after a restart', async () => {
      const database = await open();
      await database.storage.write(async (unit) => {
        expect(await unit.run(put, ['a', '1'])).toBe(1);
        expect(await unit.one('SELECT value FROM settings WHERE name = ?', ['a'])).toEqual({ value: '1' });
      });
      expect(await database.storage.all(names)).toEqual([{ name: 'a' }]);
      const again = await database.reopen();
      expect(await again.all(names)).toEqual([{ name: 'a' }]);
    });

    test('values come back as they went in, on both databases alike', async () => {
      const { storage } = await open();
      const bytes = new Uint8Array([0, 1, 254, 255]);
      await storage.write(async (unit) => {
        await unit.run('INSERT INTO crls (authority, number, der, next_update) VALUES (?, ?, ?, ?)', [
          "people's ?",
          7,
          bytes,
          1795500000000,
        ]);
      });
      const row = await storage.one<{ der: Buffer }>(
        "SELECT authority, number, der, next_update FROM crls WHERE authority <> '?' AND number = ?",
        [7],
      );
      expect(row).toEqual({ authority: "people's ?", number: 7, der: Buffer.from(bytes), next_update: 1795500000000 });
      expect(Buffer.isBuffer(row?.der)).toBe(true);
      expect(
        await storage.one('SELECT count(*) AS n, sum(number) AS s, max(next_update) AS t, max(reason) AS r FROM crls, certificates'),
      ).toEqual({
        n: 0,
        s: null,
        t: null,
        r: null,
      });
      expect(await storage.one('SELECT count(*) AS n, sum(number) AS s FROM crls')).toEqual({ n: 1, s: 7 });
    });

    test('a unit that fails leaves nothing and spoils no neighbour of its batch', async () => {
      const { storage } = await open();
      const outcomes = await Promise.allSettled(
        ['a', 'b', 'c', 'd'].map((name) =>
          storage.write(async (unit) => {
            await unit.run(put, [name, '1']);
            if (name === 'b') throw new Error('changed my mind');
            if (name === 'c') await unit.run(put, ['a', '2']);
            return name;
          }),
        ),
      );
      expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled']);
      expect((outcomes[1] as PromiseRejectedResult).reason).toMatchObject({ message: 'changed my mind' });
      expect((outcomes[2] as PromiseRejectedResult).reason).toMatchObject({ kind: 'conflict', code: 'duplicate' });
      expect(await storage.all(names)).toEqual([{ name: 'a' }, { name: 'd' }]);
    });

    test('a unit whose author swallowed a failed statement is not half committed', async () => {
      const { storage } = await open();
      await storage.write((unit) => unit.run(put, ['a', '1']));
      const unit = storage.write(async (unit) => {
        await unit.run(put, ['b', '1']);
        await unit.run(put, ['a', '2']).catch(() => undefined);
        await unit.run(put, ['c', '1']).catch(() => undefined);
      });
      await expect(unit).rejects.toMatchObject({ code: 'duplicate' });
      expect(await storage.all(names)).toEqual([{ name: 'a' }]);
    });

    test('a unit is no use after its work has ended', async () => {
      const { storage } = await open();
      const escaped = await storage.write(async (unit) => ({ unit }));
      await expect(escaped.unit.run(put, ['a', '1'])).rejects.toThrow('has ended');
      expect(await storage.all(names)).toEqual([]);
    });

    test('readers see nothing of a unit before it is committed', async () => {
      const { storage } = await open();
      await storage.write(async (unit) => {
        await unit.run(put, ['a', '1']);
        expect(await storage.all(names)).toEqual([]);
      });
      expect(await storage.all(names)).toEqual([{ name: 'a' }]);
    });

    test('500 writers at once: each is done once, none meets another', async () => {
      const { storage } = await open();
      await storage.write((unit) => unit.run(put, ['n', '0']));
      await Promise.all(
        Array.from({ length: 500 }, () =>
          storage.write(async (unit) => {
            const row = await unit.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', ['n']);
            await unit.run('UPDATE settings SET value = ? WHERE name = ?', [String(Number(row?.value) + 1), 'n']);
          }),
        ),
      );
      expect(await storage.one('SELECT value FROM settings')).toEqual({ value: '500' });
    });

    test('work that takes too long is undone and says so; the queue goes on', async () => {
      const { storage } = await open({ limits: { deadline: 200 } });
      const slow = storage.write(async (unit) => {
        await unit.run(put, ['slow', '1']);
        await new Promise((resolve) => setTimeout(resolve, 600));
        await unit.run(put, ['slow2', '1']);
      });
      await expect(slow).rejects.toMatchObject({ code: 'storage-unavailable' });
      await storage.write((unit) => unit.run(put, ['next', '1']));
      await new Promise((resolve) => setTimeout(resolve, 600));
      expect(await storage.all(names)).toEqual([{ name: 'next' }]);
    });

    test('a full queue refuses at once and takes units again when it has drained', async () => {
      const { storage } = await open({ limits: { waiting: 2, batch: 1 } });
      let release = () => {};
      const held = storage.write(() => new Promise<void>((resolve) => (release = resolve)));
      await new Promise((resolve) => setTimeout(resolve, 20));
      const waiting = ['w1', 'w2'].map((name) => storage.write((unit) => unit.run(put, [name, '1'])));
      await expect(storage.write((unit) => unit.run(put, ['x', '1']))).rejects.toMatchObject({ code: 'storage-busy', retryAfter: 1 });
      release();
      await Promise.all([held, ...waiting]);
      await storage.write((unit) => unit.run(put, ['y', '1']));
      expect(await storage.all(names)).toEqual([{ name: 'w1' }, { name: 'w2' }, { name: 'y' }]);
    });

    test('closing waits for what is queued, then takes no more', async () => {
      const database = await open();
      const queued = [1, 2, 3].map((n) => database.storage.write((unit) => unit.run(put, [`q${n}`, '1'])));
      await database.storage.close();
      expect(await Promise.all(queued)).toEqual([1, 1, 1]);
      await expect(database.storage.write((unit) => unit.run(put, ['late', '1']))).rejects.toMatchObject({ code: 'storage-unavailable' });
      expect(await (await database.reopen()).all(names)).toHaveLength(3);
    });

    test('a statement that is wrong is a defect and shows none of its values', async () => {
      const { storage } = await open();
      const wrong = storage.write((unit) => unit.run('INSERT INTO nowhere (name) VALUES (?)', ['secret-value']));
      await expect(wrong).rejects.not.toHaveProperty('code');
      await expect(wrong).rejects.toThrow(/nowhere/);
      const error: unknown = await wrong.catch((reason: unknown) => reason);
      expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('secret-value');
    });

    test('a database of a newer version is refused with what to do', async () => {
      const database = await open();
      await database.tamper("INSERT INTO migrations (timestamp, name) VALUES (1999999999999, 'Telepathy1999999999999')");
      await expect(database.reopen()).rejects.toMatchObject({
        kind: 'misconfigured',
        code: 'database-newer',
        message: expect.stringMatching(/Telepathy.*install that version/),
      });
    });

    test('opening twice in a row runs each migration once', async () => {
      const database = await open();
      await database.reopen();
      expect(await database.storage.one('SELECT count(*) AS n FROM migrations')).toEqual({ n: migrations.length });
    });

    test('one active key per employee, profile and suite; no pair has two owners', async () => {
      const { storage } = await open();
      const key = (id: string, state: string, digest: number) =>
        storage.write(async (unit) => {
          await unit.run('INSERT INTO employees (id, state, created) VALUES (?, ?, ?) ON CONFLICT DO NOTHING', ['anna', 'active', 1]);
          await unit.run(
            `INSERT INTO keys (id, version, employee, suite, bits, state, mode, kek, public_key_digest, public_key, wrapped, mac, created)
             VALUES (?, 1, 'anna', 'rsa', 3072, ?, 'deliver', 'k', ?, ?, ?, ?, 1)`,
            [id, state, Buffer.alloc(32, digest), Buffer.alloc(1), Buffer.alloc(1), Buffer.alloc(1)],
          );
        });
      await key('k1', 'active', 1);
      await expect(key('k2', 'active', 2)).rejects.toMatchObject({ code: 'duplicate' });
      await key('k3', 'deactivated', 3);
      await expect(key('k4', 'deactivated', 3)).rejects.toMatchObject({ code: 'duplicate' });
    });
  });
});
