import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** What the device guard's look-up rests on (src/devices/device-registry.ts). An insert that could end somebody's trust is a freeze alone. */
const RESTS_ON = {
  devices: 'UPDATE OR DELETE',
  employees: 'UPDATE OR DELETE',
  apps: 'UPDATE OR DELETE',
  budget_freezes: 'INSERT OR UPDATE OR DELETE',
};

/** One number that rises with each change of a device, its person, its app or a freeze, by whoever makes it: what was looked up before counts no more. */
export class DeviceTrust1795542000000 implements MigrationInterface {
  readonly name = 'DeviceTrust1795542000000';

  async up(runner: QueryRunner): Promise<void> {
    const { whole, small, counted } = columnsOf(runner);
    await runner.query(`CREATE TABLE device_trust (id ${whole} PRIMARY KEY, generation ${whole} NOT NULL) ${small}`);
    await runner.query('INSERT INTO device_trust (id, generation) VALUES (1, 1)');
    for (const statement of counted('device_trust', RESTS_ON)) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from remembered look-ups of devices: restore the backup');
  }
}
