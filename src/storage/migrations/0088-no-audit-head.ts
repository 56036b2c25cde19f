import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The last entry says where the next one stands. The row that said it too was one more page of each commit, and nobody's witness: it lay beside the log. */
export class NoAuditHead1795588000000 implements MigrationInterface {
  readonly name = 'NoAuditHead1795588000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE audit_head');
  }

  async down(): Promise<void> {
    throw new Error('there is no way back to the row of the log’s head: restore the backup');
  }
}
