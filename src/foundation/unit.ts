/** A value that both SQLite and PostgreSQL take and give back alike: times are integers (milliseconds since 1970), booleans 0 and 1. */
export type SqlValue = string | number | null | Uint8Array;
export type Row = Record<string, SqlValue>;

/** Reading. SQL is the common subset of SQLite 3.40 and PostgreSQL 15, with `?` for each parameter. */
export interface Reader {
  all<T extends object = Row>(sql: string, parameters?: readonly SqlValue[]): Promise<T[]>;
  one<T extends object = Row>(sql: string, parameters?: readonly SqlValue[]): Promise<T | undefined>;
}

/** One unit of work inside the writer's transaction: all of it is committed, or none. */
export interface Unit extends Reader {
  /** Resolves with the number of rows changed. A violated unique index rejects with a Fault of kind `conflict`, code `duplicate`. */
  run(sql: string, parameters?: readonly SqlValue[]): Promise<number>;
}

export abstract class Storage implements Reader {
  abstract all<T extends object = Row>(sql: string, parameters?: readonly SqlValue[]): Promise<T[]>;
  abstract one<T extends object = Row>(sql: string, parameters?: readonly SqlValue[]): Promise<T | undefined>;
  /**
   * Runs `work` in the one writer's next transaction, with a savepoint of its own, and resolves once that is on disk. Inside `work`
   * nothing may wait for anything but this unit: no token, no network. Rejects with what `work` threw, or with `storage-unavailable`.
   */
  abstract write<T>(work: (unit: Unit) => Promise<T>): Promise<T>;
}
