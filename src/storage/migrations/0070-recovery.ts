import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/** `request` is what agents sign, as JSON; nothing here is believed by the token process, which verifies the signatures itself. */
const tables = ({ text, whole, bytes, table, small }: Columns) => [
  `CREATE TABLE recovery_cases (id ${text} PRIMARY KEY, request ${text} NOT NULL, employee ${text} NOT NULL REFERENCES employees (id), device ${text} NOT NULL,
     created ${whole} NOT NULL, expires ${whole} NOT NULL) ${table}`,
  `CREATE TABLE recovery_approvals (recovery ${text} NOT NULL REFERENCES recovery_cases (id), agent ${text} NOT NULL, signature ${bytes} NOT NULL, time ${whole} NOT NULL,
     PRIMARY KEY (recovery, agent)) ${small}`,
];

export class Recovery1795570000000 implements MigrationInterface {
  readonly name = 'Recovery1795570000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tables(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from recovery cases: restore the backup');
  }
}
