import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** Who a person is in the organisation's directory: sealed in each binding (docs/formats/sealed-records.md); on the employee only to find them by. */
export class Directory1795530000000 implements MigrationInterface {
  readonly name = 'Directory1795530000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text, bytes } = columnsOf(runner);
    for (const statement of [
      `ALTER TABLE bindings ADD COLUMN directory ${text}`,
      'CREATE INDEX bindings_directory ON bindings (directory) WHERE directory IS NOT NULL',
      // The token's word that the directory, and no operator, stopped this person: only such a stop ends by itself.
      `ALTER TABLE employees ADD COLUMN directory_stop ${bytes}`,
    ])
      await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from the directory: restore the backup');
  }
}
