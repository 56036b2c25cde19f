import pg from 'pg';
import { DataSource, type QueryRunner } from 'typeorm';
import { isFault, type Row, type SqlValue } from '../foundation/index.js';
import type { Answer, Engine } from './engine.js';
import { migrations } from './migrations/index.js';
import { sqlFault, storageUnavailable } from './sql-faults.js';

/** Milliseconds. The server ends a statement first; the client's own limit (`query`) is for a server that no longer answers at all. */
const TIMEOUTS = { connect: 2_000, statement: 4_000, query: 5_000, idleInTransaction: 10_000 } as const;
/** "EKMS": the advisory lock that makes one writer of all nodes, as BEGIN IMMEDIATE does on SQLite. */
export const WRITER_LOCK = 0x454b4d53;

/** int8 and numeric come as numbers, as SQLite gives them: what we count and time stays below 2^53. */
const NUMBERS = new Set([20, 1700]);
const types = {
  getTypeParser: (oid: number, format?: 'text' | 'binary') =>
    NUMBERS.has(oid) && format !== 'binary' ? Number : pg.types.getTypeParser(oid, format as 'text'),
};

/** For `work` every statement has its time; a migration takes as long as it takes. */
export function postgresSource(url: string, password: string | undefined, role: 'work' | 'migration'): DataSource {
  const limits = {
    statement_timeout: TIMEOUTS.statement,
    query_timeout: TIMEOUTS.query,
    idle_in_transaction_session_timeout: TIMEOUTS.idleInTransaction, // else a hung node would keep the writer's lock from the others
  };
  return new DataSource({
    type: 'postgres',
    url,
    ...(password === undefined ? {} : { password }),
    logging: false,
    installExtensions: false,
    applicationName: 'ekms',
    connectTimeoutMS: TIMEOUTS.connect,
    poolSize: 10,
    // A lost idle connection is replaced when it is next needed; nobody has to hear of it.
    poolErrorHandler: () => undefined,
    extra: { types, keepAlive: true, ...(role === 'work' ? limits : {}) },
    migrations: role === 'migration' ? [...migrations] : [],
  });
}

const translated = new Map<string, string>();

/** `?` becomes `$1`, `$2` … outside of quotes. Our statements are few and fixed, so the map stays small. */
function numbered(sql: string): string {
  let text = translated.get(sql);
  if (text === undefined) {
    let n = 0;
    text = sql.replace(/'[^']*'|\?/g, (found) => (found === '?' ? `$${++n}` : found));
    translated.set(sql, text);
  }
  return text;
}

export class PostgresEngine implements Engine {
  #writer: QueryRunner | undefined;

  constructor(private readonly source: DataSource) {}

  async read(sql: string, parameters: readonly SqlValue[]): Promise<Row[]> {
    const runner = this.source.createQueryRunner();
    try {
      const { rows } = await ask(runner, sql, parameters);
      await runner.release();
      return rows;
    } catch (error) {
      await (isFault(error, 'storage-unavailable') ? destroy(runner) : runner.release());
      throw error;
    }
  }

  async query(sql: string, parameters: readonly SqlValue[] = []): Promise<Answer> {
    if (!this.#writer) throw storageUnavailable('its connection was lost');
    return ask(this.#writer, sql, parameters);
  }

  async begin(until: number): Promise<void> {
    try {
      await this.#open();
    } catch (error) {
      // The connection may have died while idle. Nothing has been done yet, so a second try on a new one is safe.
      await this.abandon();
      if (performance.now() > until) throw error;
      await this.#open();
    }
  }

  async #open(): Promise<void> {
    this.#writer ??= this.source.createQueryRunner();
    await this.query(`BEGIN; SELECT pg_advisory_xact_lock(${WRITER_LOCK})`);
  }

  /** PostgreSQL answers the COMMIT of a failed transaction with a ROLLBACK and no error; TypeORM's answer does not show which it was. */
  async commit(): Promise<void> {
    if (!this.#writer) throw storageUnavailable('its connection was lost');
    const client = (await this.#writer.connect()) as pg.PoolClient;
    const command = await client.query('COMMIT').then(
      (done) => done.command,
      (error: unknown) => {
        throw sqlFault(error, 'COMMIT');
      },
    );
    if (command !== 'COMMIT') throw storageUnavailable('it took back a transaction in which a statement had failed');
  }

  async abandon(): Promise<void> {
    const lost = this.#writer;
    this.#writer = undefined;
    if (lost) await destroy(lost);
  }

  async close(): Promise<void> {
    await this.#writer?.release();
    await this.source.destroy();
  }
}

async function ask(runner: QueryRunner, sql: string, parameters: readonly SqlValue[]): Promise<Answer> {
  try {
    const result = await runner.query(numbered(sql), [...parameters], true);
    return { rows: result.records as Row[], changed: result.affected ?? 0 };
  } catch (error) {
    throw sqlFault(error, sql);
  }
}

/** Ends the connection itself: given back to the pool it might still hang in a statement, or stand inside a transaction. */
async function destroy(runner: QueryRunner): Promise<void> {
  try {
    const client = (await runner.connect()) as pg.PoolClient & { end(): Promise<void> };
    void client.end().catch(() => undefined);
  } catch {
    // It was never there.
  }
  await runner.release().catch(() => undefined);
}
