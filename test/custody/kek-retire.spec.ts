import 'reflect-metadata';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { Backups } from '../../src/custody/backups.js';
import { KekRotation } from '../../src/custody/kek-rotation.js';
import { Fault } from '../../src/foundation/index.js';
import { OnePlace } from '../../src/keys/index.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);
const BY = { kind: 'operator' } as const;
const FINISHED = Date.parse('2026-01-02T00:00:00Z');
let house: HouseInProcess;
let rotation: KekRotation;
let backups: { file: string; created: string }[] = [];
const destroyKek = jest.fn(async (_: string) => undefined);

beforeAll(async () => {
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 1 } } } });
  await keysOf(house, await enrolDevice(house, 'alice@corp.example'));
  await house.house.pool.stop();
  await house.act('transfer.key', {});
  const { storage, audit, clock, second } = house.house;
  const token = Object.assign(Object.create(house.token) as typeof house.token, { destroyKek });
  const kept = { list: async () => backups, verify: async () => backups[0] };
  rotation = new KekRotation({ storage, audit, token, clock, second, backups: kept as unknown as Backups });
});
afterAll(async () => {
  await rotation?.stop();
  await house?.close();
});

const stands = (value: object) =>
  house.db.write(async (unit) => {
    await unit.run("DELETE FROM settings WHERE name = 'custody.kek-rotation'");
    await unit.run("INSERT INTO settings (name, value) VALUES ('custody.kek-rotation', ?)", [JSON.stringify(value)]);
  });
const code = (tried: Promise<unknown>) =>
  tried.then(
    () => 'done',
    (error: { code: string }) => error.code,
  );
const kept = () =>
  house.db.one('SELECT (SELECT COUNT(*) FROM deliveries) AS deliveries, (SELECT COUNT(*) FROM transfer_keys) AS receiving');

test('no KEK is made while the second place knows keys that the token does not', async () => {
  const { storage, audit, clock } = house.house;
  const second = Object.assign(new OnePlace(), {
    requireKnown: () => Promise.reject(new Fault('unavailable', 'second-place-away', 'ahead', 30)),
  });
  const rotateKek = jest.fn(async () => ({ kek: '2' }));
  const token = Object.assign(Object.create(house.token) as typeof house.token, { rotateKek });
  const parts = { storage, audit, token, clock, second, backups: {} as Backups };
  expect(await code(new KekRotation(parts).rotate(BY))).toBe('second-place-away');
  expect(rotateKek).not.toHaveBeenCalled();
  const off = guardOff<{ KekRotation: typeof KekRotation }>({
    file: 'src/custody/kek-rotation.ts',
    guard: "      await second.requireKnown('kek');\n",
    instead: '',
  });
  const unguarded = new off.KekRotation(parts);
  expect(await code(unguarded.rotate(BY))).toBe('done');
  await unguarded.stop();
  expect(rotateKek).toHaveBeenCalledTimes(1);
});

test('a former KEK is destroyed only after its rotation, with a backup made since, and with nothing under it; with it go what was sealed under it', async () => {
  expect(await code(rotation.retire(BY))).toBe('kek-in-use');
  await stands({ to: '2', begun: 1 });
  backups = [{ file: 'newer', created: '2026-01-03T00:00:00Z' }];
  expect(await code(rotation.retire(BY))).toBe('kek-in-use');
  await stands({ to: '2', begun: 1, finished: FINISHED });
  expect(await code(rotation.rotate(BY))).toBe('kek-rotation-open');
  backups = [];
  expect(await code(rotation.retire(BY))).toBe('backup-older');
  backups = [{ file: 'older', created: '2026-01-01T00:00:00Z' }];
  expect(await code(rotation.retire(BY))).toBe('backup-older');
  expect(destroyKek).not.toHaveBeenCalled();

  expect(await kept()).toEqual({ deliveries: 1, receiving: 1 });
  for (const table of ['keys', 'pool']) await house.db.write((unit) => unit.run(`UPDATE ${table} SET kek = '2'`));
  backups = [{ file: 'newer', created: '2026-01-03T00:00:00Z' }];
  await stands({ to: '2', begun: 1 });
  expect(await code(rotation.retire(BY))).toBe('kek-in-use');
  await stands({ to: '2', begun: 1, finished: FINISHED });
  expect(await rotation.retire(BY)).toEqual({ destroyed: ['1'] });
  expect(destroyKek.mock.calls).toEqual([['1']]);
  expect(await kept()).toEqual({ deliveries: 0, receiving: 0 });
  expect(await rotation.status()).toEqual({ state: 'none', left: 0 });
});
