import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/** Machines that the organisation named before they enrol, and which device came in by which registration: src/devices/registered-devices.ts. */
const tables = ({ text, whole, bytes, small }: Columns) => [
  `CREATE TABLE registered_devices (identifier ${text} PRIMARY KEY, address ${text} NOT NULL, added ${whole} NOT NULL, mac ${bytes} NOT NULL) ${small}`,
  `CREATE TABLE device_registrations (device ${text} PRIMARY KEY REFERENCES devices (id), source ${text} NOT NULL, subject ${text} NOT NULL) ${small}`,
  'CREATE INDEX device_registrations_subject ON device_registrations (subject)',
  `ALTER TABLE enrolments ADD COLUMN registration ${text}`,
  `ALTER TABLE enrolments ADD COLUMN registration_mac ${bytes}`,
];

export class RegisteredDevices1795543000000 implements MigrationInterface {
  readonly name = 'RegisteredDevices1795543000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tables(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from registered devices: restore the backup');
  }
}
