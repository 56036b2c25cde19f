import 'reflect-metadata';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { Employees } from '../../src/access/employees.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal } from '../support/wire.js';
import { enrolDevice, fetchKeys } from '../support/wire-device.js';

jest.setTimeout(60_000);

const system = { kind: 'system' } as const;
let house: HouseInProcess;
beforeAll(async () => {
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 2 } } } });
});
afterAll(() => house?.close());

test('a return that an operator’s stop overtakes leaves the person blocked in the token process too; guard off: whoever writes the database has their keys', async () => {
  const crossed = async (Made: typeof Employees) => {
    const { storage, audit, token, clock } = house.house;
    const employees = new Made(storage, audit, token, clock);
    const device = await enrolDevice(house, `${crossed.name}${Made === Employees}@corp.example`.toLowerCase());
    await employees.stop(device.employee, system);
    const unblock = house.token.unblock.bind(house.token);
    const spy = jest.spyOn(house.token, 'unblock').mockImplementationOnce(async (id) => {
      await employees.stop(id, system);
      await unblock(id);
    });
    await employees.resume(device.employee, system);
    spy.mockRestore();
    expect(refusal(await fetchKeys(house, device))).toBe('403 employee-blocked');
    await storage.write((unit) => unit.run("UPDATE employees SET state = 'active' WHERE id = ?", [device.employee]));
    return (await fetchKeys(house, device)).status;
  };
  expect(await crossed(Employees)).toBe(403);
  const guard = { file: 'src/access/employees.ts', guard: 'if ((await stateIn(unit)) !== told) return false;', instead: '' };
  expect(await crossed(guardOff<{ Employees: typeof Employees }>(guard).Employees)).toBe(200);
});
