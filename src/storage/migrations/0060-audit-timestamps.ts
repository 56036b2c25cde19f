import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** Time stamps of heads: the signed note, the authority's token over it, the time that it says and when it was asked for (ms). */
export class AuditTimestamps1795560000000 implements MigrationInterface {
  readonly name = 'AuditTimestamps1795560000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text, whole, bytes, table } = columnsOf(runner);
    await runner.query(
      `CREATE TABLE audit_timestamps (origin ${text} NOT NULL, size ${whole} NOT NULL, note ${text} NOT NULL, token ${bytes} NOT NULL,
         time ${whole} NOT NULL, made ${whole} NOT NULL, PRIMARY KEY (origin, size)) ${table}`,
    );
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from time stamps: restore the backup');
  }
}
