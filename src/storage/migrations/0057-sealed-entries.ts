import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** What sealed entries say, until their date. */
export class SealedEntries1795557000000 implements MigrationInterface {
  readonly name = 'SealedEntries1795557000000';

  async up(runner: QueryRunner): Promise<void> {
    const { whole, bytes, row, table } = columnsOf(runner);
    await runner.query(
      `CREATE TABLE audit_sealed (idx ${row} PRIMARY KEY, until ${whole} NOT NULL, salt ${bytes} NOT NULL, content ${bytes} NOT NULL) ${table}`,
    );
    await runner.query('CREATE INDEX audit_sealed_until ON audit_sealed (until)');
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from sealed entries: restore the backup');
  }
}
