import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/** Ids are text UUIDs, times integer milliseconds since 1970, digests SHA-256. Tables hold what rooms above name in their stores. */
const people = ({ text, whole, bytes, table }: Columns) => [
  `CREATE TABLE employees (id ${text} PRIMARY KEY, directory_id ${text} UNIQUE, state ${text} NOT NULL, mode ${text}, created ${whole} NOT NULL) ${table}`,
  `CREATE TABLE bindings (id ${text} PRIMARY KEY, version INT NOT NULL, employee ${text} NOT NULL REFERENCES employees (id), address ${text} NOT NULL,
     shown ${text} NOT NULL, from_time ${whole} NOT NULL, to_time ${whole}, mac ${bytes} NOT NULL) ${table}`,
  'CREATE UNIQUE INDEX bindings_open ON bindings (address) WHERE to_time IS NULL',
  'CREATE INDEX bindings_employee ON bindings (employee)',
  `CREATE TABLE devices (id ${text} PRIMARY KEY, employee ${text} NOT NULL REFERENCES employees (id), certificate_digest ${bytes} NOT NULL UNIQUE,
     serial ${text} NOT NULL, delivery_key ${bytes} NOT NULL, delivery_digest ${bytes} NOT NULL UNIQUE, identity_jkt ${text} NOT NULL UNIQUE,
     platform ${text} NOT NULL, name ${text}, app ${text} NOT NULL, state ${text} NOT NULL, enrolled ${whole} NOT NULL) ${table}`,
  'CREATE INDEX devices_employee ON devices (employee)',
];

const keys = ({ text, whole, bytes, row, table, small, external }: Columns) => [
  `CREATE TABLE pool (n ${row} PRIMARY KEY, suite ${text} NOT NULL, bits INT NOT NULL, kek ${text} NOT NULL, public_key ${bytes} NOT NULL,
     wrapped ${bytes} NOT NULL, mac ${bytes} NOT NULL) ${table}`,
  // The sealed record and its blobs. What changes at each use lies in key_uses: a use then rewrites 100 bytes, not 3,000.
  `CREATE TABLE keys (id ${text} PRIMARY KEY, version INT NOT NULL, employee ${text} NOT NULL REFERENCES employees (id), profile ${text} NOT NULL DEFAULT 'v1',
     suite ${text} NOT NULL, bits INT NOT NULL, state ${text} NOT NULL, mode ${text} NOT NULL, kek ${text} NOT NULL, public_key_digest ${bytes} NOT NULL UNIQUE,
     public_key ${bytes} NOT NULL, wrapped ${bytes} NOT NULL, mac ${bytes} NOT NULL, created ${whole} NOT NULL) ${table}`,
  ...external('keys', ['wrapped', 'public_key']),
  `CREATE UNIQUE INDEX keys_active ON keys (employee, profile, suite) WHERE state = 'active'`,
  'CREATE INDEX keys_employee ON keys (employee)',
  `CREATE TABLE key_uses (key ${text} PRIMARY KEY, uses ${whole} NOT NULL, last_leaf ${bytes} NOT NULL) ${small}`,
  `CREATE TABLE deliveries (key ${text} NOT NULL REFERENCES keys (id), device ${text} NOT NULL REFERENCES devices (id), delivery ${bytes} NOT NULL,
     signature ${text} NOT NULL, kept ${whole} NOT NULL, PRIMARY KEY (key, device)) ${table}`,
  ...external('deliveries', ['delivery']),
  'CREATE INDEX deliveries_device ON deliveries (device)',
  'CREATE INDEX deliveries_kept ON deliveries (kept)',
  `CREATE TABLE keks (id ${text} PRIMARY KEY, token ${text} NOT NULL, created ${whole} NOT NULL, state ${text} NOT NULL) ${table}`,
  `CREATE TABLE tokens (label ${text} PRIMARY KEY, module ${text} NOT NULL, created ${whole} NOT NULL) ${table}`,
];

const certificates = ({ text, whole, bytes, table }: Columns) => [
  `CREATE TABLE certificates (serial ${text} PRIMARY KEY, authority ${text} NOT NULL, profile ${text} NOT NULL, subject_key ${text}, device ${text},
     employee ${text}, address ${text}, der ${bytes} NOT NULL, not_before ${whole} NOT NULL, not_after ${whole} NOT NULL, revoked_at ${whole}, reason INT) ${table}`,
  'CREATE INDEX certificates_key ON certificates (subject_key) WHERE subject_key IS NOT NULL',
  'CREATE INDEX certificates_device ON certificates (device) WHERE device IS NOT NULL',
  'CREATE INDEX certificates_employee ON certificates (employee, subject_key, not_before, serial) WHERE employee IS NOT NULL',
  'CREATE INDEX certificates_address ON certificates (address) WHERE address IS NOT NULL',
  'CREATE INDEX certificates_revoked ON certificates (authority) WHERE revoked_at IS NOT NULL',
  `CREATE TABLE crls (authority ${text} PRIMARY KEY, number INT NOT NULL, der ${bytes} NOT NULL, next_update ${whole} NOT NULL) ${table}`,
];

