import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readAppCredential, signedFields } from '../../client/src/sdk/index.js';
import { pem } from '../../src/certificates/index.js';
import { newId, newSerial, sha256 } from '../../src/foundation/index.js';
import { TestAuthority } from '../client/test-authority.js';
import { Appliance } from '../support/appliance.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { openKey } from '../support/open-delivery.js';
import { refusal, send, type WireReply } from '../support/wire.js';
import {
  answerBody,
  answerPath,
  asDevice,
  begin,
  type DeviceKeys,
  deviceFrom,
  enrolDevice,
  fetchKeys,
  giveAnswer,
  keysOf,
  mailedHalf,
  newDeviceKeys,
  newIdentity,
  postSigned,
  requestBody,
  spkiOf,
  type WireDevice,
} from '../support/wire-device.js';

jest.setTimeout(60_000);
const MINUTE = 60_000;
const DAY = 86_400_000;

let people = 0;
const somebody = (name = 'somebody') => `${name}${++people}@corp.example`;

/** A problem document and nothing else: no stack, no path of ours, no member that is not RFC 9457's or ours. */
function expectProblem(reply: WireReply, expected: string): void {
  expect(refusal(reply)).toBe(expected);
  expect(reply.headers.find(([name]) => name.toLowerCase() === 'content-type')?.[1]).toMatch(/^application\/problem\+json/);
  expect(Object.keys(reply.json as object).toSorted()).toEqual(['code', 'detail', 'instance', 'status', 'title', 'type']);
  expect(reply.body.toString()).not.toMatch(/node_modules|\.[jt]s:\d|\n\s+at /);
}

/** The same, and the newest entry of the log says so. */
async function expectRefused(house: HouseInProcess, reply: WireReply, expected: string): Promise<void> {
  expectProblem(reply, expected);
  const [entry] = await house.log(1);
  const { code, instance } = reply.json as { code: string; instance: string };
  expect(entry).toMatchObject({ outcome: 'refused', reason: code, request: instance });
}

