import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/** Invitations name whom they are for only where the inviter did, and ceremonies are sealed: both anew, for nothing used them yet. */
const tables = ({ text, whole, bytes, table }: Columns) => [
  'DROP TABLE invitations',
  'DROP TABLE ceremonies',
  `CREATE TABLE invitations (token_digest ${bytes} PRIMARY KEY, administrator ${text}, name ${text}, address ${text}, role ${text}, why ${text} NOT NULL,
     expires ${whole} NOT NULL, mac ${bytes} NOT NULL) ${table}`,
  `CREATE TABLE ceremonies (challenge ${bytes} PRIMARY KEY, purpose ${text} NOT NULL, subject ${text} NOT NULL, nonce ${bytes} NOT NULL, network ${text} NOT NULL,
     expires ${whole} NOT NULL, mac ${bytes} NOT NULL) ${table}`,
  'CREATE INDEX ceremonies_expires ON ceremonies (expires)',
  // What two persons do: src/administration/approvals.ts.
  `CREATE TABLE requests (id ${text} PRIMARY KEY, act ${text} NOT NULL, args ${text} NOT NULL, role ${text} NOT NULL, needed INT NOT NULL,
     requester_kind ${text} NOT NULL, requester ${text} NOT NULL, created ${whole} NOT NULL, expires ${whole} NOT NULL, state ${text} NOT NULL,
     performance ${text}, reason ${text}, mac ${bytes} NOT NULL) ${table}`,
  'CREATE INDEX requests_created ON requests (created)',
  `CREATE TABLE approvals (request ${text} NOT NULL REFERENCES requests (id), administrator ${text} NOT NULL, passkey ${text} NOT NULL, nonce ${bytes} NOT NULL,
     client_data ${bytes} NOT NULL, authenticator_data ${bytes} NOT NULL, signature ${bytes} NOT NULL, time ${whole} NOT NULL, PRIMARY KEY (request, administrator)) ${table}`,
  `CREATE TABLE break_glass (id ${text} PRIMARY KEY, officers ${text} NOT NULL, begun ${whole} NOT NULL, opens ${whole} NOT NULL, closes ${whole} NOT NULL,
     state ${text} NOT NULL, mac ${bytes} NOT NULL) ${table}`,
];

export class Requests1795521000000 implements MigrationInterface {
  readonly name = 'Requests1795521000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tables(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from requests and approvals: restore the backup');
  }
}
