import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe } from '@jest/globals';
import Database from 'better-sqlite3';
import pg from 'pg';
import { openStorage, type SqlStorage, type StorageSettings } from '../../src/storage/index.js';

/** An empty database of its own for one test, and a way past the room into it. */
export interface TestDatabase {
  kind: 'sqlite' | 'postgres';
  settings: StorageSettings;
  storage: SqlStorage;
  /** Closes the storage and opens another on the same database, as a restart does. */
  reopen(settings?: Partial<StorageSettings>): Promise<SqlStorage>;
  /** Writes as somebody else would: on a connection of its own. */
  tamper(sql: string): Promise<void>;
}

type Opener = (settings?: Partial<StorageSettings>) => Promise<TestDatabase>;

/** Runs a suite on SQLite and, where EKMS_TEST_POSTGRES names a throw-away cluster, on PostgreSQL. */
export function eachKind(suite: (kind: TestDatabase['kind']) => void): void {
  describe('on SQLite', () => suite('sqlite'));
  if (process.env['EKMS_TEST_POSTGRES']) describe('on PostgreSQL', () => suite('postgres'));
  else {
    process.stderr.write('\n*** EKMS_TEST_POSTGRES is not set: the PostgreSQL half of these tests is SKIPPED ***\n');
    describe.skip('on PostgreSQL', () => suite('postgres'));
  }
}

/** As `eachKind`; `open()` gives each test its own database. */
export const eachDatabase = (suite: (open: Opener, kind: TestDatabase['kind']) => void): void =>
  eachKind((kind) =>
    suite(
      opener(() => lastingDatabase(kind)),
      kind,
    ),
  );

/** For what only PostgreSQL can show: runs where eachDatabase would, with the address of an empty database. */
export function onPostgres(suite: (open: Opener) => void): void {
  const cluster = process.env['EKMS_TEST_POSTGRES'];
  if (cluster) describe('on PostgreSQL', () => suite(opener(() => postgres(cluster))));
  else describe.skip('on PostgreSQL (EKMS_TEST_POSTGRES is not set)', () => suite(opener(sqlite)));
}

/** An address for an empty database that outlives one test; whoever asks removes it. */
export const lastingDatabase = (kind: TestDatabase['kind']): Promise<Place> =>
  kind === 'sqlite' ? sqlite() : postgres(process.env['EKMS_TEST_POSTGRES'] ?? '');

interface Place {
  settings: StorageSettings;
  tamper(sql: string): Promise<void>;
  remove(): Promise<void>;
}

function opener(place: () => Promise<Place>): Opener {
  const done: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const undo of done.splice(0).reverse()) await undo();
  });
  return async (extra = {}) => {
    const { settings, tamper, remove } = await place();
    done.push(remove);
    const all = { ...settings, ...extra };
    const database: TestDatabase = {
      kind: all.url.startsWith('sqlite:') ? 'sqlite' : 'postgres',
      settings: all,
      storage: await openStorage(all),
      tamper,
      reopen: async (more = {}) => {
        await database.storage.close();
        database.storage = await openStorage({ ...all, ...more });
        return database.storage;
      },
    };
    done.push(() => database.storage.close());
    return database;
  };
}

async function sqlite(): Promise<Place> {
  const home = mkdtempSync(join(tmpdir(), 'ekms-db-'));
  return {
    settings: { url: 'sqlite:ekms.db', home },
    tamper: async (sql) => {
      const connection = new Database(join(home, 'ekms.db'), { timeout: 5000 });
      connection.pragma('foreign_keys = OFF');
      connection.exec(sql);
      connection.close();
    },
    remove: async () => rmSync(home, { recursive: true, force: true }),
  };
}

async function postgres(cluster: string): Promise<Place> {
  const name = `ekms_${randomBytes(6).toString('hex')}`;
  const url = new URL(cluster);
  url.pathname = `/${name}`;
  await ask(cluster, `CREATE DATABASE ${name}`);
  return {
    settings: { url: url.href, home: tmpdir() },
    tamper: (sql) => ask(url.href, sql),
    remove: () => ask(cluster, `DROP DATABASE ${name} WITH (FORCE)`),
  };
}

/** What an attacker who owns the database does first: the triggers that keep entries go. */
export const liftKept = (kind: 'sqlite' | 'postgres'): string =>
  kind === 'sqlite'
    ? 'DROP TRIGGER audit_entries_no_update; DROP TRIGGER audit_entries_no_delete;'
    : 'DROP TRIGGER audit_entries_kept ON audit_entries; DROP TRIGGER audit_entries_pruned ON audit_entries;';

async function ask(url: string, sql: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
