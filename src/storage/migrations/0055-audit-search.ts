import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** What followers of the log know: how far each has come, and the terms that entries are searched by. */
export class AuditSearch1795555000000 implements MigrationInterface {
  readonly name = 'AuditSearch1795555000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text, whole, table, small } = columnsOf(runner);
    for (const statement of [
      // `next`: index of the first entry that this follower has not done. `holder` has it for himself until `until`.
      `CREATE TABLE audit_cursors (name ${text} PRIMARY KEY, next ${whole} NOT NULL, holder ${text}, until ${whole} NOT NULL DEFAULT 0) ${table}`,
      // A term is 48 bits of a digest: small rows, and whoever is found by one is looked at again.
      `CREATE TABLE audit_terms (term ${whole} NOT NULL, idx ${whole} NOT NULL, PRIMARY KEY (term, idx)) ${small}`,
    ])
      await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from the search of the log: restore the backup');
  }
}
