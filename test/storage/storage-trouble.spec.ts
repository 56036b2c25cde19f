import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { AuditReader, checkLog, DurableAuditLog } from '../../src/audit/index.js';
import { SystemClock } from '../../src/foundation/index.js';
import { openStorage, type SqlStorage } from '../../src/storage/index.js';
import { migrations } from '../../src/storage/migrations/index.js';
import { type CuttableProxy, cuttableProxy } from '../support/cuttable-proxy.js';
import { onPostgres } from '../support/database.js';

const put = 'INSERT INTO settings (name, value) VALUES (?, ?)';
const names = 'SELECT name FROM settings ORDER BY name';
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const unavailable = { kind: 'unavailable', code: 'storage-unavailable' };

describe('storage in trouble', () => {
  const undo: (() => void | Promise<void>)[] = [];
  afterEach(async () => {
    for (const step of undo.splice(0).reverse()) await step();
  });
  const keepOpen = (storage: SqlStorage) => {
    undo.push(() => storage.close());
    return storage;
  };
  const folder = () => {
    const home = mkdtempSync(join(tmpdir(), 'ekms-trouble-'));
    undo.push(() => rmSync(home, { recursive: true, force: true }));
    return home;
  };

  describe('on SQLite', () => {
    const url = 'sqlite:ekms.db';

    test('a database that somebody else holds is waited for without holding up the process, then refused', async () => {
      const home = folder();
      const storage = keepOpen(await openStorage({ url, home, limits: { deadline: 1_000 } }));
      const other = new Database(join(home, 'ekms.db'));
      undo.push(() => other.close() && undefined);
      other.exec('BEGIN IMMEDIATE');
      const patient = storage.write((unit) => unit.run(put, ['patient', '1']));
      let turns = 0;
      const ticking = setInterval(() => turns++, 10);
      await wait(400);
      clearInterval(ticking);
      expect(turns).toBeGreaterThan(5);
      other.exec('COMMIT');
      expect(await patient).toBe(1);
      other.exec('BEGIN IMMEDIATE');
      const started = performance.now();
      await expect(storage.write((unit) => unit.run(put, ['late', '1']))).rejects.toMatchObject(unavailable);
      expect(performance.now() - started).toBeLessThan(2_000);
      expect(await storage.all(names)).toEqual([{ name: 'patient' }]); // readers were never held up
      other.exec('COMMIT');
      expect(await storage.write((unit) => unit.run(put, ['next', '1']))).toBe(1);
      expect(await storage.all(names)).toEqual([{ name: 'next' }, { name: 'patient' }]);
    });

    const tmpfs = process.getuid?.() === 0 ? test : test.skip;
    tmpfs('a full disk: clear refusals, nothing half written, and work goes on once there is room', async () => {
      const home = folder();
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', home]);
      undo.push(() => void execFileSync('umount', ['-l', home]));
      const storage = keepOpen(await openStorage({ url, home }));
      const log = new DurableAuditLog(new SystemClock());
      const act = (n: number) =>
        storage.write(async (unit) => {
          await unit.run(put, [`act${String(n).padStart(3, '0')}`, 'x'.repeat(60_000)]);
          return log.append(unit, { action: 'policy.change', outcome: 'done', actor: { kind: 'system' } });
        });
      writeFileSync(join(home, 'ballast'), Buffer.alloc(2 ** 20));
      const outcomes: PromiseSettledResult<unknown>[] = [];
      for (let n = 0; n < 100; n += 4) outcomes.push(...(await Promise.allSettled([act(n), act(n + 1), act(n + 2), act(n + 3)])));
      const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
      expect(refused.length).toBeGreaterThan(0);
      for (const { reason } of refused)
        expect(reason).toMatchObject({
          kind: 'unavailable',
          code: expect.stringMatching(/^(storage|audit)-unavailable$/),
          message: expect.stringMatching(/disk is full/),
        });
      rmSync(join(home, 'ballast'));
      await act(999);
      const kept = outcomes.length - refused.length + 1;
      expect((await storage.all(names)).length).toBe(kept);
      expect(await new AuditReader(storage).size()).toBe(kept);
      expect((await checkLog(storage)).problems).toEqual([]);
    });

    test('a file that is no database, or no file at all, is refused with its reason', async () => {
      const home = folder();
      writeFileSync(join(home, 'ekms.db'), 'this is not a database, '.repeat(400));
      await expect(openStorage({ url, home })).rejects.toMatchObject({
        code: 'storage-unavailable',
        message: expect.stringMatching(/damaged/),
      });
      mkdirSync(join(home, 'folder.db'));
      await expect(openStorage({ url: 'sqlite:folder.db', home })).rejects.toMatchObject({
        kind: 'misconfigured',
        code: 'database-unusable',
      });
    });

    test('only the owner may read the database, its WAL and what lies beside it', async () => {
      const home = folder();
      const storage = keepOpen(await openStorage({ url, home }));
      await storage.write((unit) => unit.run(put, ['a', '1']));
      for (const file of ['ekms.db', 'ekms.db-wal', 'ekms.db-shm']) expect(statSync(join(home, file)).mode & 0o777).toBe(0o600);
    });

    test('the database is durable, small-paged and left without a WAL when it closes', async () => {
      const home = folder();
      const storage = await openStorage({ url, home });
      const seen = await storage.write(async (unit) => [
        await unit.one('PRAGMA journal_mode'),
        await unit.one('PRAGMA synchronous'),
        await unit.one('PRAGMA foreign_keys'),
        await unit.one('PRAGMA page_size'),
      ]);
      expect(seen).toEqual([{ journal_mode: 'wal' }, { synchronous: 2 }, { foreign_keys: 1 }, { page_size: 8192 }]);
      await storage.close();
      expect(() => statSync(join(home, 'ekms.db-wal'))).toThrow(/ENOENT/);
    });

    test('whatever reads cannot write, while a unit is under way and between', async () => {
      const storage = keepOpen(await openStorage({ url, home: folder() }));
      const writing = () => storage.all("INSERT INTO settings (name, value) VALUES ('a', '1') RETURNING name");
      await expect(writing()).rejects.toThrow(/read-?only/);
      await storage.write(async () => {
        await expect(writing()).rejects.toThrow(/read-?only/);
      });
      expect(await storage.all("SELECT name FROM settings WHERE name = 'a'")).toEqual([]);
    });
  });

  onPostgres((open) => {
    let proxy: CuttableProxy;
    async function behindProxy() {
      const { settings } = await open();
      const url = new URL(settings.url);
      proxy = await cuttableProxy({ host: url.hostname, port: Number(url.port) });
      url.hostname = '127.0.0.1';
      url.port = String(proxy.port);
      undo.push(() => proxy.close());
      return keepOpen(await openStorage({ ...settings, url: url.href, limits: { deadline: 1_000 } }));
    }

    test('a lost connection is a clear refusal, and work goes on by itself when the server is back', async () => {
      const storage = await behindProxy();
      await storage.write((unit) => unit.run(put, ['before', '1']));
      const during = storage.write(async (unit) => {
        await unit.run(put, ['during', '1']);
        proxy.cut();
        await wait(50);
        await unit.run(put, ['during2', '1']);
      });
      await expect(during).rejects.toMatchObject(unavailable);
      const started = performance.now();
      await expect(storage.write((unit) => unit.run(put, ['down', '1']))).rejects.toMatchObject(unavailable);
      await expect(storage.all(names)).rejects.toMatchObject(unavailable);
      expect(performance.now() - started).toBeLessThan(2_000);
      proxy.mend();
      await storage.write((unit) => unit.run(put, ['after', '1']));
      expect(await storage.all(names)).toEqual([{ name: 'after' }, { name: 'before' }]);
    });

    test('connections that died while idle are replaced without anybody noticing', async () => {
      const storage = await behindProxy();
      await storage.write((unit) => unit.run(put, ['before', '1']));
      await storage.all(names);
      proxy.cut();
      proxy.mend();
      await wait(50);
      await storage.write((unit) => unit.run(put, ['after', '1']));
      expect(await storage.all(names)).toHaveLength(2);
    });

    test('a server that hangs is refused within the deadline, and left for a new connection', async () => {
      const storage = await behindProxy();
      await storage.write((unit) => unit.run(put, ['before', '1']));
      proxy.hang();
      const started = performance.now();
      await expect(storage.write((unit) => unit.run(put, ['hung', '1']))).rejects.toMatchObject(unavailable);
      expect(performance.now() - started).toBeLessThan(5_000);
      proxy.mend();
      await wait(50);
      await storage.write((unit) => unit.run(put, ['after', '1']));
      expect(await storage.all(names)).toEqual([{ name: 'after' }, { name: 'before' }]);
    }, 20_000);

    test('a server that hangs at the COMMIT is refused in the time that a statement has', async () => {
      const storage = await behindProxy();
      const started = performance.now();
      proxy.hang('COMMIT');
      await expect(storage.write((unit) => unit.run(put, ['stuck', '1']))).rejects.toMatchObject(unavailable);
      expect(performance.now() - started).toBeGreaterThan(1_000); // not answered at the deadline: by then it may be durable
      expect(performance.now() - started).toBeLessThan(7_000);
      proxy.mend();
      await storage.write((unit) => unit.run(put, ['after', '1']));
    }, 30_000);

    test('no server at all: openStorage says so soon, and keeps the password to itself', async () => {
      const started = performance.now();
      const error: unknown = await openStorage({ url: 'postgres://ekms:hunter2@127.0.0.1:1/ekms', home: tmpdir() }).catch(
        (reason: unknown) => reason,
      );
      expect(error).toMatchObject(unavailable);
      expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('hunter2');
      expect(performance.now() - started).toBeLessThan(5_000);
    });

    test('two nodes on one database: one log, no gap, no counter met twice', async () => {
      const { settings, storage } = await open();
      const other = keepOpen(await openStorage(settings));
      const log = new DurableAuditLog(new SystemClock());
      await Promise.all(
        Array.from({ length: 200 }, (_, n) =>
          [storage, other][n % 2]?.write((unit) =>
            log.append(unit, { action: 'appliance.start', outcome: 'done', actor: { kind: 'system' } }),
          ),
        ),
      );
      expect(await checkLog(other)).toEqual({ size: 200, keys: 0, problems: [] });
    });

    test('two nodes on one database: what a unit has read is still so when it writes', async () => {
      const { settings, storage } = await open();
      const other = keepOpen(await openStorage(settings));
      await storage.write((unit) => unit.run(put, ['n', '0']));
      const count = (node: SqlStorage) =>
        node.write(async (unit) => {
          const row = await unit.one<{ value: string }>("SELECT value FROM settings WHERE name = 'n'");
          await unit.run("UPDATE settings SET value = ? WHERE name = 'n'", [String(Number(row?.value) + 1)]);
        });
      await Promise.all(Array.from({ length: 200 }, (_, n) => count(n % 2 ? storage : other)));
      expect(await storage.one('SELECT value FROM settings')).toEqual({ value: '200' });
    });

    test('a node held up by another is refused in time, and nobody meets its broken transaction', async () => {
      const { settings, storage: other } = await open({ limits: { deadline: 20_000 } });
      const storage = keepOpen(await openStorage({ ...settings, limits: { deadline: 500 } }));
      const holding = other.write(() => wait(5_000));
      await wait(100);
      const started = performance.now();
      await expect(storage.write((unit) => unit.run(put, ['held', '1']))).rejects.toMatchObject(unavailable);
      expect(performance.now() - started).toBeLessThan(4_000);
      await holding;
      for (let n = 0; n < 5; n++) expect(await storage.all(names)).toEqual([]);
      expect(await storage.write((unit) => unit.run(put, ['next', '1']))).toBe(1);
    }, 20_000);

    test('two nodes that start at once migrate once', async () => {
      const { settings, storage, tamper } = await open();
      await storage.close();
      await tamper('DROP SCHEMA public CASCADE; CREATE SCHEMA public');
      const nodes = await Promise.all([openStorage(settings), openStorage(settings), openStorage(settings)]);
      for (const node of nodes) keepOpen(node);
      expect(await nodes[0]?.one('SELECT count(*) AS n FROM migrations')).toEqual({ n: migrations.length });
    });

    test('a server that does not keep what it acknowledges is refused', async () => {
      const { settings, tamper } = await open();
      const name = new URL(settings.url).pathname.slice(1);
      await tamper(`ALTER DATABASE ${name} SET synchronous_commit = off`);
      await expect(openStorage(settings)).rejects.toMatchObject({
        code: 'database-unusable',
        message: expect.stringMatching(/synchronous_commit/),
      });
    });
  });
});
