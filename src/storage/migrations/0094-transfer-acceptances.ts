import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/**
 * What comes in is a paper beside what goes out: its row is in `transfers` (`request` is what agents sign, `recipient` is empty), its tree is here: `leaves` one behind the
 * other, `owners` as JSON, `name` of file, sender and owners. The token process believes nothing here. What officers accepted before this counts no more.
 */
export class TransferAcceptances1795594000000 implements MigrationInterface {
  readonly name = 'TransferAcceptances1795594000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text, bytes, table } = columnsOf(runner);
    await runner.query('DROP TABLE transfer_acceptances');
    await runner.query(
      `CREATE TABLE transfer_acceptances (id ${text} PRIMARY KEY REFERENCES transfers (id), name ${text} NOT NULL, leaves ${bytes} NOT NULL, owners ${text} NOT NULL) ${table}`,
    );
    await runner.query('CREATE INDEX transfer_acceptances_name ON transfer_acceptances (name)');
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from accepted transfers: restore the backup');
  }
}
