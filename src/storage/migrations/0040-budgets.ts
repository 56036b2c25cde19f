import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/** What was used of each budget in the present minute and day, and who went over: src/access/budgets.ts. */
const tables = ({ text, whole, small }: Columns) => [
  `CREATE TABLE budget_use (counter ${text} NOT NULL, scope ${text} NOT NULL, subject ${text} NOT NULL, minute ${whole} NOT NULL, in_minute ${whole} NOT NULL,
     day ${whole} NOT NULL, in_day ${whole} NOT NULL, alarmed_minute ${whole} NOT NULL, alarmed_day ${whole} NOT NULL, PRIMARY KEY (counter, scope, subject)) ${small}`,
  `CREATE TABLE budget_freezes (scope ${text} NOT NULL, subject ${text} NOT NULL, counter ${text} NOT NULL, since ${whole} NOT NULL, PRIMARY KEY (subject, scope)) ${small}`,
];

export class Budgets1795540000000 implements MigrationInterface {
  readonly name = 'Budgets1795540000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tables(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from budgets: restore the backup');
  }
}
