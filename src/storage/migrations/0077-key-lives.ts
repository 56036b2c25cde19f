import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/** When and why a key became what it is; what must not be destroyed; and the statements about what was. */
const tables = ({ text, whole, table, small }: Columns) => [
  `CREATE TABLE key_changes (key ${text} NOT NULL REFERENCES keys (id), version INT NOT NULL, state ${text} NOT NULL, reason ${text} NOT NULL, time ${whole} NOT NULL,
     statement ${text}, PRIMARY KEY (key, version)) ${small}`,
  `CREATE TABLE key_holds (id ${text} PRIMARY KEY, employee ${text} NOT NULL REFERENCES employees (id), reference ${text} NOT NULL, placed ${whole} NOT NULL,
     lifted ${whole}) ${table}`,
  'CREATE INDEX key_holds_employee ON key_holds (employee)',
];

export class KeyLives1795577000000 implements MigrationInterface {
  readonly name = 'KeyLives1795577000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tables(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from the lives of keys: restore the backup');
  }
}