describe('a request to enrol is refused with a stable code and an entry', () => {
  let house: HouseInProcess;
  let keys: DeviceKeys;
  beforeAll(async () => {
    house = await HouseInProcess.open();
    keys = await newDeviceKeys();
  });
  afterAll(async () => {
    expect(house.defects).toEqual([]);
    // It is alive, and nothing is left half made.
    expect((await enrolDevice(house, somebody())).id).toBeTruthy();
    await house.close();
  });
  const ask = (changes: object = {}, fields: Record<string, string> = {}) =>
    postSigned(house, '/v1/enrolments', { ...requestBody(somebody(), keys), ...changes }, fields);
  const der = (key: KeyObject) => spkiOf(key).toString('base64');

  test.each<[string, string, () => Promise<WireReply>]>([
    ['a domain that is not served', '403 domain-not-served', () => ask({ address: 'alice@elsewhere.example' })],
    ['a domain that only looks like one that is served', '403 domain-not-served', () => ask({ address: 'alice@sub.corp.example' })],
    [
      'a delivery key of 2048 bits',
      '400 delivery-key-weak',
      () => ask({ delivery: der(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey) }),
    ],
    [
      'a delivery key with the exponent 3',
      '400 delivery-key-weak',
      () => ask({ delivery: der(generateKeyPairSync('rsa', { modulusLength: 3072, publicExponent: 3 }).privateKey) }),
    ],
    ['a delivery key that is not RSA', '400 delivery-key-malformed', () => ask({ delivery: der(newIdentity()) })],
    ['a delivery key that is noise', '400 delivery-key-malformed', () => ask({ delivery: randomBytes(300).toString('base64') })],
    ['a CSR that is noise', '400 csr-malformed', () => ask({ csr: randomBytes(300).toString('base64') })],
    [
      'a CSR with a signature that does not hold',
      '400 csr-signature-wrong',
      () => {
        const csr = Buffer.from(requestBody('a@corp.example', keys).csr, 'base64');
        csr.writeUInt8(csr.readUInt8(csr.length - 1) ^ 1, csr.length - 1);
        return ask({ csr: csr.toString('base64') });
      },
    ],
    [
      'an RSA identity key',
      '400 identity-key-unfit',
      () =>
        ask({
          csr: execFileSync(
            'openssl',
            ['req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', '/dev/null', '-subj', '/CN=x', '-outform', 'DER'],
            { stdio: ['ignore', 'pipe', 'ignore'] },
          ).toString('base64'),
        }),
    ],
    ['no signature of an app credential', '401 app-signature-malformed', () => ask({}, { 'signature-input': '' })],
    [
      'a signature over another body',
      '401 app-signature-wrong',
      () => ask({}, signedFields(house.app, 'POST', '/v1/enrolments', Buffer.from('{}'), house.now())),
    ],
    ['a signature of ten minutes ago', '401 app-clock', () => sendSignedAt(new Date(house.now().getTime() - 10 * MINUTE))],
    ['a signature of ten minutes from now', '401 app-clock', () => sendSignedAt(new Date(house.now().getTime() + 10 * MINUTE))],
    [
      'an app credential that is not known',
      '401 app-unknown',
      () => postSigned({ ...door(), app: { ...house.app, id: newId() } }, '/v1/enrolments', requestBody(somebody(), keys)),
    ],
    [
      'a revoked app credential',
      '401 app-unknown',
      async () => {
        const app = readAppCredential(JSON.stringify(await house.house.apps.issue('linux', { kind: 'operator' })));
        await house.act('app.revoke', { id: app.id });
        return postSigned({ ...door(), app }, '/v1/enrolments', requestBody(somebody(), keys));
      },
    ],
    ['an address that is not ASCII', '400 address-not-ascii', () => ask({ address: 'álice@corp.example' })],
    ['a domain with a letter of another script', '400 address-not-ascii', () => ask({ address: 'alice@соrp.example' })],
    ['something that is no address', '400 address-malformed', () => ask({ address: 'alice' })],
    ['an address with a header in it', '400 address-malformed', () => ask({ address: 'alice\r\nBcc: eve@corp.example' })],
    ['no JSON', '400 body-malformed', () => postSigned(house, '/v1/enrolments', Buffer.from('{"address":'))],
    [
      'JSON that is not UTF-8',
      '400 body-malformed',
      () => postSigned(house, '/v1/enrolments', Buffer.from('{"address":"\xe9"}', 'latin1')),
    ],
    ['a member that there is not', '400 body-malformed', () => ask({ employee: newId() })],
    ['a member of another type', '400 body-malformed', () => ask({ delivery: 7 })],
    ['a name with a line end in it', '400 body-malformed', () => ask({ name: 'a\nb' })],
    ['JSON as deep as its limit allows', '400 body-malformed', () => postSigned(house, '/v1/enrolments', Buffer.from('['.repeat(60_000)))],
  ])('%s: %s', async (_, expected, request) => {
    await expectRefused(house, await request(), expected);
  });

  const door = () => ({ port: house.port, root: house.root, app: house.app, now: () => house.now(), mailed: house.mailed.bind(house) });
  const sendSignedAt = (time: Date) => postSigned({ ...door(), now: () => time }, '/v1/enrolments', requestBody(somebody(), keys));

  test('a body beyond the limit, and one that says so before: 413', async () => {
    expectProblem(await postSigned(house, '/v1/enrolments', Buffer.alloc(70_000, 0x20)), '413 body-too-large');
  });

  test('another media type: 415', async () => {
    expectProblem(await ask({}, { 'content-type': 'text/plain' }), '415 media-type');
  });

  test('the very same signed request a second time: 401 app-replayed', async () => {
    const body = Buffer.from(JSON.stringify(requestBody(somebody(), keys)));
    const ask = {
      port: house.port,
      root: house.root,
      method: 'POST',
      path: '/v1/enrolments',
      body,
      headers: signedFields(house.app, 'POST', '/v1/enrolments', body, house.now()),
    };
    expect((await send(ask)).status).toBe(201);
    await expectRefused(house, await send(ask), '401 app-replayed');
  });

  test('a delivery key or an identity key that a device has or had: 409 device-key-used', async () => {
    const device = await enrolDevice(house, somebody());
    const fresh = await newDeviceKeys();
    for (const used of [device.keys, { ...fresh, delivery: device.keys.delivery }, { ...fresh, identity: device.keys.identity }])
      await expectRefused(house, await postSigned(house, '/v1/enrolments', requestBody(somebody(), used)), '409 device-key-used');
    await house.act('device.revoke', { id: device.id });
    await expectRefused(house, await postSigned(house, '/v1/enrolments', requestBody(somebody(), device.keys)), '409 device-key-used');
  });
});

