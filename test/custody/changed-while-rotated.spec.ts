import 'reflect-metadata';
import { afterAll, expect, jest, test } from '@jest/globals';
import { KeyStore } from '../../src/keys/index.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);
let house: HouseInProcess;
afterAll(() => house?.close());

test('a key whose state changes while it is wrapped anew opens afterwards, with both', async () => {
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 1 } } } });
  const alice = await enrolDevice(house, 'alice@corp.example');
  await keysOf(house, alice);
  const { vault, token, storage } = house.house;
  const { hsm } = token as unknown as { hsm: { renew(pair: { kek: string }): { kek: string } } }; // the memory token's: it has one KEK
  const renew = hsm.renew.bind(hsm);
  hsm.renew = (pair) => ({ ...renew({ ...pair, kek: '1' }), kek: '2' });
  const store = new KeyStore();
  const key = await house.db.one<{ id: string }>('SELECT id FROM keys');
  const id = key?.id ?? '';
  const renewed = async () => {
    const stored = await store.find(storage, id);
    if (!stored) throw new Error('it is gone');
    return { before: stored, ...(await token.renew(stored.sealed, { wrapped: stored.wrapped, publicKey: stored.publicKey })) };
  };
  const change = token.changeKey.bind(token);
  let wrappedAnew = 0;
  jest.spyOn(token, 'changeKey').mockImplementationOnce(async (...asked: Parameters<typeof change>) => {
    const next = await change(...asked);
    const { before, sealed, wrapped } = await renewed();
    if (await storage.write((unit) => store.renew(unit, before.sealed.record, { ...before, sealed, wrapped }))) wrappedAnew++;
    return next;
  });

  await vault.change(id, { state: 'suspended' }, { kind: 'system' });

  expect(wrappedAnew).toBe(1);
  expect(await house.db.all('SELECT version, state, kek FROM keys')).toEqual([{ version: 2, state: 'suspended', kek: '2' }]);
  await expect(renewed()).resolves.toBeDefined(); // the token judges seal and blob
});
