import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { CLIENT_VERSION, readAppCredential } from '../../client/src/sdk/index.js';
import type { AppCredentialFile } from '../../src/access/index.js';
import { ClientVersions } from '../../src/access/index.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal, send, type WireReply } from '../support/wire.js';
import {
  asDevice,
  begin,
  type Door,
  deviceFrom,
  enrolDevice,
  fetchKeys,
  giveAnswer,
  newDeviceKeys,
  postSigned,
  requestBody,
  type WireDevice,
} from '../support/wire-device.js';

jest.setTimeout(60_000);

const keysAs = (door: Door, { certificates, keys }: WireDevice, version: string): Promise<WireReply> =>
  send({
    port: door.port,
    root: door.root,
    path: '/v1/keys',
    headers: { 'ekms-client': version },
    identity: { certificates, key: keys.identity },
  });

test('versions are compared as numbers, and whoever says none, or nonsense, is too old', () => {
  const versions = new ClientVersions({ linux: { minimum: '1.10.0' } });
  for (const good of ['1.10', '1.10.0', '1.11', '2', '1.10.0-rc1']) expect(() => versions.require('linux', good)).not.toThrow();
  for (const bad of ['1.9.9', '1', '0.11', '', 'x', '1.10.0 ', '9999999', undefined])
    expect(() => versions.require('linux', bad)).toThrow(expect.objectContaining({ code: 'client-too-old' }));
  for (const any of ['0', undefined]) expect(() => versions.require('constructor', any)).not.toThrow();
});

test('the client says the version of its package', () => {
  const { version } = JSON.parse(readFileSync(resolve(__dirname, '../../package.json'), 'utf8')) as { version: string };
  expect(CLIENT_VERSION).toBe(version);
});

