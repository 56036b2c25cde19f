import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { checkLog } from '../../src/audit/index.js';
import { checkData } from '../../src/commands/consistency.js';
import { openStorage } from '../../src/storage/index.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

/** The checker that crash tests and `ekms doctor` rely on is itself put to the test: each loss that is planted must be found and named. */
describe('what the checker finds', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-planted-'));
  let house: HouseInProcess;
  let alice: WireDevice;
  let bob: WireDevice;
  let copies = 0;

  beforeAll(async () => {
    house = await HouseInProcess.open();
    await house.house.pool.fill(4);
    alice = await enrolDevice(house, 'alice@corp.example');
    bob = await enrolDevice(house, 'bob@corp.example');
    await keysOf(house, alice);
    await house.house.mail.flush();
  }, 60_000);
  afterAll(async () => {
    await house.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** What the checker says of a copy of the database to which this was done. */
  async function told(...sql: string[]): Promise<string[]> {
    const file = join(folder, `copy-${copies++}.db`);
    const original = new Database(join(house.house.configuration.home, 'ekms.db'));
    original.exec(`VACUUM INTO '${file}'`);
    original.close();
    const copy = new Database(file);
    copy.pragma('foreign_keys = OFF');
    for (const name of ['update', 'delete']) copy.exec(`DROP TRIGGER audit_entries_no_${name}`);
    for (const statement of sql) expect(copy.prepare(statement).run().changes).toBeGreaterThan(0);
    copy.close();
    const storage = await openStorage({ url: `sqlite:${file}`, home: folder });
    try {
      const log = (await checkLog(storage)).problems.map((problem) => `log: ${problem}`);
      const data = (await checkData(storage, house.token))
        .filter(({ verdict }) => verdict === 'bad')
        .map(({ check, words }) => `${check}: ${words}`);
      return [...log, ...data];
    } finally {
      await storage.close();
    }
  }

  const keyOf = (device: WireDevice) => `(SELECT id FROM keys WHERE employee = '${device.employee}')`;
  const found = (...words: string[]) => expect.arrayContaining(words.map((one) => expect.stringContaining(one)));

  test('nothing, where nothing is wrong', async () => {
    expect(await told()).toEqual([]);
  });

  test('a key that is gone', async () => {
    expect(await told(`DELETE FROM keys WHERE id = ${keyOf(alice)}`)).toEqual(
      found('log and tables: key ', 'there is no key of that person for it', 'its owner has no key and waits for none', 'of somebody else'),
    );
  });

  test('a key that is in the pool as well: it could get a second owner', async () => {
    const row = `SELECT 999, suite, bits, kek, public_key, wrapped, mac FROM keys WHERE id = ${keyOf(alice)}`;
    expect(await told(`INSERT INTO pool (n, suite, bits, kek, public_key, wrapped, mac) ${row}`)).toEqual(
      found('is still in the pool', 'no entry of the log has ready pair 999'),
    );
  });

  test('a pair that left the pool for nobody, and one that never left it', async () => {
    expect(await told('DELETE FROM pool WHERE n = (SELECT MAX(n) FROM pool)')).toEqual([expect.stringMatching(/pair \d+ is lost/)]);
    expect(await told('INSERT INTO pool SELECT 1, suite, bits, kek, zeroblob(10), wrapped, mac FROM pool LIMIT 1')).toEqual(
      found('pair 1 is in the pool, though entry'),
    );
  });

  test('a wrapped key on another row, a state that was changed, a key that was given away', async () => {
    expect(await told(`UPDATE keys SET wrapped = (SELECT wrapped FROM keys WHERE id = ${keyOf(bob)}) WHERE id = ${keyOf(alice)}`)).toEqual([
      expect.stringContaining('record-forged'),
    ]);
    expect(await told(`UPDATE keys SET mode = 'remote' WHERE id = ${keyOf(bob)}`)).toEqual([expect.stringContaining('record-forged')]);
    expect(await told(`DELETE FROM keys WHERE id = ${keyOf(bob)}`, `UPDATE keys SET employee = '${bob.employee}'`)).toEqual(
      found('record-forged'),
    );
  });

  test('a row of an older database', async () => {
    const before = await house.house.storage.one<{ version: number; mac: Buffer }>(
      `SELECT version, mac FROM keys WHERE id = ${keyOf(bob)}`,
    );
    const key = (await house.house.storage.one<{ id: string }>(`SELECT id FROM keys WHERE id = ${keyOf(bob)}`))?.id ?? '';
    await house.house.vault.change(key, { state: 'suspended' }, { kind: 'operator' });
    expect(
      await told(
        `UPDATE keys SET version = ${before?.version}, state = 'active', mac = x'${before?.mac.toString('hex')}' WHERE id = '${key}'`,
      ),
    ).toEqual(found('record-stale'));
    await house.house.vault.change(key, { state: 'active' }, { kind: 'operator' });
    expect(await told()).toEqual([]);
  });

  test('an employee, a device or a certificate that is gone, and a device that was given away', async () => {
    expect(await told(`DELETE FROM employees WHERE id = '${alice.employee}'`)).toEqual(
      found('has no owner', `employee ${alice.employee} is lost`),
    );
    expect(await told(`DELETE FROM devices WHERE id = '${alice.id}'`)).toEqual(
      found(`device ${alice.id} is lost`, 'there is no device of that person for it'),
    );
    expect(await told(`DELETE FROM certificates WHERE device = '${alice.id}'`)).toEqual(
      found(`the certificate of device ${alice.id} is not there`, 'is lost'),
    );
    expect(await told(`UPDATE devices SET employee = '${bob.employee}' WHERE id = '${alice.id}'`)).toEqual(
      found('there is no device of that person for it', 'of somebody else'),
    );
  });

  test('an entry that was taken out of the log, and one that was taken off its end with the tree', async () => {
    const entry = `SELECT idx FROM audit_entries WHERE action = 'device.enrol' AND device = '${alice.id}'`;
    expect(await told(`DELETE FROM audit_entries WHERE idx = (${entry})`)).toEqual(
      found('log: entry', `no entry of the log has device ${alice.id}`),
    );
    const cut = [
      `DELETE FROM audit_values WHERE idx >= (${entry})`,
      `UPDATE audit_tree SET size = CASE WHEN size > (${entry}) THEN (${entry}) ELSE size END`,
      `DELETE FROM audit_entries WHERE idx >= (${entry})`,
    ];
    expect(await told(...cut)).toEqual(found(`no entry of the log has device ${alice.id}`));
  });

  test('an enrolment that was cut in half and whose intent was dropped', async () => {
    const half = `UPDATE enrolments SET id = '00000000-0000-4000-8000-000000000000' WHERE jkt = (SELECT identity_jkt FROM devices WHERE id = '${alice.id}')`;
    expect(await told(half)).toEqual(['log and tables: no entry of the log has spent enrolment 00000000-0000-4000-8000-000000000000']);
    // With its intent it is merely under way.
    const intent = `INSERT INTO intents (id, kind, body, created) VALUES ('x', 'enrol', '{"enrolment":"00000000-0000-4000-8000-000000000000"}', 0)`;
    expect(await told(half, intent)).toEqual([]);
  });

  test('a revoked device whose certificate is not revoked', async () => {
    expect(await told(`UPDATE devices SET state = 'revoked' WHERE id = '${bob.id}'`)).toEqual([
      expect.stringContaining('its certificate is not revoked'),
    ]);
  });
});
