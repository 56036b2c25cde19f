import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** Of which kind a person's keys are to be; NULL: of the kind that ekms.yaml says. */
export class KeyRenewal1795582000000 implements MigrationInterface {
  readonly name = 'KeyRenewal1795582000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text } = columnsOf(runner);
    for (const column of [`suite ${text}`, 'bits INT']) await runner.query(`ALTER TABLE employees ADD COLUMN ${column}`);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from people’s own kinds of keys: restore the backup');
  }
}