describe('app only', () => {
  let house: HouseInProcess;
  const day = 86_400_000;
  const iso = (ahead: number) => new Date(Date.now() + ahead).toISOString();
  beforeAll(async () => {
    house = await HouseInProcess.open({
      settings: {
        clients: { android: { minimum: '2.0' } },
        enrolment: {
          devicesPerPerson: 2,
          windows: [
            { from: iso(-day), to: iso(day) },
            { from: iso(3 * day), to: iso(4 * day) },
          ],
        },
        keys: { bits: 2048, pool: { target: 4 } },
      },
    });
  });
  afterAll(() => house?.close());
  /** The same appliance as another app sees it. */
  const shippedWith = async (platform: string, release: string): Promise<Door & { id: string }> => {
    const file = (await house.act('app.issue', { platform, release })) as AppCredentialFile;
    const app = readAppCredential(JSON.stringify(file));
    return { port: house.port, root: house.root, app, now: () => house.now(), mailed: (...of) => house.mailed(...of), id: file.id };
  };

  test('a release that is withdrawn with its devices: they stop at once, those of the next release go on', async () => {
    const [old, next] = [await shippedWith('linux', '2.3.0'), await shippedWith('linux', '2.4.0')];
    const [first, second] = [await enrolDevice(old, 'anna@corp.example'), await enrolDevice(next, 'anna@corp.example')];
    expect((await fetchKeys(old, first)).status).toBe(200);
    await house.act('app.revoke', { id: old.id });
    expect(refusal(await postSigned(old, '/v1/enrolments', {}))).toBe('401 app-unknown');
    expect((await fetchKeys(old, first)).status).toBe(200); // it came in while the credential was good
    expect(await house.act('app.revoke', { id: old.id, devices: true })).toEqual({ devices: 1 });
    expect(refusal(await fetchKeys(old, first))).toBe('403 device-blocked');
    expect((await fetchKeys(next, second)).status).toBe(200);
    await expect(house.act('app.revoke', { id: old.id, devices: true })).rejects.toMatchObject({ code: 'app-unknown' });
    expect(await house.db.one('SELECT state FROM devices WHERE id = ?', [first.id])).toEqual({ state: 'revoked' });
    expect(await house.db.one("SELECT id FROM intents WHERE kind = 'block-device'")).toBeUndefined();
    // Not even a device whose end has not been reached yet, as after a crash on the way.
    await house.db.write((unit) => unit.run("UPDATE devices SET state = 'active' WHERE id = ?", [first.id]));
    expect(refusal(await asDevice(old, first, 'GET', '/v1/devices'))).toBe('403 device-blocked');
    await house.db.write((unit) => unit.run("UPDATE devices SET state = 'revoked' WHERE id = ?", [first.id]));
  });

  test('whoever writes the database adds no app credential, moves none to another key, and wakes none by its state', async () => {
    const app = await shippedWith('linux', '2.5.0');
    const tamper = (sql: string, ...values: (string | Buffer)[]) => house.db.write((unit) => unit.run(sql, [...values, app.id]));
    const keys = await newDeviceKeys();
    const ask = () => postSigned(app, '/v1/enrolments', requestBody('anna@corp.example', keys));
    expect((await ask()).status).toBe(201);
    const row = await house.db.one<{ mac: Buffer }>('SELECT mac FROM apps WHERE id = ?', [app.id]);
    await tamper('UPDATE apps SET mac = ? WHERE id = ?', Buffer.alloc(32));
    expect(refusal(await ask())).toBe('401 app-unknown');
    await house.db.write((unit) => unit.run('UPDATE apps SET mac = NULL WHERE id = ?', [app.id]));
    expect(refusal(await ask())).toBe('401 app-unknown');
    await tamper('UPDATE apps SET mac = ? WHERE id = ?', row?.mac ?? Buffer.alloc(0));
    await tamper('UPDATE apps SET platform = ? WHERE id = ?', 'android');
    expect(refusal(await ask())).toBe('401 app-unknown');
    await tamper('UPDATE apps SET platform = ? WHERE id = ?', 'linux');
    expect((await ask()).status).toBe(201);
    await house.act('app.revoke', { id: app.id });
    await tamper("UPDATE apps SET state = 'active' WHERE id = ?");
    expect(refusal(await ask())).toBe('401 app-unknown');
  });

  test('a client older than its platform’s minimum neither enrols nor gets keys', async () => {
    const door = await shippedWith('android', '1.9');
    const keys = await newDeviceKeys();
    const ask = (version?: string) =>
      postSigned(door, '/v1/enrolments', {
        ...requestBody('bert@corp.example', keys),
        platform: 'android',
        ...(version ? { version } : {}),
      });
    expect(refusal(await ask())).toBe('403 client-too-old');
    expect(refusal(await ask('1.9.9'))).toBe('403 client-too-old');
    expect(refusal(await ask('two'))).toMatch(/^400 /);
    expect((await ask('2.0.0')).status).toBe(201);
    const device = await enrolDevice(house, 'bert@corp.example');
    await house.db.write((unit) => unit.run("UPDATE devices SET platform = 'android' WHERE id = ?", [device.id]));
    expect(refusal(await fetchKeys(house, device))).toBe('403 client-too-old');
    expect(refusal(await keysAs(house, device, '1.99'))).toBe('403 client-too-old');
    expect((await keysAs(house, device, '2.0')).status).toBe(200);
  });

  test('a person has so many devices and no more: the next is refused by name, and none of the others gives way', async () => {
    const devices = [await enrolDevice(house, 'carl@corp.example'), await enrolDevice(house, 'carl@corp.example')];
    const begun = await begin(house, 'carl@corp.example');
    expect(refusal(await giveAnswer(house, begun))).toBe('409 device-cap');
    for (const device of devices) expect((await fetchKeys(house, device)).status).toBe(200);
    await house.act('device.revoke', { id: devices[0]?.id });
    // The enrolment was not used up by the refusal.
    expect((await fetchKeys(house, deviceFrom(begun, await giveAnswer(house, begun)))).status).toBe(200);
  });

  test('outside of the announced times nobody begins to enrol', async () => {
    house.pass(2 * day);
    expect(refusal(await postSigned(house, '/v1/enrolments', requestBody('dora@corp.example', await newDeviceKeys())))).toBe(
      '403 enrolment-closed',
    );
    house.pass(1.5 * day);
    await begin(house, 'dora@corp.example');
  });
});

test('whoever writes the database cannot say yes to an enrolment that waits for approval', async () => {
  const house = await HouseInProcess.open({ settings: { enrolment: { second: 'approval' }, keys: { bits: 2048, pool: { target: 2 } } } });
  try {
    const begun = await begin(house, 'eve@corp.example');
    const again = () => giveAnswer(house, begun);
    expect((await again()).status).toBe(202);
    const write = (sql: string) => house.db.write((unit) => unit.run(sql, [begun.id]));
    await write('UPDATE enrolments SET waits_for = NULL WHERE id = ?');
    expect((await again()).status).toBe(202);
    await write("UPDATE enrolments SET state = 'approved' WHERE id = ?");
    expect(refusal(await again())).toBe('403 decision-forged');
    await write("UPDATE enrolments SET state = 'open' WHERE id = ?");
    expect((await again()).status).toBe(202);
    // Another one's yes is none for this.
    const other = await begin(house, 'frank@corp.example');
    await giveAnswer(house, other);
    await house.act('enrolment.decide', { id: other.id, approve: true });
    await write("UPDATE enrolments SET state = 'approved' WHERE id = ?");
    await house.db.write((unit) =>
      unit.run('UPDATE enrolments SET decision = (SELECT decision FROM enrolments WHERE id = ?) WHERE id = ?', [other.id, begun.id]),
    );
    expect(refusal(await again())).toBe('403 decision-forged');
    await write("UPDATE enrolments SET state = 'waiting' WHERE id = ?");
    await house.act('enrolment.decide', { id: begun.id, approve: true });
    expect((await again()).status).toBe(200);
  } finally {
    await house.close();
  }
});
