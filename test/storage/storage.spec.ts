import { describe, expect, test } from '@jest/globals';
import type { Answer, Engine } from '../../src/storage/engine.js';
import { migrations } from '../../src/storage/migrations/index.js';
import * as postgres from '../../src/storage/postgres-engine.js';
import * as sql from '../../src/storage/sql-storage.js';
import * as units from '../../src/storage/sql-unit.js';
import { eachDatabase } from '../support/database.js';
import { guardOff } from '../support/guard-off.js';

const put = 'INSERT INTO settings (name, value) VALUES (?, ?)';
const names = 'SELECT name FROM settings ORDER BY name';

describe('storage', () => {
  eachDatabase((open, kind) => {
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

    test.each(['alone', 'with another'])('a unit %s that leaves a failing statement un-awaited is not done', async (how) => {
      const { storage } = await open();
      const unit = storage.write(async (unit) => {
        await unit.run(put, ['a', '1']);
        void unit.run(put, ['a', '2']).catch(() => undefined);
        return 'ok';
      });
      const other = how === 'alone' ? undefined : storage.write((unit) => unit.run(put, ['b', '1']));
      await expect(unit).rejects.toThrow(/statement of it was under way|such a row already/);
      expect(await other).toBe(other && 1);
      expect(await storage.all(names)).toEqual(other ? [{ name: 'b' }] : []);
      await storage.write((unit) => unit.run(put, ['c', '1']));
      expect(await storage.all(names)).toContainEqual({ name: 'c' });
    });

    test('a statement under way when its unit ends is a defect that is named; without that guard the unit counts as done', async () => {
      let answer = (_: Answer) => {};
      const engine = { query: () => new Promise<Answer>((resolve) => (answer = resolve)) } as unknown as Engine; // nothing else is asked of it
      const unguarded = guardOff<typeof units>({
        file: 'src/storage/sql-unit.ts',
        guard: 'if (this.#underWay > 0)',
        instead: 'if (false)',
      });
      for (const { SqlUnit, throws } of [
        { ...units, throws: true },
        { ...unguarded, throws: false },
      ]) {
        const unit = new SqlUnit(engine);
        const under = unit.run(put, ['a', '1']);
        if (throws) expect(() => unit.end()).toThrow('a defect: this unit of work ended while a statement of it was under way');
        else unit.end();
        answer({ rows: [], changed: 1 });
        expect(await under).toBe(1);
        await expect(unit.run(put, ['b', '1'])).rejects.toThrow('has ended');
      }
    });

    if (kind === 'postgres')
      test('a COMMIT that PostgreSQL answers with ROLLBACK is none; without that guard it counts as one', async () => {
        const { settings } = await open();
        const unguarded = guardOff<typeof postgres>({
          file: 'src/storage/postgres-engine.ts',
          guard: "if (command !== 'COMMIT')",
          instead: 'if (false)',
        });
        for (const { PostgresEngine, refuses } of [
          { ...postgres, refuses: true },
          { ...unguarded, refuses: false },
        ]) {
          const source = postgres.postgresSource(settings.url, undefined, 'work');
          const engine = new PostgresEngine(await source.initialize());
          try {
            await engine.begin(0);
            await expect(engine.query('SELECT 1 FROM nowhere')).rejects.toThrow('nowhere');
            if (refuses) await expect(engine.commit()).rejects.toMatchObject({ code: 'storage-unavailable' });
            else await engine.commit();
          } finally {
            await engine.close();
          }
        }
      });

    if (kind === 'sqlite')
      test('where SQLite rolls back by itself the first error stands, and the queue goes on; without that guard another takes its place', async () => {
        const database = await open();
        await database.tamper(
          "CREATE TRIGGER full BEFORE INSERT ON settings WHEN NEW.name = 'full' BEGIN SELECT RAISE(ROLLBACK, 'no room left'); END",
        );
        const { storage } = database;
        const { engine } = storage as unknown as { engine: Engine };
        const unguarded = guardOff<typeof sql>({
          file: 'src/storage/sql-storage.ts',
          guard: '.catch(() => this.engine.abandon())',
          instead: '',
        });
        for (const { writer, says } of [
          { writer: storage, says: 'no room left' },
          { writer: new unguarded.SqlStorage(engine), says: 'no transaction is active' },
        ]) {
          const full = writer.write(async (unit) => {
            await unit.run(put, ['a', '1']);
            await unit.run(put, ['full', '1']);
          });
          await expect(full).rejects.toThrow(says);
          expect(await storage.all(names)).toEqual([]);
        }
        await storage.write((unit) => unit.run(put, ['b', '1']));
        expect(await storage.all(names)).toEqual([{ name: 'b' }]);
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
