import 'reflect-metadata';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { SyncReport } from '../../src/directory/index.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal } from '../support/wire.js';
import { enrolDevice, fetchKeys, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);
const folder = mkdtempSync(join(tmpdir(), 'ekms-csv-'));
const csvFile = join(folder, 'people.csv');
let house: HouseInProcess;

/** The personnel department writes the whole file anew; it ends with a line's end. */
const personnel = (...lines: string[]) => writeFileSync(csvFile, ['id,addresses,state', ...lines, ''].join('\n'));
const dry = async () =>
  ((await house.act('directory.preview', {})) as SyncReport).steps.map((step) => [
    step.act,
    'address' in step ? addressOf(step.address) : '',
  ]);
const addressOf = (address: string | { key: string }) => (typeof address === 'string' ? address : address.key);
const sync = () => house.act('directory.sync', {}) as Promise<SyncReport>;

beforeAll(async () => {
  personnel('1,anna@corp.example,active', '2,bob@corp.example,active', '3,carl@corp.example,active');
  const directory = { source: 'csv', csvFile, everyMinutes: 1440, leaversPercent: 50 };
  house = await HouseInProcess.open({ settings: { directory, keys: { bits: 2048, pool: { target: 4 } } } });
  await sync();
});
afterAll(async () => {
  await house?.close();
  rmSync(folder, { recursive: true, force: true });
});

test('joiners, movers and leavers from the file of the personnel department: a dry run names each and does nothing, then each is done', async () => {
  const [anna, bob] = [await enrolDevice(house, 'anna@corp.example'), await enrolDevice(house, 'bob@corp.example')];
  const [key] = await keysOf(house, anna);
  personnel(
    '1,anna.schmidt@corp.example anna.s@corp.example,active',
    '2,bob@corp.example,disabled',
    '3,carl@corp.example,active',
    '4,dora@corp.example,active',
  );
  const planned = [
    ['end-address', 'anna@corp.example'],
    ['stop', ''],
    ['add-address', 'anna.schmidt@corp.example'],
    ['add-address', 'anna.s@corp.example'],
    ['join', 'dora@corp.example'],
  ];
  expect(await dry()).toEqual(planned);
  expect(await dry()).toEqual(planned);
  expect((await fetchKeys(house, bob)).status).toBe(200);
  await sync();
  expect(await dry()).toEqual([]);
  // The mover's key stays and has certificates for both new addresses; the leaver gets nothing; the joiner has a key before the first device.
  const [now] = await keysOf(house, anna);
  expect(now?.id).toBe(key?.id);
  expect(now?.certificates.length).toBe((key?.certificates.length ?? 0) + 2);
  expect(refusal(await fetchKeys(house, bob))).toBe('403 employee-blocked');
  const ofDora = "SELECT state FROM keys WHERE employee = (SELECT employee FROM bindings WHERE address = 'dora@corp.example')";
  for (const until = Date.now() + 20_000; (await house.db.all(ofDora)).length === 0 && Date.now() < until; ) await sleep(50);
  expect(await house.db.all(ofDora)).toEqual([{ state: 'active' }]);
});

test('a file that is half written, or has lost its people, stops nobody', async () => {
  writeFileSync(csvFile, 'id,addresses,state\n1,anna.schmidt@corp.example,active\n3,carl@cor');
  await expect(sync()).rejects.toMatchObject({ code: 'directory-refused' });
  personnel();
  await expect(sync()).rejects.toMatchObject({ code: 'directory-losses' });
  expect(await house.db.all("SELECT id FROM employees WHERE state = 'active'")).toHaveLength(3);
});
