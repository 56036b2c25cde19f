import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** Codes mailed to staff, by digest, and the browsers that asked for one. */
export class StaffSignIn1795531000000 implements MigrationInterface {
  readonly name = 'StaffSignIn1795531000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text, whole, bytes, table } = columnsOf(runner);
    for (const statement of [
      `CREATE TABLE staff_codes (id ${text} PRIMARY KEY, address ${text} NOT NULL, digest ${bytes} NOT NULL, expires ${whole} NOT NULL, spent INT NOT NULL,
         mac ${bytes} NOT NULL) ${table}`,
      'CREATE INDEX staff_codes_address ON staff_codes (address)',
      'CREATE INDEX staff_codes_expires ON staff_codes (expires)',
      `CREATE TABLE staff_sign_ins (id ${text} PRIMARY KEY, code ${text} NOT NULL REFERENCES staff_codes (id) ON DELETE CASCADE, attempts INT NOT NULL) ${table}`,
      'CREATE INDEX staff_sign_ins_code ON staff_sign_ins (code)',
    ])
      await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from staff sign-in: restore the backup');
  }
}
