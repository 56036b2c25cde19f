import type { Row, SqlValue } from '../foundation/index.js';

/** What one statement gave back: its rows, or how many it changed. */
export interface Answer {
  rows: Row[];
  changed: number;
}

/**
 * One database as the writer queue sees it. Every method rejects with a Fault (`sqlFault`) or, for a defect of ours, with an Error that
 * names the statement and none of its values.
 */
export interface Engine {
  /** On a connection of its own, outside the writer's transaction. */
  read(sql: string, parameters: readonly SqlValue[]): Promise<Row[]>;
  /** On the writer's connection. */
  query(sql: string, parameters?: readonly SqlValue[]): Promise<Answer>;
  /** Opens the writer's transaction as the only one of the whole database. Gives up at `until` (performance.now()). */
  begin(until: number): Promise<void>;
  commit(): Promise<void>;
  /** Whatever became of the transaction: the next `begin` starts clean. Never rejects. */
  abandon(): Promise<void>;
  close(): Promise<void>;
}
