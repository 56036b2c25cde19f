import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { newId } from '../../src/foundation/index.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { begin, type DeviceKeys, giveAnswer, newDeviceKeys, newIdentity } from '../support/wire-device.js';

/** What the crash campaign found, each as a test of its own. */
let house: HouseInProcess;
beforeEach(async () => {
  house = await HouseInProcess.open();
}, 60_000);
afterEach(() => house.close());

const sameDelivery = ({ delivery }: DeviceKeys): DeviceKeys => ({ delivery, identity: newIdentity() });

test('pairs that are taken at the same time are different ones, and none is destroyed as spent', async () => {
  await house.house.pool.fill(6);
  const taken = await Promise.all(
    Array.from({ length: 6 }, () => house.house.pool.take({ key: newId(), employee: newId(), mode: 'deliver' })),
  );
  expect(new Set(taken.map((one) => one?.n)).size).toBe(6);
  expect((await house.log(50)).filter(({ action }) => action === 'pool.destroy')).toEqual([]);
  expect(await house.house.pool.take({ key: newId(), employee: newId(), mode: 'deliver' })).toBeUndefined();
}, 60_000);

test('an address that is asked for twice at once gets one challenge mail, which serves both', async () => {
  const keys = await newDeviceKeys();
  const [one, two] = await Promise.all([keys, keys].map((each) => begin(house, 'alice@corp.example', sameDelivery(each))));
  expect(one?.expiresAt).toBe(two?.expiresAt);
  await house.house.mail.flush();
  expect(house.mail.accepted).toHaveLength(1);
}, 60_000);

test('a challenge whose mail was in the hands of a process that died is made anew, not waited for', async () => {
  const keys = await newDeviceKeys();
  house.mail.broken = true;
  await begin(house, 'alice@corp.example', sameDelivery(keys));
  await house.house.mail.flush();
  const claim = Date.now() + 60_000;
  await house.house.storage.write((unit) => unit.run('UPDATE mails SET claimed_until = ?, next_try = ?', [claim, claim]));
  house.mail.broken = false;
  const again = await begin(house, 'alice@corp.example', sameDelivery(keys));
  expect((await giveAnswer(house, again)).status).toBe(200);
}, 60_000);

test('a pool that is told to end while it looks at its level ends, and does not sleep for a minute first', async () => {
  const { pool } = house.house;
  const level = pool.level.bind(pool);
  const looking = new Promise<() => void>((seen) => {
    pool.level = () => new Promise((look) => seen(() => look(level())));
  });
  pool.start();
  const look = await looking;
  const ended = pool.stop();
  look();
  const timer = new Promise((resolve) => setTimeout(resolve, 20_000, 'still asleep').unref());
  expect(await Promise.race([ended, timer])).toBeUndefined();
}, 60_000);
