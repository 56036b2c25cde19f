import 'reflect-metadata';
import { afterAll, expect, jest, test } from '@jest/globals';
import { storeTakenKey } from '../../src/custody/store-taken-key.js';
import { endKeksBefore, KeyStore } from '../../src/keys/index.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);
let house: HouseInProcess;
afterAll(() => house?.close());

test('what was wrapped under a KEK that is destroyed while it is under way is nobody’s key', async () => {
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 2 } } } });
  const { token, storage, audit, pool } = house.house;
  const alice = await enrolDevice(house, 'alice@corp.example');
  await keysOf(house, alice);
  const stored = await new KeyStore().find(storage, (await house.db.one<{ id: string }>('SELECT id FROM keys'))?.id ?? '');
  if (!stored) throw new Error('alice has no key');
  const count = async () =>
    house.db.one(
      "SELECT (SELECT COUNT(*) FROM pool) AS pairs, (SELECT COUNT(*) FROM keys) AS keys, (SELECT COUNT(*) FROM certificates WHERE profile = 'person' AND revoked_at IS NULL) AS certificates",
    );
  while ((await pool.level()) < 2) await new Promise((resolve) => setTimeout(resolve, 20));
  await pool.stop();
  const before = await count();

  // The token has wrapped it, and the former KEK goes before it is stored.
  const makePair = token.makePair.bind(token);
  jest.spyOn(token, 'makePair').mockImplementationOnce(async (...asked: Parameters<typeof makePair>) => {
    const made = await makePair(...asked);
    await storage.write((unit) => endKeksBefore(unit, '2'));
    return made;
  });
  await expect(pool.make()).rejects.toMatchObject({ kind: 'unavailable', code: 'kek-destroyed' });
  await expect(enrolDevice(house, 'bob@corp.example')).rejects.toThrow(/kek-destroyed/);
  await expect(
    storage.write((unit) =>
      storeTakenKey(unit, audit, { key: stored, certificates: [], now: new Date(), by: { kind: 'operator', id: 'test' } }),
    ),
  ).rejects.toMatchObject({ code: 'kek-destroyed' });
  expect(await count()).toEqual(before);
});
