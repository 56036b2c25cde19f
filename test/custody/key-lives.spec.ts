import 'reflect-metadata';
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { RowSeal } from '../../src/access/index.js';
import { checkData } from '../../src/commands/consistency.js';
import { reconcile } from '../../src/commands/reconcile.js';
import type { KeyHold, KeyLife } from '../../src/custody/key-lives.js';
import * as keyLives from '../../src/custody/key-lives.js';
import { KeyStore } from '../../src/keys/index.js';
import type { Authorities, Token } from '../../src/tokens/index.js';
import { guardOff } from '../support/guard-off.js';
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
const forgedLift = (employee: string, hold: string) =>
  house.db.write(async (unit) => {
    for (const id of [`hold:${employee}`, `hold:${employee}:${hold}`])
      await unit.run("INSERT INTO intents (id, kind, body, created) VALUES (?, 'hold', '{}', 0)", [id]);
  });
const livesOf = (
  Lives: typeof keyLives.KeyLives,
  token: Token = house.house.token,
  authorities: Pick<Authorities, 'of'> = house.house.authorities,
) => {
  const { storage, audit, replacement, clock } = house.house;
  return RowSeal.open(storage, token).then((seal) => new Lives({ storage, audit, token, replacement, clock, seal, authorities }));
};
/** What is due where every authority of people is retired: whoever has its key may have dated certificates back. */
const dueOfRetired = async () => {
  const of: Authorities['of'] = (name) => house.house.authorities.of(name).map((each) => ({ ...each, state: 'retired' }));
  return (await (await livesOf(keyLives.KeyLives, undefined, { of })).retention()).due;
};
/** Whether the token process would let a key of this person be destroyed. */
const isFree = async (employee: string) => {
  const row = await house.db.one<{ id: string }>("SELECT id FROM keys WHERE employee = ? AND state <> 'destroyed' LIMIT 1", [employee]);
  const key = await new KeyStore().find(house.db, row?.id ?? '');
  return key
    ? house.token.changeKey(key.sealed, { state: 'destroyed' }).then(
        () => true,
        () => false,
      )
    : undefined;
};
/** Somebody whose key was replaced. */
const deactivated = async (name: string) => {
  const device = await enrolDevice(house, `${name}@corp.example`);
  const key = (await keysOf(house, device))[0]?.id ?? '';
  await house.act('key.replace', { address: `${name}@corp.example`, because: 'superseded' });
  return { employee: device.employee, key };
};
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
  // ... and of intents that would have it told otherwise, one is as good as another.
  await forgedLift(alice.employee, hold);
  await reconcile(house.house);
  await expect(change('destroyed', 'retention')).rejects.toMatchObject({ code: 'key-held' });
  const unguarded = guardOff<typeof keyLives>({
    file: 'src/custody/key-lives.ts',
    guard: 'if (isHeld) await token.hold(employee);',
    instead: 'await ((await this.#isHeld(storage, employee)) ? token.hold(employee) : token.unhold(employee));',
  });
  await (await livesOf(unguarded.KeyLives)).settleHold(`hold:${alice.employee}`);
  expect(await isFree(alice.employee)).toBe(true);
  await house.token.hold(alice.employee);
  await house.db.write((unit) => unit.run('UPDATE key_holds SET lifted = NULL WHERE id = ?', [hold]));
  await house.act('hold.lift', { id: hold });
  await expect(house.act('hold.lift', { id: 'x' })).rejects.toMatchObject({ code: 'hold-unknown' });
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
  expect(await dueOfRetired()).toEqual([]);

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

