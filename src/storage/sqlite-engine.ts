import { setTimeout as pause } from 'node:timers/promises';
import type BetterSqlite3 from 'better-sqlite3';
import { DataSource } from 'typeorm';
import { isFault, type Row, type SqlValue } from '../foundation/index.js';
import type { Answer, Engine } from './engine.js';
import { migrations } from './migrations/index.js';
import { sqlFault } from './sql-faults.js';

/** Milliseconds that SQLite itself may wait for a lock: it blocks the whole process meanwhile, so we rather ask again. */
const BUSY = 50;

/**
 * The writer's and the readers' connection. They are two DataSources, because TypeORM gives out one better-sqlite3 connection for all:
 * a reader would stand inside the writer's transaction (facts/stack.md).
 */
export function sqliteSource(path: string, role: 'writer' | 'reader'): DataSource {
  const source = new DataSource({
    type: 'better-sqlite3',
    database: path,
    timeout: BUSY,
    logging: false,
    migrations: role === 'writer' ? [...migrations] : [],
    prepareDatabase: (connection: BetterSqlite3.Database) => {
      // The page size counts only before the first table and before WAL. A checkpoint each 32 MiB instead of 8: a third more appends.
      const pragmas = ['page_size = 8192', 'journal_mode = WAL', 'synchronous = FULL', 'temp_store = MEMORY', 'cache_size = -65536'];
      pragmas.push('wal_autocheckpoint = 4096', 'journal_size_limit = 67108864');
      if (role === 'reader') pragmas.push('query_only = ON');
      for (const pragma of pragmas) connection.pragma(pragma);
      connections.set(source, new Statements(connection));
    },
  });
  return source;
}

/** Of each open DataSource, its connection. */
const connections = new WeakMap<DataSource, Statements>();

/**
 * Statements of one connection, prepared once. TypeORM opens the connection and migrates; what is asked often goes past its query runner,
 * which costs as much again as SQLite itself (docs/adr/0002).
 */
class Statements {
  readonly #prepared = new Map<string, BetterSqlite3.Statement>();

  constructor(private readonly connection: BetterSqlite3.Database) {}

  /** Between BEGIN and its end, when whatever this connection reads is nobody else's to know yet. */
  get inTransaction(): boolean {
    return this.connection.inTransaction;
  }

  /** Reads, and throws where the statement would write. */
  look(sql: string, parameters: readonly SqlValue[]): Row[] {
    try {
      const statement = this.#statement(sql);
      if (!statement.readonly) throw new Error('whatever reads is read-only');
      return statement.all(...parameters) as Row[]; // every column is a SqlValue: the tables are STRICT
    } catch (error) {
      throw sqlFault(error, sql);
    }
  }

  ask(sql: string, parameters: readonly SqlValue[]): Answer {
    try {
      const statement = this.#statement(sql);
      if (!statement.reader) return { rows: [], changed: statement.run(...parameters).changes };
      const rows = statement.all(...parameters) as Row[]; // as above
      return { rows, changed: rows.length };
    } catch (error) {
      throw sqlFault(error, sql);
    }
  }

  #statement(sql: string): BetterSqlite3.Statement {
    let statement = this.#prepared.get(sql);
    if (!statement) {
      statement = this.connection.prepare(sql);
      this.#prepared.set(sql, statement);
    }
    return statement;
  }
}

function statementsOf(source: DataSource): Statements {
  const statements = connections.get(source);
  if (!statements) throw new Error('this database is not open');
  return statements;
}

/** The readers' half alone. */
export class SqliteReading implements Pick<Engine, 'read' | 'close'> {
  readonly #reader: Statements;

  constructor(private readonly reading: DataSource) {
    this.#reader = statementsOf(reading);
  }

  async read(sql: string, parameters: readonly SqlValue[]): Promise<Row[]> {
    return this.#reader.look(sql, parameters);
  }

  async close(): Promise<void> {
    await this.reading.destroy();
  }
}

export class SqliteEngine extends SqliteReading implements Engine {
  readonly #writer: Statements;

  constructor(
    private readonly writing: DataSource,
    reading: DataSource,
  ) {
    super(reading);
    this.#writer = statementsOf(writing);
  }

  /**
   * Between two transactions the writer's connection reads too: its pages stay valid over its own commits, while the reader's cache is void after each
   * of them. Within one the reader answers, from before it began.
   */
  override async read(sql: string, parameters: readonly SqlValue[]): Promise<Row[]> {
    return this.#writer.inTransaction ? super.read(sql, parameters) : this.#writer.look(sql, parameters);
  }

  async query(sql: string, parameters: readonly SqlValue[] = []): Promise<Answer> {
    return this.#writer.ask(sql, parameters);
  }

  async begin(until: number): Promise<void> {
    for (;;)
      try {
        await this.query('BEGIN IMMEDIATE');
        return;
      } catch (error) {
        if (!isFault(error) || performance.now() > until) throw error;
        await pause(20);
      }
  }

  async commit(): Promise<void> {
    await this.query('COMMIT');
  }

  async abandon(): Promise<void> {
    // SQLite rolls back by itself on some errors (a full disk among them); then there is nothing left to do.
    await this.query('ROLLBACK').catch(() => undefined);
  }

  override async close(): Promise<void> {
    // The writer goes last: the last connection brings the WAL home and removes it.
    await super.close();
    await this.writing.destroy();
  }
}
