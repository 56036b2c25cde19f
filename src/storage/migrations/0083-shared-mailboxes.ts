import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/**
 * A shared mailbox is an employee of the kind `mailbox` whose keys are born `shared`; who reads it stands in records that the token sealed. `ended`: when a
 * recovery case was taken back.
 */
const tables = ({ text, whole, bytes, table }: Columns) => [
  `ALTER TABLE employees ADD COLUMN kind ${text}`,
  'ALTER TABLE keys ADD COLUMN shared INT',
  `ALTER TABLE recovery_cases ADD COLUMN ended ${whole}`,
  `CREATE TABLE mailbox_members (id ${text} PRIMARY KEY, version INT NOT NULL, mailbox ${text} NOT NULL REFERENCES employees (id), employee ${text} NOT NULL REFERENCES employees (id),
     from_time ${whole} NOT NULL, to_time ${whole}, mac ${bytes} NOT NULL) ${table}`,
  'CREATE UNIQUE INDEX mailbox_members_one ON mailbox_members (employee, mailbox) WHERE to_time IS NULL',
  'CREATE INDEX mailbox_members_mailbox ON mailbox_members (mailbox)',
];

export class SharedMailboxes1795583000000 implements MigrationInterface {
  readonly name = 'SharedMailboxes1795583000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tables(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from shared mailboxes: restore the backup');
  }
}
