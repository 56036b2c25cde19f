import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** `imported` for a key that came from outside; the sealed record says so too. */
export class ImportedKeys1795576000000 implements MigrationInterface {
  readonly name = 'ImportedKeys1795576000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE keys ADD COLUMN origin ${columnsOf(runner).text}`);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from imported keys: restore the backup');
  }
}
