import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/** A `mac` covers its row's other columns, but for those that only count or tell when something was last used (src/access/row-seal.ts). */
const tables = ({ text, whole, bytes, table, small }: Columns) => [
  `CREATE TABLE administrators (id ${text} PRIMARY KEY, name ${text} NOT NULL, address ${text} NOT NULL, role ${text}, state ${text} NOT NULL,
     created ${whole} NOT NULL, mac ${bytes} NOT NULL) ${table}`,
  "CREATE UNIQUE INDEX administrators_address ON administrators (address) WHERE state <> 'removed'",
  `CREATE TABLE passkeys (id ${text} PRIMARY KEY, administrator ${text} NOT NULL REFERENCES administrators (id), public_key ${bytes} NOT NULL,
     name ${text} NOT NULL, transports ${text} NOT NULL, created ${whole} NOT NULL, counter ${whole} NOT NULL, used ${whole}, mac ${bytes} NOT NULL) ${table}`,
  'CREATE INDEX passkeys_administrator ON passkeys (administrator)',
  `CREATE TABLE invitations (token_digest ${bytes} PRIMARY KEY, administrator ${text} NOT NULL REFERENCES administrators (id), expires ${whole} NOT NULL,
     mac ${bytes} NOT NULL) ${table}`,
  `CREATE TABLE ceremonies (challenge ${bytes} PRIMARY KEY, purpose ${text} NOT NULL, subject ${text}, network ${text} NOT NULL, expires ${whole} NOT NULL) ${table}`,
  'CREATE INDEX ceremonies_expires ON ceremonies (expires)',
  // Only the digest of what the cookie holds.
  `CREATE TABLE sessions (token_digest ${bytes} PRIMARY KEY, id ${text} NOT NULL UNIQUE, audience ${text} NOT NULL, subject ${text} NOT NULL, method ${text} NOT NULL,
     network ${text} NOT NULL, began ${whole} NOT NULL, proved ${whole} NOT NULL, used ${whole} NOT NULL, ends ${whole} NOT NULL, mac ${bytes} NOT NULL) ${small}`,
  'CREATE INDEX sessions_subject ON sessions (audience, subject)',
  'CREATE INDEX sessions_ends ON sessions (ends)',
];

export class Administrators1795520000000 implements MigrationInterface {
  readonly name = 'Administrators1795520000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tables(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from a table of administrators: restore the backup');
  }
}
