import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

export class NetworkPolicies1795510000000 implements MigrationInterface {
  readonly name = 'NetworkPolicies1795510000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text, whole, bytes, row, table } = columnsOf(runner);
    // The highest version counts. `confirm_by` is set while it is on trial; `mac` covers the other columns (src/access/row-seal.ts).
    await runner.query(
      `CREATE TABLE network_policies (version ${row} PRIMARY KEY, document ${text} NOT NULL, origin ${text} NOT NULL, created ${whole} NOT NULL,
         confirm_by ${whole}, mac ${bytes} NOT NULL) ${table}`,
    );
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from a table of policies: restore the backup');
  }
}
