import { resolve } from 'node:path';
import Database from 'better-sqlite3';
import type { DataSource, QueryRunner } from 'typeorm';
import { Fault, type SqlValue } from '../foundation/index.js';
import { ENTRIES, passwordOf, type StorageSettings } from './open-storage.js';
import { postgresSource } from './postgres-engine.js';

/**
 * Tables that no backup holds: what only the moment was for, kept deliveries, which a copy must not spread (design §4), and what is made of the log
 * itself. They are empty after a restore, so nothing that was open then is still open.
 */
const NOT_KEPT: ReadonlySet<string> = new Set([
  'migrations',
  'deliveries',
  'challenges',
  'enrolments',
  'app_nonces',
  'freezes',
  'mails',
  'sessions',
  'ceremonies',
  'invitations',
  'staff_codes',
  'staff_sign_ins',
  'audit_postings',
  'audit_indexed',
  'nodes',
]);

/** Rows handed over at a time, so that those who wait for the process meanwhile wait no longer than this takes. */
const PAGE = 64;

export interface TableRows {
  table: string;
  columns: string[];
  rows: SqlValue[][];
}

/** One moment of the whole database, read while it goes on being written. */
export interface Snapshot {
  /** Names of the migrations that made the schema, in order. */
  migrations: string[];
  /** Entries of the log. */
  entries: number;
  /** The kept ones, each after those it points at: in this order of any database of these migrations. */
  tables: string[];
  /** Every kept row by `tables`, each table at least once. */
  rows(): AsyncGenerator<TableRows>;
  close(): Promise<void>;
}

export async function openSnapshot(settings: StorageSettings): Promise<Snapshot> {
  return settings.url.startsWith('sqlite:') ? sqliteSnapshot(settings) : postgresSnapshot(settings);
}

/** WAL lets this reader stand still while the writer goes on. */
function sqliteSnapshot({ url, home }: StorageSettings): Snapshot {
  const db = new Database(resolve(home, url.slice('sqlite:'.length)), { readonly: true, fileMustExist: true });
  db.exec('BEGIN');
  const names = (
    db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name").all() as { name: string }[]
  ).map(({ name }) => name);
  const points = (table: string) =>
    (db.prepare(`SELECT DISTINCT "table" AS "to" FROM pragma_foreign_key_list('${table}')`).all() as { to: string }[]).map(({ to }) => to);
  const tables = ordered(names, points);
  const migrations = (db.prepare('SELECT name FROM migrations ORDER BY id').all() as { name: string }[]).map(({ name }) => name);
  const { entries } = db.prepare(ENTRIES).get() as { entries: number };
  return {
    migrations,
    entries,
    tables,
    async *rows() {
      for (const table of tables) {
        const statement = db.prepare(`SELECT * FROM ${table}`).raw();
        const columns = statement.columns().map(({ name }) => name);
        let rows: SqlValue[][] = [];
        for (const row of statement.iterate() as IterableIterator<SqlValue[]>) {
          rows.push(row);
          if (rows.length < PAGE) continue;
          yield { table, columns, rows };
          rows = [];
        }
        yield { table, columns, rows };
      }
    },
    async close() {
      db.close();
    },
  };
}

async function postgresSnapshot(settings: StorageSettings): Promise<Snapshot> {
  const source = postgresSource(settings.url, passwordOf(settings), 'migration');
  await source.initialize();
  const runner = source.createQueryRunner();
  const ask = async <R>(sql: string) => (await runner.query(sql)) as R[];
  await ask('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  const names = (
    await ask<{ name: string }>('SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY 1')
  ).map(({ name }) => name);
  const keys = await ask<{ from: string; to: string }>(
    `SELECT conrelid::regclass::text AS "from", confrelid::regclass::text AS "to" FROM pg_constraint WHERE contype = 'f'`,
  );
  const tables = ordered(names, (table) => keys.filter(({ from }) => from === table).map(({ to }) => to));
  const migrations = (await ask<{ name: string }>('SELECT name FROM migrations ORDER BY id')).map(({ name }) => name);
  const entries = Number((await ask<{ entries: number }>(ENTRIES))[0]?.entries);
  return {
    migrations,
    entries,
    tables,
    async *rows() {
      for (const table of tables) {
        const columns = (
          await ask<{ name: string }>(
            `SELECT column_name AS name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = '${table}' ORDER BY ordinal_position`,
          )
        ).map(({ name }) => name);
        await ask(`DECLARE part NO SCROLL CURSOR FOR SELECT * FROM ${table}`);
        for (;;) {
          const page = await ask<Record<string, SqlValue>>(`FETCH ${PAGE} FROM part`);
          yield { table, columns, rows: page.map((row) => columns.map((name) => row[name] ?? null)) };
          if (page.length < PAGE) break;
        }
        await ask('CLOSE part');
      }
    },
    async close() {
      await runner.query('ROLLBACK').catch(() => undefined);
      await runner.release();
      await source.destroy();
    },
  };
}

