import 'reflect-metadata';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type * as people from '../../src/access/employees.js';
import type * as devices from '../../src/devices/device-registry.js';
import { newId } from '../../src/foundation/index.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, fetchKeys, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);

const system = { kind: 'system' } as const;
let house: HouseInProcess;
beforeAll(async () => {
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 3 } } } });
});
afterAll(() => house?.close());

const registryOf = (of: Pick<typeof devices, 'DeviceRegistry'>) => {
  const { storage, audit, revocations, clock } = house.house;
  return new of.DeviceRegistry(storage, audit, house.token, revocations, clock, 10);
};
const employeesOf = (of: Pick<typeof people, 'Employees'>) => {
  const { storage, audit, clock } = house.house;
  return new of.Employees(storage, audit, house.token, clock);
};
const run = (sql: string, ...values: (string | Buffer)[]) => house.db.write((unit) => unit.run(sql, values));

/** What the device still gets when it was ended, and whoever owns the database has then written that it was not. */
async function served(end: (device: WireDevice) => Promise<unknown>, putBack: (device: WireDevice) => Promise<unknown>) {
  const device = await enrolDevice(house, `${newId()}@corp.example`);
  const [key] = await keysOf(house, device);
  expect(key?.delivery).toEqual(expect.any(String));
  await end(device);
  const kept = await house.db.all('SELECT key FROM deliveries WHERE device = ?', [device.id]);
  await putBack(device);
  const { status, json } = await fetchKeys(house, device);
  const given = status === 200 && (json as { delivery: string | null }[]).some(({ delivery }) => delivery !== null);
  return { kept: kept.length, given };
}

const nothing = { kept: 0, given: false };
const asBefore = { kept: 1, given: true };

test('what was kept for a device goes with it, and the token gives it nothing; guard off: a database that is put back serves it on', async () => {
  const file = 'src/devices/device-registry.ts';
  const guard = "await unit.run('DELETE FROM deliveries WHERE device = ?', [id]);";
  const off = registryOf(guardOff<typeof devices>({ file, guard, instead: '' }));
  const putBack = ({ id }: WireDevice) => run("UPDATE devices SET state = 'active' WHERE id = ?", id);
  for (const state of ['revoked', 'frozen'] as const) {
    expect(await served(({ id }) => house.house.registry.end(id, state, system), putBack)).toEqual(nothing);
    expect(await served(({ id }) => off.end(id, state, system), putBack)).toEqual(asBefore);
  }
});

test('the same for somebody who is stopped', async () => {
  const guard = "if (state === 'stopped') await forgetDeliveries(unit, employee);";
  const off = employeesOf(guardOff<typeof people>({ file: 'src/access/employees.ts', guard, instead: '' }));
  const putBack = ({ employee }: WireDevice) => run("UPDATE employees SET state = 'active' WHERE id = ?", employee);
  expect(await served(({ employee }) => house.house.employees.stop(employee, system), putBack)).toEqual(nothing);
  expect(await served(({ employee }) => off.stop(employee, system), putBack)).toEqual(asBefore);
});

test('an address ends: what was kept goes, and the keys, which stay this person’s, come from the token again; guard off: they come as they were kept', async () => {
  const guard = 'await forgetDeliveries(unit, record.employee);';
  const off = employeesOf(guardOff<typeof people>({ file: 'src/access/employees.ts', guard, instead: '' }));
  const ended = (employees: people.Employees) =>
    served(
      ({ address }) => employees.endBinding(address, system),
      async () => {},
    );
  expect(await ended(house.house.employees)).toEqual({ kept: 0, given: true });
  expect(await ended(off)).toEqual(asBefore);
});