const enrolment = ({ text, whole, bytes, table, small }: Columns) => [
  `CREATE TABLE apps (id ${text} PRIMARY KEY, platform ${text} NOT NULL, public_key ${bytes} NOT NULL, state ${text} NOT NULL, created ${whole} NOT NULL) ${table}`,
  `CREATE TABLE app_nonces (app ${text} NOT NULL, nonce ${text} NOT NULL, expires ${whole} NOT NULL, PRIMARY KEY (app, nonce)) ${small}`,
  'CREATE INDEX app_nonces_expires ON app_nonces (expires)',
  `CREATE TABLE challenges (id ${text} PRIMARY KEY, mail ${text} NOT NULL, address ${text} NOT NULL, half ${bytes} NOT NULL, enrolment ${text} NOT NULL, expires ${whole} NOT NULL,
     spent INT NOT NULL DEFAULT 0) ${table}`,
  'CREATE INDEX challenges_address ON challenges (address)',
  'CREATE INDEX challenges_expires ON challenges (expires)',
  `CREATE TABLE enrolments (id ${text} PRIMARY KEY, version INT NOT NULL, address ${text} NOT NULL, shown ${text} NOT NULL, answer ${text} NOT NULL, jkt ${text} NOT NULL,
     delivery ${text} NOT NULL, delivery_key ${bytes} NOT NULL, spki ${bytes} NOT NULL, nonce_digest ${bytes} NOT NULL, platform ${text} NOT NULL, name ${text},
     app ${text} NOT NULL, challenge ${text} NOT NULL, state ${text} NOT NULL, waits_for ${text}, attempts INT NOT NULL DEFAULT 0, expires ${whole} NOT NULL,
     issue_by ${whole} NOT NULL, requested ${whole} NOT NULL, device ${text}, mac ${bytes} NOT NULL) ${table}`,
  'CREATE INDEX enrolments_address ON enrolments (address)',
  'CREATE INDEX enrolments_expires ON enrolments (expires)',
  `CREATE TABLE freezes (token_digest ${bytes} PRIMARY KEY, device ${text} NOT NULL, expires ${whole} NOT NULL) ${table}`,
  'CREATE INDEX freezes_expires ON freezes (expires)',
];

const work = ({ text, whole, bytes, table }: Columns) => [
  `CREATE TABLE mails (id ${text} PRIMARY KEY, recipient ${text} NOT NULL, kind ${text} NOT NULL, sealed ${bytes} NOT NULL, state ${text} NOT NULL,
     attempts INT NOT NULL DEFAULT 0, next_try ${whole} NOT NULL, expires ${whole} NOT NULL, created ${whole} NOT NULL, error ${text}, claimed_until ${whole}) ${table}`,
  'CREATE INDEX mails_due ON mails (state, next_try)',
  `CREATE TABLE intents (id ${text} PRIMARY KEY, kind ${text} NOT NULL, body ${text} NOT NULL, created ${whole} NOT NULL) ${table}`,
  `CREATE TABLE settings (name ${text} PRIMARY KEY, value ${text} NOT NULL) ${table}`,
];

const audit = ({ text, whole, bytes, row, table, small, kept }: Columns) => [
  // The columns beside the body only help to search; the body is what the leaf covers.
  `CREATE TABLE audit_entries (idx ${row} PRIMARY KEY, leaf ${bytes} NOT NULL, body ${text} NOT NULL, time ${whole} NOT NULL, action ${text} NOT NULL,
     outcome ${text} NOT NULL, key ${text}, device ${text}, employee ${text}) ${table}`,
  ...kept('audit_entries'),
  // Time rises with idx and needs no index. A person's entries are asked for; more indexes would cost each append a random page.
  'CREATE INDEX audit_entries_employee ON audit_entries (employee, idx) WHERE employee IS NOT NULL',
  `CREATE TABLE audit_values (idx ${whole} NOT NULL, name ${text} NOT NULL, salt ${bytes} NOT NULL, value ${text} NOT NULL, PRIMARY KEY (idx, name)) ${small}`,
  `CREATE TABLE audit_head (id INT PRIMARY KEY CHECK (id = 1), size ${whole} NOT NULL, time ${whole} NOT NULL) ${table}`,
  'INSERT INTO audit_head (id, size, time) VALUES (1, 0, 0)',
];

export class FirstTables1795500000000 implements MigrationInterface {
  readonly name = 'FirstTables1795500000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const part of [people, keys, certificates, enrolment, work, audit])
      for (const statement of part(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from the first tables: restore the backup');
  }
}