describe('an answer', () => {
  let house: HouseInProcess;
  beforeAll(async () => {
    house = await HouseInProcess.open();
  });
  afterAll(async () => {
    expect(house.defects).toEqual([]);
    await house.close();
  });

  test('that is right but late is refused: 410 enrolment-expired', async () => {
    const begun = await begin(house, somebody());
    const half = await mailedHalf(house, begun);
    house.pass(11 * MINUTE);
    await expectRefused(house, await giveAnswer(house, begun, half), '410 enrolment-expired');
  });

  test('given a second time, also as the very same bytes, makes no second device: 409 enrolment-spent', async () => {
    const begun = await begin(house, somebody());
    const body = Buffer.from(JSON.stringify(answerBody(house, begun, await mailedHalf(house, begun))));
    const path = answerPath(begun.id);
    const ask = {
      port: house.port,
      root: house.root,
      method: 'POST',
      path,
      body,
      headers: signedFields(house.app, 'POST', path, body, house.now()),
    };
    const device = deviceFrom(begun, await send(ask));
    await expectRefused(house, await send(ask), '409 enrolment-spent');
    await expectRefused(house, await giveAnswer(house, begun), '409 enrolment-spent');
    expect(await house.house.registry.ofEmployee(device.employee)).toHaveLength(1);
  });

  test.each<[string, (right: Awaited<ReturnType<typeof rightAnswer>>) => object]>([
    ['with a wrong half', ({ begun }) => answerBody(house, begun, 'A'.repeat(22))],
    ['signed by another identity key', ({ begun, half }) => answerBody(house, begun, half, newIdentity())],
    ['for another address', ({ begun, half }) => answerBody(house, { ...begun, address: 'bob@corp.example' }, half)],
    [
      'for another identity key',
      ({ begun, half }) => answerBody(house, { ...begun, keys: { ...begun.keys, identity: newIdentity() } }, half, begun.keys.identity),
    ],
    ['with the other half changed', ({ begun, half }) => answerBody(house, { ...begun, half2: 'B'.repeat(22) }, half)],
    ['for another server', ({ begun, half }) => answerBody({ root: foreign().certificates }, begun, half)],
    [
      'with a nonce that was not opened',
      ({ begun, half }) => ({ ...answerBody(house, begun, half), nonce: randomBytes(32).toString('base64url') }),
    ],
  ])('%s is refused: 403 answer-wrong', async (_, bend) => {
    const right = await rightAnswer(somebody());
    await expectRefused(house, await postSigned(house, answerPath(right.begun.id), bend(right)), '403 answer-wrong');
    // Nothing is lost by it: the right one still enrols.
    expect((await giveAnswer(house, right.begun, right.half)).status).toBe(200);
  });

  const rightAnswer = async (address: string) => {
    const begun = await begin(house, address);
    return { begun, half: await mailedHalf(house, begun) };
  };

  test('guessed five times closes the enrolment, the right one comes too late: 403 enrolment-denied', async () => {
    const { begun, half } = await rightAnswer(somebody());
    for (let guess = 0; guess < 5; guess++) expect(refusal(await giveAnswer(house, begun, `${guess}`.repeat(22)))).toBe('403 answer-wrong');
    await expectRefused(house, await giveAnswer(house, begun, half), '403 enrolment-denied');
  });

  test('guessed by somebody without its identity key closes nothing', async () => {
    const { begun, half } = await rightAnswer(somebody());
    for (let guess = 0; guess < 7; guess++)
      expect(refusal(await postSigned(house, answerPath(begun.id), answerBody(house, begun, half, newIdentity())))).toBe(
        '403 answer-wrong',
      );
    expect((await giveAnswer(house, begun, half)).status).toBe(200);
  });

  test('by another app credential, or to an enrolment that there is not, finds nothing: 404 enrolment-unknown', async () => {
    const { begun, half } = await rightAnswer(somebody());
    const app = readAppCredential(JSON.stringify(await house.house.apps.issue('linux', { kind: 'operator' })));
    const body = answerBody(house, begun, half);
    const other = { port: house.port, root: house.root, app, now: () => house.now(), mailed: house.mailed.bind(house) };
    await expectRefused(house, await postSigned(other, answerPath(begun.id), body), '404 enrolment-unknown');
    await expectRefused(house, await postSigned(house, answerPath(newId()), body), '404 enrolment-unknown');
    await expectRefused(house, await postSigned(house, answerPath('1'), body), '400 body-malformed');
  });
});

