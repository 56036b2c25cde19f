import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, jest, test } from '@jest/globals';
import { prepareEscrow, takeFromEscrow } from '../../src/custody/index.js';
import { eachKind } from '../support/database.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);
eachKind((kind) => {
  let folder: string;
  let house: HouseInProcess;
  afterAll(async () => {
    await house?.close();
    rmSync(folder, { recursive: true });
  });

  test('a key that was compromised after the backup comes back from the second place with its certificate revoked', async () => {
    folder = mkdtempSync(join(tmpdir(), 'ekms-escrow-'));
    const second = join(folder, 'second');
    await prepareEscrow(second, tmpdir(), true);
    house = await HouseInProcess.open({
      kind,
      settings: { keys: { bits: 2048, pool: { target: 1 } }, durability: 'two', escrow: { directory: second } },
    });
    await keysOf(house, await enrolDevice(house, 'alice@corp.example'));
    const key = await house.db.one<{ id: string; version: number; state: string; mac: Buffer }>('SELECT id, version, state, mac FROM keys');
    if (!key) throw new Error('no key was given');
    await house.house.replacement.setState(key.id, 'compromised', { kind: 'system' }, 'compromised');

    // The database of a backup that was made before.
    await house.db.write(async (unit) => {
      await unit.run("UPDATE certificates SET revoked_at = NULL, reason = NULL WHERE profile = 'person'");
      await unit.run('UPDATE keys SET version = ?, state = ?, mac = ? WHERE id = ?', [key.version, key.state, key.mac, key.id]);
    });
    await takeFromEscrow(house.house, second);

    expect(await house.db.all('SELECT state FROM keys WHERE id = ?', [key.id])).toEqual([{ state: 'compromised' }]);
    expect(await house.db.all("SELECT reason FROM certificates WHERE profile = 'person' AND revoked_at IS NOT NULL")).toHaveLength(1);
  });
});
