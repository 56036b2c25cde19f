import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { DataSource, QueryRunner } from 'typeorm';
import { Fault, isFault, type Reader, type Row, type SqlValue } from '../foundation/index.js';
import { migrations } from './migrations/index.js';
import { PostgresEngine, postgresSource, WRITER_LOCK } from './postgres-engine.js';
import { sqlFault } from './sql-faults.js';
import { SqlStorage, WRITER_LIMITS, type WriterLimits } from './sql-storage.js';
import { SqliteEngine, SqliteReading, sqliteSource } from './sqlite-engine.js';

export interface StorageSettings {
  /** `sqlite:FILE` (relative to `home`) or `postgres://…`. */
  url: string;
  home: string;
  /** PostgreSQL's password, if it is not in the address. */
  passwordFile?: string;
  limits?: Partial<WriterLimits>;
}

/** Opens the database and brings its schema up to this version. Rejects with `database-newer`, `database-unusable` or `storage-unavailable`. */
export async function openStorage(settings: StorageSettings): Promise<SqlStorage> {
  const limits = { ...WRITER_LIMITS, ...settings.limits };
  return new SqlStorage(settings.url.startsWith('sqlite:') ? await openSqlite(settings) : await openPostgres(settings), limits);
}

/** Opens the database, whose schema is this version's, for reading alone: for a thread of its own. */
export async function openReader(settings: StorageSettings): Promise<Reader & { close(): Promise<void> }> {
  const sqlite = settings.url.startsWith('sqlite:');
  const path = resolve(settings.home, settings.url.slice('sqlite:'.length));
  const source = sqlite ? sqliteSource(path, 'reader') : postgresSource(settings.url, passwordOf(settings), 'work');
  await connect(source, sqlite ? path : 'PostgreSQL');
  const engine = sqlite ? new SqliteReading(source) : new PostgresEngine(source);
  // Whoever writes a statement knows its columns.
  const all = async <T extends object = Row>(sql: string, parameters: readonly SqlValue[] = []) =>
    (await engine.read(sql, parameters)) as T[];
  return {
    all,
    one: async <T extends object = Row>(sql: string, parameters?: readonly SqlValue[]) => (await all<T>(sql, parameters))[0],
    close: () => engine.close(),
  };
}

/** PostgreSQL's password from its file, if it has one. */
export const passwordOf = ({ home, passwordFile }: StorageSettings): string | undefined =>
  passwordFile === undefined ? undefined : firstLine(resolve(home, passwordFile));

/** Makes the schema as it was after these migrations in an empty database, hands over its connection, then closes it. Rejects with `database-newer`. */
export async function withFreshSchema<T>(
  settings: StorageSettings,
  names: readonly string[],
  use: (runner: QueryRunner) => Promise<T>,
): Promise<T> {
  const wanted = migrations.filter((Migration) => names.includes(new Migration().name));
  if (wanted.length < names.length)
    throw new Fault('misconfigured', 'database-newer', 'this was written by a newer version of EKMS; install that version');
  const sqlite = settings.url.startsWith('sqlite:');
  const path = resolve(settings.home, settings.url.slice('sqlite:'.length));
  if (sqlite) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    closeSync(openSync(path, 'a', 0o600));
  }
  const source = sqlite ? sqliteSource(path, 'writer') : postgresSource(settings.url, passwordOf(settings), 'migration');
  source.setOptions({ migrations: [...wanted] });
  await connect(source, sqlite ? path : 'PostgreSQL');
  try {
    await migrate(source);
    const runner = source.createQueryRunner();
    try {
      return await use(runner);
    } finally {
      await runner.release();
    }
  } catch (error) {
    throw sqlFault(error, 'filling a fresh database');
  } finally {
    await source.destroy();
  }
}

async function openSqlite(settings: StorageSettings): Promise<SqliteEngine> {
  const path = resolve(settings.home, settings.url.slice('sqlite:'.length));
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    closeSync(openSync(path, 'a', 0o600)); // SQLite would make it readable for all; its WAL takes over the mode
  } catch (error) {
    throw unusable(path, error);
  }
  const writing = sqliteSource(path, 'writer');
  await connect(writing, path);
  try {
    await migrate(writing);
    const reading = sqliteSource(path, 'reader');
    await connect(reading, path);
    return new SqliteEngine(writing, reading);
  } catch (error) {
    await writing.destroy();
    throw error;
  }
}