describe('a TLS client certificate', () => {
  let house: HouseInProcess;
  let device: WireDevice;
  beforeAll(async () => {
    house = await HouseInProcess.open();
    await house.house.pool.fill(1);
    device = await enrolDevice(house, somebody('alice'));
  });
  afterAll(async () => {
    expect(house.defects).toEqual([]);
    await house.close();
  });
  const shown = (certificates: string, key: KeyObject) => asDevice(house, { certificates, keys: { identity: key } }, 'GET', '/v1/keys');
  /** The same subject, names, usages and policy; only the CA is a stranger's. */
  const copied = async () => {
    const key = newIdentity();
    const authority = await TestAuthority.create();
    return shown((await authority.device(spkiOf(key), device.id, device.employee, sha256(spkiOf(device.keys.delivery)))).join(''), key);
  };
  const ownV1 = async () => {
    const [key] = await keysOf(house, device);
    return shown(key?.certificates.join('') ?? '', openKey(key?.delivery ?? null, device.keys.delivery));
  };
  /** Signed by our own infrastructure CA, for a key that we have. */
  const infrastructure = async (profile: 'tls-server' | 'mail-signing', name: string) => {
    const key = newIdentity();
    const urls = { crl: 'http://localhost/crl', issuer: 'http://localhost/ca' };
    const der = await house.token.issueInfrastructure({ profile, spki: spkiOf(key), names: [name], serial: newSerial(), urls, days: 7 });
    return shown(pem(der), key);
  };

  test.each<[string, string, () => Promise<WireReply>]>([
    ['none at all', '401 device-certificate-missing', () => send({ port: house.port, root: house.root, path: '/v1/keys' })],
    ['a foreign one', '403 device-untrusted', () => shown(foreign().certificates, foreign().key)],
    ['a foreign one that copies every word of a device certificate', '403 device-untrusted', copied],
    ["our own person's (V1), by its rightful owner", '403 device-untrusted', () => ownV1()],
    ["our own TLS server's", '403 device-untrusted', () => infrastructure('tls-server', 'localhost')],
  ])('is refused: %s: %s', async (_, expected, request) => {
    await expectRefused(house, await request(), expected);
  });

  test('cannot even be had for mail-signing: the token certifies nothing but its own mail key for that', async () => {
    await expect(infrastructure('mail-signing', 'ekms@corp.example')).rejects.toMatchObject({ code: 'infrastructure-refused' });
  });

  test('is refused when our device CA signed it but no enrolment is known: 403 device-unknown', async () => {
    const gone = await enrolDevice(house, somebody());
    await house.db.write((unit) => unit.run('DELETE FROM devices WHERE id = ?', [gone.id]));
    await expectRefused(house, await fetchKeys(house, gone), '403 device-unknown');
  });

  test('is refused when it says another person than the database: 403 device-unknown', async () => {
    const moved = await enrolDevice(house, somebody());
    await house.db.write((unit) => unit.run('UPDATE devices SET employee = ? WHERE id = ?', [device.employee, moved.id]));
    await expectRefused(house, await fetchKeys(house, moved), '403 device-unknown');
  });

  test('opens what is its own, and nothing of others: unknown keys and devices are 404 alike', async () => {
    const [key] = await keysOf(house, device);
    const eve = await enrolDevice(house, somebody('eve'));
    const ask = { scheme: 'rsa-pkcs1', encryptedKey: randomBytes(256).toString('base64'), length: 32 };
    const decrypt = (id: string) => asDevice(house, eve, 'POST', `/v1/keys/${id}/decryptions`, ask);
    await expectRefused(house, await decrypt(newId()), '404 key-unknown');
    await expectRefused(house, await decrypt(key?.id ?? ''), '404 key-unknown');
    await expectRefused(house, await asDevice(house, eve, 'DELETE', `/v1/devices/${device.id}`), '404 device-unknown');
    await expectRefused(house, await asDevice(house, eve, 'DELETE', `/v1/devices/${newId()}`), '404 device-unknown');
    await expectRefused(
      house,
      await asDevice(house, eve, 'POST', `/v1/enrolments/${newId()}/confirmation`, { confirm: true }),
      '404 enrolment-unknown',
    );
    // A delivered key is not decrypted with in the appliance, not for its owner either.
    await expectRefused(house, await asDevice(house, device, 'POST', `/v1/keys/${key?.id}/decryptions`, ask), '403 key-not-deliverable');
    await expectRefused(house, await asDevice(house, device, 'POST', '/v1/keys/1/decryptions', ask), '400 body-malformed');
    await expectRefused(
      house,
      await asDevice(house, device, 'POST', `/v1/keys/${key?.id}/decryptions`, { ...ask, length: 31 }),
      '400 body-malformed',
    );
  });

  test('is refused once it has expired: 403 device-untrusted', async () => {
    expect((await fetchKeys(house, device)).status).toBe(200);
    house.pass(366 * DAY);
    await expectRefused(house, await fetchKeys(house, device), '403 device-untrusted');
  });
});

