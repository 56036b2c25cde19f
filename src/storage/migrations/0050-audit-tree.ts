import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/** The log's tree, kept so that nobody has to hash the log again: its right edge, and every full tile (C2SP tlog-tiles). */
const tree = ({ whole, bytes, text, row, table, external }: Columns) => [
  // One row. `frontier`: hashes of the whole subtrees at the right edge. `fence` rises with every step. `note`: the last checkpoint, of `signed` entries.
  `CREATE TABLE audit_tree (id INT PRIMARY KEY CHECK (id = 1), size ${whole} NOT NULL, root ${bytes} NOT NULL, frontier ${bytes} NOT NULL,
     fence ${whole} NOT NULL, note ${text}, signed ${whole} NOT NULL, signed_at ${whole} NOT NULL) ${table}`,
  // `root` is the hash over all 256: what the tile above holds of it.
  `CREATE TABLE audit_tiles (level INT NOT NULL, n ${whole} NOT NULL, root ${bytes} NOT NULL, hashes ${bytes} NOT NULL, PRIMARY KEY (level, n)) ${table}`,
  ...external('audit_tiles', ['hashes']),
  // Former checkpoints, one for each tile's worth of entries or hour: they say where a log was still whole.
  `CREATE TABLE audit_checkpoints (size ${row} PRIMARY KEY, signed_at ${whole} NOT NULL, note ${text} NOT NULL) ${table}`,
];

/** RFC 9162 §2.1.1: the head of a log without entries. */
const EMPTY = Buffer.from('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'hex');

export class AuditTree1795550000000 implements MigrationInterface {
  readonly name = 'AuditTree1795550000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tree(columnsOf(runner))) await runner.query(statement);
    const literal = runner.dataSource.options.type === 'postgres' ? `'\\x${EMPTY.toString('hex')}'::bytea` : `X'${EMPTY.toString('hex')}'`;
    const nothing = runner.dataSource.options.type === 'postgres' ? `''::bytea` : "X''";
    await runner.query(
      `INSERT INTO audit_tree (id, size, root, frontier, fence, note, signed, signed_at) VALUES (1, 0, ${literal}, ${nothing}, 0, NULL, 0, 0)`,
    );
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from the log’s tree: restore the backup');
  }
}
