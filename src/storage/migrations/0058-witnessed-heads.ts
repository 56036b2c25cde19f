import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** The last head of each other appliance's log that was cosigned here, for reading; what counts is in the token's journal. */
export class WitnessedHeads1795558000000 implements MigrationInterface {
  readonly name = 'WitnessedHeads1795558000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text, whole, small } = columnsOf(runner);
    await runner.query(
      `CREATE TABLE witnessed_heads (origin ${text} PRIMARY KEY, size ${whole} NOT NULL, note ${text} NOT NULL, told ${whole} NOT NULL) ${small}`,
    );
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from witnessed heads: restore the backup');
  }
}
