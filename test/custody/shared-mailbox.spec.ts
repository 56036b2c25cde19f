import 'reflect-metadata';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { checkData } from '../../src/commands/consistency.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { openDelivery } from '../support/open-delivery.js';
import { refusal } from '../support/wire.js';
import { asDevice, begin, enrolDevice, fetchKeys, giveAnswer, keysOf, type WireDevice, type WireKey } from '../support/wire-device.js';

jest.setTimeout(60_000);
const SALES = 'sales@corp.example';
let house: HouseInProcess;
let anna: WireDevice;
let bob: WireDevice;

beforeAll(async () => {
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 3 } } } });
  anna = await enrolDevice(house, 'anna@corp.example');
  bob = await enrolDevice(house, 'bob@corp.example');
  await house.act('mailbox.create', { address: SALES });
});
afterAll(() => house?.close());

type Shared = WireKey & { mailbox?: string };
const sharedOf = async (device: WireDevice) => ((await keysOf(house, device)) as Shared[]).filter(({ mailbox }) => mailbox !== undefined);

test('sales@ is read by Anna and Bob, each on their own device and by name in the log; nobody enrols as sales@', async () => {
  for (const who of ['anna', 'bob']) await house.act('mailbox.add', { mailbox: SALES, who: `${who}@corp.example` });
  await expect(house.act('mailbox.add', { mailbox: SALES, who: 'bob@corp.example' })).rejects.toMatchObject({ code: 'member-already' });
  await expect(house.act('mailbox.add', { mailbox: 'bob@corp.example', who: 'anna@corp.example' })).rejects.toMatchObject({
    code: 'mailbox-unknown',
  });
  await expect(house.act('mailbox.create', { address: 'bob@corp.example' })).rejects.toMatchObject({ code: 'address-bound' });
  for (const device of [anna, bob]) {
    const [key, ...more] = await sharedOf(device);
    expect([key?.mailbox, key?.state, more.length]).toEqual([SALES, 'active', 0]);
    const certificate = new X509Certificate(key?.certificates[0] ?? '');
    const pkcs8 = openDelivery(Buffer.from(key?.delivery ?? '', 'base64'), device.keys.delivery);
    const opened = createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
    expect(certificate.publicKey.equals(opened)).toBe(true);
    expect(certificate.subjectAltName).toContain(SALES);
    expect(await house.log(20)).toContainEqual(
      expect.objectContaining({
        action: 'key.deliver',
        device: device.id,
        key: key?.id,
        facts: expect.objectContaining({ member: device.employee }),
      }),
    );
  }
  const members = (await house.act('mailbox.members', { mailbox: SALES })) as { addresses: string[]; to: number | null }[];
  expect(members.map(({ addresses, to }) => [addresses, to])).toEqual([
    [['anna@corp.example'], null],
    [['bob@corp.example'], null],
  ]);
  const begun = await begin(house, SALES);
  expect(refusal(await giveAnswer(house, begun))).toBe('403 mailbox-shared');
});

test('Bob leaves the group: from the next request on nothing, not even what was kept; a database that is put back does not help; Anna reads on, a new key too', async () => {
  const [former] = await sharedOf(bob);
  const rows = await house.db.all<{ id: string; mac: Buffer }>('SELECT id, mac FROM mailbox_members WHERE employee = ?', [bob.employee]);
  await house.act('mailbox.remove', { mailbox: SALES, who: 'bob@corp.example' });
  await expect(house.act('mailbox.remove', { mailbox: SALES, who: 'bob@corp.example' })).rejects.toMatchObject({ code: 'member-unknown' });
  expect(await sharedOf(bob)).toEqual([]);
  expect((await keysOf(house, bob)).map(({ state }) => state)).toEqual(['active']);
  expect(await house.db.all('SELECT key FROM deliveries WHERE device = ? AND key = ?', [bob.id, former?.id ?? ''])).toEqual([]);
  for (const { id, mac } of rows)
    await house.db.write((unit) => unit.run('UPDATE mailbox_members SET version = 1, to_time = NULL, mac = ? WHERE id = ?', [mac, id]));
  expect((await fetchKeys(house, bob)).json).toContainEqual(
    expect.objectContaining({ mailbox: SALES, delivery: null, problem: 'record-stale' }),
  );
  await house.db.write((unit) => unit.run('DELETE FROM mailbox_members WHERE employee = ?', [bob.employee]));

  await house.act('key.renew', { who: SALES });
  expect((await sharedOf(anna)).map(({ state }) => state)).toEqual(['active', 'deactivated']);
});

test('in remote mode the keys stay here; a mailbox that is stopped serves nobody', async () => {
  await house.act('mailbox.create', { address: 'board@corp.example', mode: 'remote' });
  await house.act('mailbox.add', { mailbox: 'board@corp.example', who: 'anna@corp.example' });
  const board = (await sharedOf(anna)).find(({ mailbox }) => mailbox === 'board@corp.example');
  expect(board).toMatchObject({ mode: 'remote', delivery: null });
  const ask = { scheme: 'rsa-pkcs1', encryptedKey: Buffer.alloc(256, 1).toString('base64'), length: 32 };
  const path = `/v1/keys/${board?.id}/decryptions`;
  expect((await asDevice(house, anna, 'POST', path, ask)).status).toBe(200);
  expect((await house.log(1))[0]).toMatchObject({ action: 'key.decrypt', facts: { member: anna.employee } });
  expect(refusal(await asDevice(house, bob, 'POST', path, ask))).toBe('404 key-unknown');
  await house.act('employee.stop', { address: 'board@corp.example' });
  expect(refusal(await asDevice(house, anna, 'POST', path, ask))).toBe('404 key-unknown');
  expect((await checkData(house.house.storage, house.token)).filter(({ verdict }) => verdict === 'bad')).toEqual([]);
});