describe('the policy enrolment.second', () => {
  let house: HouseInProcess | undefined;
  const open = async (second: string) => {
    house = await HouseInProcess.open({ settings: { enrolment: { second } } });
    await house.house.pool.fill(2);
    return house;
  };
  const close = async () => {
    expect(house?.defects).toEqual([]);
    await house?.close();
    house = undefined;
  };

  test('device: the first needs none; a further one waits for a device of the same person, or an administrator', async () => {
    const it = await open('device');
    const address = somebody('alice');
    const first = await enrolDevice(it, address);
    const stranger = await enrolDevice(it, somebody('bob'));
    const waiting = async () => {
      const begun = await begin(it, address);
      const reply = await giveAnswer(it, begun);
      expect([reply.status, reply.json]).toEqual([202, { state: 'waiting', for: 'device' }]);
      expect(reply.headers.some(([name]) => name.toLowerCase() === 'retry-after')).toBe(true);
      return begun;
    };
    const confirm = (device: WireDevice, id: string, yes: boolean) =>
      asDevice(it, device, 'POST', `/v1/enrolments/${id}/confirmation`, { confirm: yes });

    const welcome = await waiting();
    expect((await asDevice(it, first, 'GET', '/v1/enrolments')).json).toEqual([expect.objectContaining({ id: welcome.id, address })]);
    expect((await asDevice(it, stranger, 'GET', '/v1/enrolments')).json).toEqual([]);
    await expectRefused(it, await confirm(stranger, welcome.id, true), '404 enrolment-unknown');
    expect((await giveAnswer(it, welcome)).status).toBe(202);
    expect((await confirm(first, welcome.id, true)).status).toBe(204);
    const second = deviceFrom(welcome, await giveAnswer(it, welcome));
    expect((await keysOf(it, second)).map(({ id }) => id)).toEqual((await keysOf(it, first)).map(({ id }) => id));

    const unwelcome = await waiting();
    expect((await confirm(second, unwelcome.id, false)).status).toBe(204);
    await expectRefused(it, await giveAnswer(it, unwelcome), '403 enrolment-denied');
    await expectRefused(it, await confirm(first, unwelcome.id, true), '404 enrolment-unknown');

    const lost = await waiting();
    await it.act('enrolment.decide', { id: lost.id, approve: true });
    expect((await giveAnswer(it, lost)).status).toBe(200);

    const forgotten = await waiting();
    it.pass(8 * DAY);
    await expectRefused(it, await giveAnswer(it, forgotten, 'A'.repeat(22)), '410 enrolment-expired');
    await close();
  });

  test('device: whoever had all devices of a person ended is not the first one', async () => {
    const it = await open('device');
    const address = somebody('alice');
    const only = await enrolDevice(it, address);
    expect((await asDevice(it, only, 'DELETE', `/v1/devices/${only.id}`)).status).toBe(204);
    expect((await giveAnswer(it, await begin(it, address))).status).toBe(202);
    await close();
  });

  test('approval: an administrator says yes or no to the first device too', async () => {
    const it = await open('approval');
    const [begun, other] = [await begin(it, somebody()), await begin(it, somebody())];
    for (const each of [begun, other]) expect((await giveAnswer(it, each)).json).toEqual({ state: 'waiting', for: 'approval' });
    expect(await it.act('enrolment.list', {})).toEqual(
      expect.arrayContaining([expect.objectContaining({ id: begun.id, waitsFor: 'approval' })]),
    );
    await it.act('enrolment.decide', { id: begun.id, approve: true });
    await it.act('enrolment.decide', { id: other.id, approve: false });
    expect((await giveAnswer(it, begun)).status).toBe(200);
    await expectRefused(it, await giveAnswer(it, other), '403 enrolment-denied');
    await close();
  });
});

