import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** App credentials have a release and a seal; the decision on an enrolment is sealed too. What was issued without a seal counts no more. */
export class AppReleases1795541000000 implements MigrationInterface {
  readonly name = 'AppReleases1795541000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text, bytes } = columnsOf(runner);
    for (const statement of [
      `ALTER TABLE apps ADD COLUMN release ${text}`,
      `ALTER TABLE apps ADD COLUMN mac ${bytes}`,
      `ALTER TABLE enrolments ADD COLUMN decision ${bytes}`,
    ])
      await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from sealed app credentials: restore the backup');
  }
}