test('who sets every column of a key in use has nothing of it destroyed by retention: the certificate itself says when it ends', async () => {
  const dora = await enrolDevice(house, 'dora@corp.example');
  const [key] = await keysOf(house, dora);
  await house.db.write(async (unit) => {
    await unit.run("UPDATE employees SET state = 'stopped' WHERE id = ?", [dora.employee]);
    await unit.run('UPDATE keys SET created = 1 WHERE id = ?', [key?.id ?? '']);
    await unit.run('UPDATE certificates SET not_after = 1 WHERE subject_key = ?', [key?.id ?? '']);
  });
  expect((await (await livesOf(keyLives.KeyLives)).retention()).due).not.toContain(key?.id);
  // Another's certificate, and none at all, say nothing of this key's age.
  const unguarded = guardOff<typeof keyLives>({
    ...{ file: 'src/custody/key-lives.ts', guard: 'if ((await this.#vouchedEnd(id)) < before) due', instead: 'due' },
  });
  expect((await (await livesOf(unguarded.KeyLives)).retention()).due).toContain(key?.id);
  await house.db.write((unit) =>
    unit.run('UPDATE certificates SET der = (SELECT der FROM certificates WHERE employee = ? LIMIT 1) WHERE subject_key = ?', [
      alice.employee,
      key?.id ?? '',
    ]),
  );
  house.pass(20 * 366 * 86_400_000);
  expect((await (await livesOf(keyLives.KeyLives)).retention()).due).not.toContain(key?.id);
  // The end of a retired authority is one: nothing is kept for ever by that.
  expect(await dueOfRetired()).toContain(former);
});

test('a hold that is placed while another is lifted is one that the token process knows in the end', async () => {
  const erin = await enrolDevice(house, 'erin@corp.example');
  const by = { kind: 'system' } as const;
  /** The token process hears of the end late: a hold comes before it does. */
  const race = async (Lives: typeof keyLives.KeyLives) => {
    const { hold } = await house.house.lives.hold(erin.employee, 'case 9', by);
    let placed = '';
    const late = new Proxy(house.token, {
      get: (target, name) => {
        if (name === 'unhold')
          return async (employee: string) => {
            placed = (await house.house.lives.hold(employee, 'case 10', by)).hold;
            await target.unhold(employee);
          };
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    await (await livesOf(Lives, late)).lift(hold, by);
    const free = await isFree(erin.employee);
    await house.house.lives.lift(placed, by);
    expect(await isFree(erin.employee)).toBe(true);
    return free;
  };
  expect(await race(keyLives.KeyLives)).toBe(false);
  const unguarded = guardOff<typeof keyLives>({
    ...{
      file: 'src/custody/key-lives.ts',
      guard: 'await this.settleHold(intent);\n  }\n\n  /**\n   * Tells',
      instead: '}\n\n  /**\n   * Tells',
    },
  });
  expect(await race(unguarded.KeyLives)).toBe(true);
});

test('a hold that is placed while a key is being destroyed counts, though the token process has not heard of it; guard off: the key is gone', async () => {
  const by = { kind: 'system' } as const;
  const { storage, audit, replacement, clock, seal, authorities, token } = house.house;
  /** Another node writes the hold between the first look and the unit. */
  const race = async (name: string, { KeyLives }: typeof keyLives) => {
    const { employee, key } = await deactivated(name);
    const attest: Token['attest'] = async (kind, statement) => {
      const sql = 'INSERT INTO key_holds (id, employee, reference, placed, lifted) VALUES (?, ?, ?, 1, NULL)';
      await house.db.write((unit) => unit.run(sql, [`hold of ${name}`, employee, 'case 11']));
      return token.attest(kind, statement);
    };
    const lives = new KeyLives({ storage, audit, token: { attest } as Token, replacement, clock, seal, authorities });
    const tried = await lives.setState(key, 'destroyed', 'retention', by).catch(({ code }) => code);
    return [tried, (await house.db.one<{ state: string }>('SELECT state FROM keys WHERE id = ?', [key]))?.state];
  };
  expect(await race('fred', keyLives)).toEqual(['key-held', 'deactivated']);
  const unguarded = guardOff<typeof keyLives>({
    file: 'src/custody/key-lives.ts',
    guard: 'if (destroys) await this.#requireFree(unit, employee);',
    instead: '',
  });
  expect(await race('gina', unguarded)).toEqual([{ statement: expect.any(String) }, 'destroyed']);
});

test('of two holds one is lifted: the token process never forgets that there is one', async () => {
  const { employee } = await deactivated('hugo');
  const by = { kind: 'system' } as const;
  const [first] = [await house.house.lives.hold(employee, 'case 12', by), await house.house.lives.hold(employee, 'case 13', by)];
  const unhold = jest.spyOn(house.token, 'unhold');
  await house.house.lives.lift(first.hold, by);
  expect(unhold).not.toHaveBeenCalled();
  unhold.mockRestore();
  expect(await isFree(employee)).toBe(false);
});
