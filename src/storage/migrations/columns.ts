import type { QueryRunner } from 'typeorm';

/** What the two databases spell differently in a table. */
export interface Columns {
  text: string;
  /** 64 bits: times and counters. */
  whole: string;
  bytes: string;
  /** A primary key that rises: on SQLite the rowid itself, so it costs no index. */
  row: string;
  /** Ends a table of rows with blobs. */
  table: string;
  /** Ends a table of small rows found by their key alone. */
  small: string;
  /** Columns that hold ciphertext: compressing them is in vain. */
  external: (table: string, columns: readonly string[]) => string[];
  /** Rows of this table are never changed or deleted, not even by a mistake of ours. Whoever owns the database can lift this: no defence against them. */
  kept: (table: string) => string[];
  /** The one row of this table raises its `generation` with each of these changes, whatever statement makes them. */
  counted: (table: string, changes: Readonly<Record<string, string>>) => string[];
}

const SQLITE: Columns = {
  text: 'TEXT',
  whole: 'INTEGER',
  bytes: 'BLOB',
  row: 'INTEGER',
  table: 'STRICT',
  small: 'STRICT, WITHOUT ROWID',
  external: () => [],
  kept: (table) =>
    ['UPDATE', 'DELETE'].map(
      (verb) =>
        `CREATE TRIGGER ${table}_no_${verb.toLowerCase()} BEFORE ${verb} ON ${table} BEGIN SELECT RAISE(ABORT, 'rows of ${table} are kept'); END`,
    ),
  counted: (table, changes) =>
    Object.entries(changes).flatMap(([of, verbs]) =>
      verbs
        .split(' OR ')
        .map((verb) => `CREATE TRIGGER ${of}_${verb.toLowerCase()}_counted AFTER ${verb} ON ${of} BEGIN ${raise(table)}; END`),
    ),
};

const POSTGRES: Columns = {
  // Order and comparison by bytes, as SQLite does, whatever the cluster's locale.
  text: 'TEXT COLLATE "C"',
  whole: 'BIGINT',
  bytes: 'BYTEA',
  row: 'BIGINT',
  table: '',
  small: '',
  external: (table, columns) => columns.map((column) => `ALTER TABLE ${table} ALTER COLUMN ${column} SET STORAGE EXTERNAL`),
  kept: (table) => [
    `CREATE FUNCTION ${table}_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'rows of ${table} are kept'; END $$`,
    `CREATE TRIGGER ${table}_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ${table} FOR EACH STATEMENT EXECUTE FUNCTION ${table}_kept()`,
  ],
  counted: (table, changes) => [
    `CREATE FUNCTION ${table}_counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${raise(table)}; RETURN NULL; END $$`,
    ...Object.entries(changes).map(
      ([of, verbs]) =>
        `CREATE TRIGGER ${of}_counted AFTER ${verbs} OR TRUNCATE ON ${of} FOR EACH STATEMENT EXECUTE FUNCTION ${table}_counted()`,
    ),
  ],
};

const raise = (table: string) => `UPDATE ${table} SET generation = generation + 1`;

export const columnsOf = (runner: QueryRunner): Columns => (runner.dataSource.options.type === 'postgres' ? POSTGRES : SQLITE);