/** The kept tables, each after those it points at. */
function ordered(names: readonly string[], pointsAt: (table: string) => string[]): string[] {
  const done: string[] = [];
  const visit = (table: string) => {
    if (NOT_KEPT.has(table) || done.includes(table)) return;
    for (const other of pointsAt(table).toSorted()) if (other !== table) visit(other);
    done.push(table);
  };
  for (const name of names.toSorted()) visit(name);
  return done;
}

/** In `settings` while a restore that filled the database is not at its end: id of the backup. */
export const FILLED = 'restore.filled';

/**
 * Fills an empty database whose schema is that of the snapshot, in one transaction. Rejects with `database-not-empty` and leaves it as it is
 * where somebody's data are; what an earlier try with the same backup filled, and did not come to its end, is nobody's yet and goes.
 */
export async function fillDatabase(runner: QueryRunner, rows: AsyncIterable<TableRows>, backup: string): Promise<number> {
  const cleared = new Set<string>();
  let count = 0;
  await runner.startTransaction();
  try {
    const { postgres, ask } = dialect(runner);
    if (postgres) await clearUnfinished(ask, backup);
    for await (const { table, columns, rows: page } of rows) {
      if (!/^[a-z_]+$/.test(table) || columns.some((name) => !/^[a-z_]+$/.test(name)))
        throw new Fault('malformed', 'backup-malformed', 'the backup names a table that EKMS cannot have');
      if (!cleared.has(table)) {
        await clear(ask, table);
        cleared.add(table);
      }
      for (let at = 0; at < page.length; at += postgres ? 50 : 1) {
        const some = page.slice(at, at + (postgres ? 50 : 1));
        let n = 0;
        const places = some.map(() => `(${columns.map(() => (postgres ? `$${++n}` : '?')).join(', ')})`).join(', ');
        await ask(`INSERT INTO ${table} (${columns.join(', ')}) VALUES ${places}`, some.flat());
        count += some.length;
      }
    }
    await ask(
      `INSERT INTO settings (name, value) VALUES (${postgres ? '$1, $2' : '?, ?'}) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
      [FILLED, backup],
    );
    await runner.commitTransaction();
    return count;
  } catch (error) {
    await runner.rollbackTransaction().catch(() => undefined);
    throw error;
  }
}

type Ask = (sql: string, parameters?: SqlValue[]) => Promise<Record<string, SqlValue>[]>;

function dialect(runner: QueryRunner): { postgres: boolean; ask: Ask } {
  const postgres = (runner.dataSource as DataSource).options.type === 'postgres';
  return { postgres, ask: async (sql, parameters = []) => (await runner.query(sql, parameters)) as Record<string, SqlValue>[] };
}

/** Tables that a migration puts one first row into (`audit_head`: in older backups); whatever else is there is somebody's. */
const SEEDED: ReadonlySet<string> = new Set(['audit_head', 'audit_tree', 'device_trust']);

/** On SQLite the file itself is removed. */
async function clearUnfinished(ask: Ask, backup: string): Promise<void> {
  const [row] = await ask('SELECT value FROM settings WHERE name = $1', [FILLED]);
  if (row?.['value'] !== backup) return;
  const tables = await ask(
    "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' AND table_name <> 'migrations'",
  );
  // Entries of the log may not go, which is right once somebody's log is here.
  await ask('ALTER TABLE audit_entries DISABLE TRIGGER USER');
  await ask(`TRUNCATE ${tables.map(({ name }) => name).join(', ')} CASCADE`);
  await ask('ALTER TABLE audit_entries ENABLE TRIGGER USER');
}

async function clear(ask: Ask, table: string): Promise<void> {
  const [row] = await ask(`SELECT COUNT(*) AS "rows" FROM ${table}`);
  const rows = Number(row?.['rows'] ?? 0);
  if (rows === 0) return;
  if (rows > 1 || !SEEDED.has(table))
    throw new Fault('conflict', 'database-not-empty', `the database is not empty (${table}): a restore goes into a blank one only`);
  await ask(`DELETE FROM ${table}`);
}
