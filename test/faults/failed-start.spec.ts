import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { startAppliance } from '../../src/appliance.js';
import { parseConfiguration } from '../../src/configuration/index.js';
import { Fault, SystemClock } from '../../src/foundation/index.js';
import { authorityUrls, type House, openHouse } from '../../src/house.js';
import { MemoryTransport } from '../../src/mail/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { DOMAIN } from '../support/appliance.js';
import { Isolated } from '../support/isolated.js';

jest.setTimeout(60_000);

const away = () => new Fault('unavailable', 'audit-unavailable', 'the log cannot be signed now', 2);
/** What would keep a process from ending; of the handles there is no other list than this one. */
const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
const listening = () =>
  (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles().filter((one) => one instanceof Server && one.listening)
    .length;

let folder: string;
let token: MemoryToken;
let house: House;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-start-'));
  const listen = Object.fromEntries(['client', 'administration', 'staff', 'public', 'operation'].map((name) => [name, '127.0.0.1:0']));
  const configuration = parseConfiguration(
    JSON.stringify({ listen, domains: [DOMAIN], keys: { bits: 2048, pool: { target: 0 } } }),
    folder,
  );
  const authorities = { organisation: 'Test', domains: [DOMAIN], publicName: 'localhost', urls: authorityUrls(configuration) };
  const clock = new SystemClock();
  token = await MemoryToken.open(join(folder, 'journal'), authorities, clock);
  house = await openHouse(
    configuration,
    { root: resolve(__dirname, '../..') },
    { token, clock, surroundings: new Isolated(), transport: new MemoryTransport() },
  );
});
afterEach(async () => {
  await house.close();
  await token.close();
  rmSync(folder, { recursive: true, force: true });
});

test('rotations that cannot be finished at the start are told and tried again, and the appliance serves', async () => {
  const by = { kind: 'operator' };
  await house.storage.write(async (unit) => {
    const begin = 'INSERT INTO settings (name, value) VALUES (?, ?)';
    await unit.run(begin, ['audit.key-rotation', JSON.stringify({ n: 2, by })]);
    await unit.run(begin, ['custody.key-rotation', JSON.stringify({ name: 'mail', n: 2, by })]);
  });
  const refuse = () => Promise.reject(away());
  Object.assign(token, { tokenKeys: () => Promise.resolve([]), prepareAuditKey: refuse, succeedKey: refuse });
  const defects: [unknown, string][] = [];
  const appliance = await startAppliance(house, (error, about) => defects.push([error, about]));
  expect(defects).toMatchObject([
    [{ code: 'audit-unavailable' }, 'rotation of token keys'],
    [{ code: 'audit-unavailable' }, 'rotation of the key of the log'],
  ]);
  expect(appliance.places.client.port).toBeGreaterThan(0);
  expect(await house.storage.all("SELECT name FROM settings WHERE name LIKE '%.key-rotation'")).toHaveLength(2);
  await appliance.close();
});

test('a start that fails after its listeners opened leaves neither listener nor timer', async () => {
  const [servers, before] = [listening(), timers()];
  const begin = house.checkpoints.begin.bind(house.checkpoints);
  let served = 0;
  Object.assign(house.checkpoints, {
    begin: () => {
      served = listening() - servers;
      return Promise.reject(away());
    },
  });
  await expect(startAppliance(house, () => undefined)).rejects.toMatchObject({ code: 'audit-unavailable' });
  expect(served).toBe(5);
  // The house is ended by whoever opened it, as serve does.
  await house.witnesses.stop();
  expect(listening()).toBe(servers);
  expect(timers()).toBeLessThanOrEqual(before); // one of what was there before may have run out meanwhile
  Object.assign(house.checkpoints, { begin });
});
