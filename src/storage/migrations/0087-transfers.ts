import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/**
 * Keys on their way to and from other appliances (docs/formats/transfer.md). `request` is what agents sign, as JSON; the token process believes nothing here. `ended`: when a
 * transfer was taken back.
 * `transfer_people`: who was told that keys of theirs left.
 * `transfer_acceptances`: files of others that two persons accepted here: digests of their lines, owners as JSON.
 */
const tables = ({ text, whole, bytes, table, small }: Columns) => [
  `CREATE TABLE transfers (id ${text} PRIMARY KEY, request ${text} NOT NULL, recipient ${bytes} NOT NULL, created ${whole} NOT NULL, expires ${whole} NOT NULL, ended ${whole}) ${table}`,
  `CREATE TABLE transfer_people (transfer ${text} NOT NULL REFERENCES transfers (id), employee ${text} NOT NULL REFERENCES employees (id), time ${whole} NOT NULL,
     PRIMARY KEY (transfer, employee)) ${small}`,
  `CREATE TABLE transfer_keys (id ${text} PRIMARY KEY, bits INT NOT NULL, kek ${text} NOT NULL, identifier ${bytes} NOT NULL UNIQUE, public_key ${bytes} NOT NULL,
     wrapped ${bytes} NOT NULL, mac ${bytes} NOT NULL, created ${whole} NOT NULL, expires ${whole} NOT NULL) ${table}`,
  `CREATE TABLE transfer_acceptances (id ${text} PRIMARY KEY, lines ${bytes} NOT NULL, owners ${text} NOT NULL, mac ${bytes} NOT NULL, created ${whole} NOT NULL) ${table}`,
];

export class Transfers1795587000000 implements MigrationInterface {
  readonly name = 'Transfers1795587000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tables(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from transfers: restore the backup');
  }
}
