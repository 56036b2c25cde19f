import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Appliance } from '../support/appliance.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal } from '../support/wire.js';
import { begin, type Door, deviceFrom, enrolDevice, fetchKeys, giveAnswer, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);

describe('people', () => {
  let ekms: Appliance;
  beforeAll(async () => {
    ekms = await Appliance.open();
  });
  afterAll(() => ekms?.close());

  test('the next owner of an address enrols and gets nothing of the former one, who keeps what is theirs', async () => {
    const address = 'sales@corp.example';
    const former = await enrolDevice(ekms, address);
    const [formerKey] = await keysOf(ekms, former);
    expect(await ekms.ekms('employee', 'release-address', address)).toMatchObject({ status: 0 });
    const next = await enrolDevice(ekms, address);
    expect(next.employee).not.toBe(former.employee);
    const nextKeys = await keysOf(ekms, next);
    expect(nextKeys).toHaveLength(1);
    expect(nextKeys[0]?.id).not.toBe(formerKey?.id);
    expect(nextKeys[0]?.certificates[0]).not.toBe(formerKey?.certificates[0]);
    expect((await keysOf(ekms, former)).map(({ id }) => id)).toEqual([formerKey?.id]);
    expect((await ekms.log()).map(({ action }) => action)).toContain('binding.end');
  });

  test('a leaver gets nothing from the next request on, not even what was kept for the device, until taken back', async () => {
    const address = 'leaver@corp.example';
    const device = await enrolDevice(ekms, address);
    expect(await keysOf(ekms, device)).toHaveLength(1);
    expect(await ekms.ekms('employee', 'stop', address)).toMatchObject({ status: 0 });
    expect(refusal(await fetchKeys(ekms, device))).toBe('403 employee-blocked');
    const last = (await ekms.log()).findLast(({ action }) => action === 'device.admit');
    expect(last).toMatchObject({ action: 'device.admit', outcome: 'refused', reason: 'employee-blocked' });
    // Neither does a new device of theirs help, though the mailbox still works.
    const begun = await begin(ekms, address);
    expect(refusal(await giveAnswer(ekms, begun))).toBe('403 employee-blocked');
    // Whoever sets the person active in the database alone has not told the token process.
    await ekms.db.write((unit) => unit.run("UPDATE employees SET state = 'active' WHERE id = ?", [device.employee]));
    await ekms.db.write((unit) => unit.run('DELETE FROM deliveries WHERE device = ?', [device.id]));
    expect(refusal(await fetchKeys(ekms, device))).toBe('403 employee-blocked');
    expect(await ekms.ekms('employee', 'resume', address)).toMatchObject({ status: 0 });
    expect(await keysOf(ekms, device)).toHaveLength(1);
  });

  test('two first devices at once: one employee, one key', async () => {
    await twoAtOnce(ekms, 'both@corp.example');
    const [count] = await ekms.db.all<{ keys: number }>(
      'SELECT COUNT(*) AS keys FROM keys WHERE employee IN (SELECT employee FROM bindings WHERE address = ?)',
      ['both@corp.example'],
    );
    expect(Number(count?.keys)).toBe(1);
  });

  test('devices of five people, all at once: nobody shares a key and nobody is without', async () => {
    const people = Array.from({ length: 5 }, (_, n) => `crowd${n}@corp.example`);
    const devices = await Promise.all(people.flatMap((address) => [enrolDevice(ekms, address), enrolDevice(ekms, address)]));
    const keys = await Promise.all(devices.map((device) => keysOf(ekms, device)));
    const byPerson = new Map(devices.map(({ address }, n) => [address, keys[n]?.map(({ id }) => id)]));
    for (const [n, { address }] of devices.entries()) expect(keys[n]?.map(({ id }) => id)).toEqual(byPerson.get(address));
    expect(new Set([...byPerson.values()].flat()).size).toBe(5);
  });
});

test('a key that comes in the very moment when a device asks is still on its way, never "you have none"', async () => {
  const house = await HouseInProcess.open();
  try {
    const device = await enrolDevice(house, 'alice@corp.example');
    const { db } = house;
    const all = db.all.bind(db);
    // Right after the list of keys was read, once.
    db.all = async <T extends object>(...args: Parameters<typeof all>) => {
      const rows = await all<T>(...args);
      if (/FROM keys/.test(args[0]) && db.all !== all) {
        db.all = all;
        await house.act('pool.fill', { count: 1 });
      }
      return rows;
    };
    const { json } = await fetchKeys(house, device);
    expect(await all("SELECT id FROM keys WHERE state = 'active'")).toHaveLength(1);
    expect(json).toEqual([expect.objectContaining({ state: 'pending' })]);
    expect(await keysOf(house, device)).toHaveLength(1);
  } finally {
    await house.close();
  }
});

async function twoAtOnce(door: Door, address: string): Promise<void> {
  const [first, second] = await Promise.all([begin(door, address), begin(door, address)]);
  const answers = await Promise.all([giveAnswer(door, first), giveAnswer(door, second)]);
  const [one, other] = [deviceFrom(first, answers[0]), deviceFrom(second, answers[1])];
  expect(one.employee).toBe(other.employee);
  expect(one.id).not.toBe(other.id);
  const [keys, others] = [await keysOf(door, one), await keysOf(door, other)];
  expect(keys).toHaveLength(1);
  expect(others.map(({ id }) => id)).toEqual(keys.map(({ id }) => id));
}
