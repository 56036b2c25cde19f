import 'reflect-metadata';
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { checkData } from '../../src/commands/consistency.js';
import type { KeyHold, KeyLife } from '../../src/custody/key-lives.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);
let house: HouseInProcess;
let alice: WireDevice;
let former: string;

beforeAll(async () => {
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 2 } } } });
  alice = await enrolDevice(house, 'alice@corp.example');
  former = (await keysOf(house, alice))[0]?.id ?? '';
});
afterAll(() => house?.close());

const lives = async () => (await house.act('key.list', { who: alice.employee })) as { keys: KeyLife[]; holds: KeyHold[] };
const change = (state: string, reason: string) => house.act('key.change', { id: former, state, reason });

test('a key’s states are told with dates and reasons; on legal hold it is not destroyed; destroyed, nothing of it is left but its record and the token’s statement', async () => {
  await house.act('key.replace', { address: 'alice@corp.example', because: 'superseded' });
  expect((await keysOf(house, alice)).map(({ state }) => state)).toEqual(['active', 'deactivated']);
  await change('compromised', 'compromised');
  const { hold } = (await house.act('hold.place', { who: 'alice@corp.example', reference: 'case 7' })) as { hold: string };
  await expect(change('destroyed', 'retention')).rejects.toMatchObject({ code: 'key-held' });
  expect(await house.house.storage.all('SELECT key FROM deliveries WHERE key = ?', [former])).toHaveLength(0);
  await keysOf(house, alice);
  expect(await house.house.storage.all('SELECT key FROM deliveries WHERE key = ?', [former])).toHaveLength(1);

  // Who writes the database takes the hold away: the token process remembers it.
  await house.db.write((unit) => unit.run('UPDATE key_holds SET lifted = 1 WHERE id = ?', [hold]));
  await expect(change('destroyed', 'retention')).rejects.toMatchObject({ code: 'key-held' });
  await house.db.write((unit) => unit.run('UPDATE key_holds SET lifted = NULL WHERE id = ?', [hold]));
  await house.act('hold.lift', { id: hold });
  await expect(house.act('hold.lift', { id: hold })).rejects.toMatchObject({ code: 'hold-unknown' });
  const before = await house.house.storage.one<{ wrapped: Buffer; mac: Buffer; version: number }>(
    'SELECT wrapped, mac, version FROM keys WHERE id = ?',
    [former],
  );
  const { statement } = (await change('destroyed', 'retention')) as { statement: string };
  const payload = JSON.parse(Buffer.from(statement.split('.')[1] ?? '', 'base64url').toString()) as Record<string, unknown>;
  expect(payload).toMatchObject({
    key: former,
    employee: alice.employee,
    reason: 'retention',
    reach: expect.stringContaining('Earlier backups'),
  });
  const digest = createHash('sha256').update(statement).digest('base64url');
  const entries = (await house.house.auditReader.latest(20)).map(({ body }) => body);
  expect(entries).toContainEqual(
    expect.objectContaining({ action: 'key.destroy', key: former, facts: expect.objectContaining({ statement: digest }) }),
  );
  expect(entries).toContainEqual(expect.objectContaining({ action: 'key.change', key: former, reason: 'retention' }));

  expect(await house.house.storage.all('SELECT key FROM deliveries WHERE key = ?', [former])).toEqual([]);
  const [row] = await house.house.storage.all<{ wrapped: Buffer }>('SELECT wrapped FROM keys WHERE id = ?', [former]);
  expect(row?.wrapped).toHaveLength(0);
  const { keys, holds } = await lives();
  expect(keys.map(({ id, state, changes }) => [id === former, state, changes.map(({ state, reason }) => `${state} ${reason}`)])).toEqual([
    [true, 'destroyed', ['deactivated superseded', 'compromised compromised', 'destroyed retention']],
    [false, 'active', []],
  ]);
  expect(keys[0]?.changes[2]?.statement).toBe(statement);
  expect(keys[0]?.certificates[0]?.revokedAt).not.toBeNull();
  expect(holds).toMatchObject([{ id: hold, reference: 'case 7', lifted: expect.any(Number) }]);
  expect((await keysOf(house, alice)).map(({ id }) => id === former)).toEqual([false]);
  expect((await checkData(house.house.storage, house.token)).filter(({ verdict }) => verdict === 'bad')).toEqual([]);

  // Who writes the database puts the whole row back as it was: the token process knows a later version.
  await house.house.storage.write((unit) =>
    unit.run("UPDATE keys SET state = 'compromised', wrapped = ?, mac = ?, version = ? WHERE id = ?", [
      ...[before?.wrapped ?? null, before?.mac ?? null, before?.version ?? 0],
      former,
    ]),
  );
  expect(await keysOf(house, alice)).toContainEqual(expect.objectContaining({ id: former, delivery: null, problem: 'record-stale' }));
});

test('retention: five years after their end keys go, with a statement each; not those on hold, none that is in use, and not by a policy that nobody adopted', async () => {
  const bob = await enrolDevice(house, 'bob@corp.example');
  const carol = await enrolDevice(house, 'carol@corp.example');
  const [ofBob, ofCarol] = [(await keysOf(house, bob))[0]?.id ?? '', (await keysOf(house, carol))[0]?.id ?? ''];
  for (const name of ['bob', 'carol']) await house.act('key.replace', { address: `${name}@corp.example`, because: 'superseded' });
  await house.act('hold.place', { who: 'carol@corp.example', reference: 'case 8' });
  house.pass(2.5 * 366 * 86_400_000);
  expect(await house.house.lives.destroyDue()).toBe(0);
  await house.act('retention.adopt', { years: 5 });
  expect(await house.act('retention.show', {})).toEqual({ years: 5, due: [] });
  house.pass(5 * 366 * 86_400_000);
  // Alice's former key is there too, as the database was put back above: the token process does not take that row.
  expect(await house.act('retention.show', {})).toEqual({ years: 5, due: [former, ofBob] });

  const policy = await house.db.one<{ value: string }>("SELECT value FROM settings WHERE name = 'custody.key-retention'");
  const put = (value: string) =>
    house.db.write((unit) => unit.run("UPDATE settings SET value = ? WHERE name = 'custody.key-retention'", [value]));
  await put((policy?.value ?? '').replace('"years":5', '"years":1'));
  await expect(house.house.lives.destroyDue()).rejects.toMatchObject({ code: 'retention-forged' });
  await put(policy?.value ?? '');

  expect(await house.house.lives.destroyDue()).toBe(1);
  const states = await house.db.all<{ id: string; state: string }>('SELECT id, state FROM keys WHERE id IN (?, ?)', [ofBob, ofCarol]);
  expect(new Map(states.map(({ id, state }) => [id, state]))).toEqual(
    new Map([
      [ofBob, 'destroyed'],
      [ofCarol, 'deactivated'],
    ]),
  );
  const entries = (await house.log(10)).filter(({ key }) => key === ofBob).map(({ action, reason, actor }) => [action, reason, actor.kind]);
  expect(entries).toEqual([
    ['key.change', 'retention', 'system'],
    ['key.destroy', undefined, 'system'],
  ]);
  expect(await house.house.lives.destroyDue()).toBe(0);
});
