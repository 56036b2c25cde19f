import 'reflect-metadata';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { RequestFiled } from '../../src/commands/ask-appliance.js';
import { reconcile } from '../../src/commands/reconcile.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { TestAdministrator } from '../support/officers.js';

jest.setTimeout(60_000);

let house: HouseInProcess;
beforeAll(async () => {
  house = await HouseInProcess.open({ settings: { breakGlass: { announce: ['board@corp.example'] } } });
});
afterAll(async () => {
  jest.restoreAllMocks();
  await house?.close();
});

/** What the operator, alone, gets when they ask for something dangerous. */
const alone = async () => {
  const asked = house.act('app.issue', { platform: 'linux' });
  return asked.then(
    () => 'done',
    (error: unknown) => (error instanceof RequestFiled ? 'filed' : error),
  );
};
const bootstrap = () => house.house.administrators.bootstrap;

test('whoever deletes all officers from the database does not bring bootstrap back; guard off: they do', async () => {
  expect(await alone()).toBe('done');
  for (const name of ['anna', 'boris']) await TestAdministrator.register(house, name);
  expect(await alone()).toBe('filed');
  // As the appliance does within a minute, and at start.
  await reconcile(house.house);
  expect(await house.db.all("SELECT * FROM intents WHERE kind = 'end-bootstrap'")).toEqual([]);
  await house.db.write(async (unit) => {
    for (const table of ['passkeys', 'sessions', 'administrators']) await unit.run(`DELETE FROM ${table}`);
    await unit.run("DELETE FROM settings WHERE name = 'bootstrap-over'");
  });
  expect(await alone()).toBe('filed');
  await bootstrap().recall(); // a restart
  expect(await alone()).toBe('filed');
  // No dead end: the glass is there, slow and told to all.
  await house.act('break-glass.begin', {
    officers: [
      { name: 'Clara', address: 'clara@corp.example' },
      { name: 'Dan', address: 'dan@corp.example' },
    ],
  });
  await house.act('break-glass.cancel', {});

  jest.spyOn(house.token, 'bootstrapIsOver').mockResolvedValue(false);
  await bootstrap().recall();
  expect(await alone()).toBe('done');
});

test('a token that was restored, and remembers nothing, is told by the database', async () => {
  jest.restoreAllMocks();
  const told = jest.spyOn(house.token, 'endBootstrap');
  jest.spyOn(house.token, 'bootstrapIsOver').mockResolvedValue(false);
  await house.db.write((unit) => unit.run("INSERT INTO settings (name, value) VALUES ('bootstrap-over', '')"));
  await bootstrap().recall();
  expect(told).toHaveBeenCalledTimes(1);
});