async function openPostgres(settings: StorageSettings): Promise<PostgresEngine> {
  const password = passwordOf(settings);
  const migrating = postgresSource(settings.url, password, 'migration');
  await connect(migrating, 'PostgreSQL');
  try {
    const guard = migrating.createQueryRunner();
    // No node migrates beside another, and none writes meanwhile. The lock ends with this connection.
    await guard.query(`SELECT pg_advisory_lock(${WRITER_LOCK})`);
    const [setting] = (await guard.query('SHOW synchronous_commit')) as { synchronous_commit: string }[];
    if (setting?.synchronous_commit === 'off')
      throw unusable('on PostgreSQL', new Error('synchronous_commit is off, so what we acknowledge could be lost; set it on'));
    await migrate(migrating);
  } catch (error) {
    throw sqlFault(error, 'migrations');
  } finally {
    await migrating.destroy();
  }
  const source = postgresSource(settings.url, password, 'work');
  await connect(source, 'PostgreSQL');
  return new PostgresEngine(source);
}

async function connect(source: DataSource, name: string): Promise<void> {
  try {
    await source.initialize();
  } catch (error) {
    const fault = sqlFault(error, 'opening');
    throw isFault(fault) ? fault : unusable(name, fault);
  }
}

async function migrate(source: DataSource): Promise<void> {
  const known = new Set<string>(migrations.map((Migration) => new Migration().name));
  try {
    const runner = source.createQueryRunner();
    const done = (await runner.hasTable('migrations')) ? ((await runner.query('SELECT name FROM migrations')) as { name: string }[]) : [];
    await runner.release();
    const foreign = done.find(({ name }) => !known.has(name));
    if (foreign)
      throw new Fault(
        'misconfigured',
        'database-newer',
        `this database was written by a newer version of EKMS (it knows ${foreign.name}); install that version, or restore the backup made before the upgrade`,
      );
    await source.runMigrations({ transaction: 'all' });
  } catch (error) {
    throw sqlFault(error, 'migrations');
  }
}

const unusable = (name: string, error: unknown): Fault =>
  new Fault('misconfigured', 'database-unusable', `the database ${name} cannot be opened: ${(error as Error).message}`);

function firstLine(path: string): string {
  try {
    return readFileSync(path, 'utf8').split(/\r?\n/, 1)[0] ?? '';
  } catch (error) {
    throw unusable('password file', error);
  }
}

export interface DatabaseState {
  /** SQLite's file; absent on PostgreSQL. */
  file?: string;
  /** Names of the migrations that the database has been through, first to last. */
  migrations: string[];
  /** Whether this version knows all of those: else it refuses the database. */
  known: boolean;
  /** Entries in the log. */
  entries: number;
}

/** Entries of the log that there were ever. */
export const ENTRIES = 'SELECT COALESCE(max(idx), -1) + 1 AS entries FROM audit_entries';

/** What an upgrade must know of a database. Changes nothing in it, and makes none: `database-unusable` where there is none. */
export async function databaseState(settings: StorageSettings): Promise<DatabaseState> {
  const sqlite = settings.url.startsWith('sqlite:') ? resolve(settings.home, settings.url.slice('sqlite:'.length)) : undefined;
  if (sqlite !== undefined && !existsSync(sqlite)) throw unusable(sqlite, new Error('there is no such file'));
  const password = settings.passwordFile === undefined ? undefined : firstLine(resolve(settings.home, settings.passwordFile));
  const source = sqlite === undefined ? postgresSource(settings.url, password, 'migration') : sqliteSource(sqlite, 'writer');
  await connect(source, sqlite ?? 'PostgreSQL');
  try {
    const runner = source.createQueryRunner();
    const made = await runner.hasTable('migrations');
    const rows = made ? ((await runner.query('SELECT name FROM migrations ORDER BY id')) as { name: string }[]) : [];
    const [log] = (await runner.hasTable('audit_entries')) ? ((await runner.query(ENTRIES)) as { entries: unknown }[]) : [];
    await runner.release();
    const names = new Set<string>(migrations.map((Migration) => new Migration().name));
    const done = rows.map(({ name }) => name);
    return {
      ...(sqlite ? { file: sqlite } : {}),
      migrations: done,
      known: done.every((name) => names.has(name)),
      entries: Number(log?.entries ?? 0),
    };
  } catch (error) {
    throw sqlFault(error, 'looking at the database');
  } finally {
    await source.destroy();
  }
}