describe('on a real appliance', () => {
  let ekms: Appliance;
  beforeAll(async () => {
    ekms = await Appliance.open();
  });
  afterAll(() => ekms?.close());

  test('of 50 parallel answers to one challenge one enrols and 49 are refused, each with an entry', async () => {
    const begun = await begin(ekms, somebody());
    const half = await mailedHalf(ekms, begun);
    const replies = await Promise.all(Array.from({ length: 50 }, () => giveAnswer(ekms, begun, half)));
    const outcomes = replies.map((reply) => (reply.status === 200 ? '200' : refusal(reply)));
    expect(outcomes.filter((outcome) => outcome === '200')).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === '409 enrolment-spent')).toHaveLength(49);
    const won = replies.find(({ status }) => status === 200);
    const { employee, id } = deviceFrom(begun, won as WireReply); // there is one
    expect(await ekms.db.all('SELECT id FROM devices WHERE employee = ?', [employee])).toEqual([{ id }]);
    const entries = (await ekms.log(200)).filter(({ subject }) => subject === begun.id);
    expect(entries.filter(({ action, reason }) => action === 'enrolment.answer' && reason === 'enrolment-spent')).toHaveLength(49);
    expect(entries.filter(({ action, outcome }) => action === 'device.enrol' && outcome === 'done')).toHaveLength(1);
  });

  test('known and unknown addresses are answered alike: status, headers and their order, shape and length of the body', async () => {
    const known = somebody('alice');
    await enrolDevice(ekms, known);
    const keys = await Promise.all(Array.from({ length: 6 }, () => newDeviceKeys()));
    const seen: unknown[] = [];
    for (const [n, own] of keys.entries()) {
      const reply = await postSigned(ekms, '/v1/enrolments', requestBody(n % 2 === 0 ? known : `nobody${n}@corp.example`, own));
      const headers = reply.headers.map(([name, value]) => [name, name.toLowerCase() === 'date' ? '' : value]);
      const shape = Object.entries(reply.json as Record<string, string>).map(([name, value]) => [name, typeof value, value.length]);
      seen.push({ status: reply.status, headers, shape, length: reply.body.length });
    }
    for (const each of seen) expect(each).toEqual(seen[0]);
    expect(seen[0]).toMatchObject({ status: 201 });
    // Both get a mail, so that the mailbox tells no difference either.
    const mails = await Promise.all(
      [known, 'nobody1@corp.example'].map((address) => ekms.mailed(address, (mail) => /^(Subject: ACME: )/m.exec(mail)?.[1])),
    );
    expect(mails).toHaveLength(2);
  });

  test('"this was not me" stops the device: looking changes nothing, the button does', async () => {
    const address = somebody('victim');
    const thief = await enrolDevice(ekms, address);
    expect(await keysOf(ekms, thief)).toHaveLength(1);
    // RFC 2045 §6.7: a line that was cut for its length goes on after =
    const link = await ekms.mailed(
      address,
      (mail) => /https:\/\/localhost:\d+\/v1\/freezes\/[A-Za-z0-9_-]{22}/.exec(mail.replaceAll('=\r\n', ''))?.[0],
    );
    expect(new URL(link).port).toBe(String(ekms.port));
    const ask = { port: ekms.port, root: ekms.root, path: new URL(link).pathname };
    for (let look = 0; look < 3; look++) {
      const page = await send(ask);
      expect(page.status).toBe(200);
      expect(page.body.toString()).toContain('<form method="post">');
    }
    expect((await fetchKeys(ekms, thief)).status).toBe(200);
    expect((await send({ ...ask, method: 'POST' })).status).toBe(200);
    expect(refusal(await fetchKeys(ekms, thief))).toBe('403 device-blocked');
    expect((await ekms.log()).find(({ action }) => action === 'device.freeze')).toMatchObject({ outcome: 'done', device: thief.id });
    // Used once, and invented ones: the same.
    for (const path of [ask.path, `/v1/freezes/${'A'.repeat(22)}`, '/v1/freezes/x'])
      expectProblem(await send({ ...ask, path, method: 'POST' }), '404 freeze-unknown');
    // The rightful owner enrols anew and has the key.
    expect(await keysOf(ekms, await enrolDevice(ekms, address))).toHaveLength(1);
  });

  test('nothing of all this was a defect', () => {
    expect(ekms.said).not.toMatch(/defect|Error|\n\s+at /);
  });
});

let stranger: { certificates: string; key: KeyObject } | undefined;
/** A self-signed certificate of somebody else, and its key. */
function foreign(): { certificates: string; key: KeyObject } {
  if (!stranger) {
    const words = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      '-',
      '-out',
      '-',
      '-subj',
      '/OU=Devices/CN=x',
      '-addext',
      'extendedKeyUsage=clientAuth',
    ];
    const text = execFileSync('openssl', words, { stdio: ['ignore', 'pipe', 'ignore'] }).toString();
    const part = (name: string) => new RegExp(`-----BEGIN ${name}-----[^]*-----END ${name}-----\n`).exec(text)?.[0] ?? '';
    stranger = { certificates: part('CERTIFICATE'), key: createPrivateKey(part('PRIVATE KEY')) };
  }
  return stranger;
}
