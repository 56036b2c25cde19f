import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/**
 * The log is searched by rows that follow it, and by nothing else: an entry's commit writes no page of an index. They are made anew from the log, in
 * the background, after this.
 */
export class AuditPostings1795563000000 implements MigrationInterface {
  readonly name = 'AuditPostings1795563000000';

  async up(runner: QueryRunner): Promise<void> {
    const { whole, bytes, table, small } = columnsOf(runner);
    for (const statement of [
      'DROP INDEX audit_entries_employee',
      'DROP INDEX audit_entries_key',
      'DROP TABLE audit_terms',
      "DELETE FROM audit_cursors WHERE name = 'search'",
      // `found`: docs/formats/audit-postings.md.
      `CREATE TABLE audit_postings (segment ${whole} NOT NULL, bucket INT NOT NULL, found ${bytes} NOT NULL, PRIMARY KEY (segment, bucket)) ${small}`,
      // One row once there is an index: `next` is the first entry that is not in it; `forgotten` rises whenever terms are taken out.
      `CREATE TABLE audit_indexed (id INT PRIMARY KEY CHECK (id = 1), next ${whole} NOT NULL, forgotten ${whole} NOT NULL) ${table}`,
    ])
      await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from the search of the log: restore the backup');
  }
}
