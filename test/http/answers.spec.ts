import 'reflect-metadata';
import { generateKeyPairSync, publicEncrypt, randomBytes, sign, X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, jest, test } from '@jest/globals';
import { base64url, newId, sha256 } from '../../src/foundation/index.js';
import { AGENTS_ID, macInput } from '../../src/tokens/records.js';
import { refusal } from '../support/wire.js';
import {
  answerBody,
  answerPath,
  begin,
  deviceFrom,
  enrolDevice,
  mailedHalf,
  newDeviceKeys,
  requestBody,
  type WireDevice,
  type WireKey,
} from '../support/wire-device.js';
import { ContractCheck } from './contract-check.js';
import { Doors, headerOf } from './doors.js';

/** Every answer here goes through `Doors`, which throws for a status, media type, member or code that the document does not promise. */
/** Device keys of RSA-3072 take their time on a busy machine. */
jest.setTimeout(60_000);

const check = new ContractCheck();
const open: Doors[] = [];
const doorsWith = async (settings: Record<string, unknown>) => {
  const doors = await Doors.open(check, { settings });
  open.push(doors);
  return doors;
};
afterAll(() => Promise.all(open.map((doors) => doors.close())));

/** Alice's device is given her own key, and the content key of one mail, by agents whose list the token sealed as if others had signed it. */
async function recoveries(doors: Doors, alice: WireDevice, key: WireKey | undefined, mail: { encryptedKey: string }) {
  const { house, token } = doors.house;
  const pairs = ['Mona', 'Nils'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
  const agents = pairs.map(({ name, publicKey }) => ({ name, publicKey: base64url(publicKey.export({ format: 'der', type: 'spki' })) }));
  const list = { quorum: 2, agents };
  const mac = token.hsm.mac(macInput({ type: 'agents', id: AGENTS_ID, version: 2, list }));
  await house.storage.write((unit) =>
    unit.run('INSERT INTO recovery_agents (version, list, mac, created) VALUES (2, ?, ?, 0)', [JSON.stringify(list), mac]),
  );
  const ask = { address: 'alice@corp.example', device: alice.id, reason: 'legal', reference: '', days: 1 };
  const [serial = ''] = key?.certificates.map((pem) => new X509Certificate(pem).serialNumber.toLowerCase()) ?? [];
  const digest = base64url(sha256(Buffer.from(mail.encryptedKey, 'base64')));
  const open = async (scope: object, more: object) => {
    const filed = (await doors.house.act('recovery.file', { ...ask, ...scope })) as { case: string; sign: string };
    const opening = () => doors.device(alice, 'POST', `/v1/recoveries/${filed.case}/openings`, { key: key?.id, ...more });
    expect(refusal(await opening())).toBe('403 recovery-not-approved');
    for (const { name, privateKey } of pairs) {
      const signature = sign(null, Buffer.from(filed.sign, 'base64'), privateKey).toString('base64');
      await doors.house.act('recovery.approve', { case: filed.case, by: { agent: name, signature } });
    }
    return opening();
  };
  expect((await open({}, {})).json).toMatchObject({ wrapped: null, delivery: expect.any(String) });
  expect((await open({ message: [{ serial, digest }] }, { mail })).json).toMatchObject({ wrapped: expect.any(String), delivery: null });
  expect((await doors.device(alice, 'GET', '/v1/recoveries')).json).toMatchObject([{ message: digest }, { message: null }]);
  expect(refusal(await doors.device(alice, 'POST', `/v1/recoveries/${newId()}/openings`, { key: key?.id }))).toBe('404 recovery-unknown');
}

test('a device in remote mode gets what is promised, and is refused as promised', async () => {
  const doors = await doorsWith({ keys: { bits: 2048, mode: 'remote', pool: { target: 1 } } });
  const { house } = doors;
  for (const until = Date.now() + 10_000; (await house.house.pool.level()) < 1 && Date.now() < until; ) await sleep(20);
  const alice = await enrolDevice(house, 'alice@corp.example');
  const keys = (await doors.device(alice, 'GET', '/v1/keys')).json as WireKey[]; // validated on the way
  expect(keys[0]).toMatchObject({ state: 'active', mode: 'remote', delivery: null });
  const [key] = keys;
  const recipient = new X509Certificate(key?.certificates[0] ?? '').publicKey;
  const ask = { scheme: 'rsa-oaep-sha1', encryptedKey: publicEncrypt(recipient, randomBytes(32)).toString('base64'), length: 32 };
  expect((await doors.device(alice, 'POST', `/v1/keys/${key?.id}/decryptions`, ask)).status).toBe(200);
  expect(refusal(await doors.device(alice, 'POST', `/v1/keys/${newId()}/decryptions`, ask))).toBe('404 key-unknown');
  expect(refusal(await doors.device(alice, 'POST', '/v1/keys/none/decryptions', ask))).toBe('400 body-malformed');
  expect(refusal(await doors.device(alice, 'POST', `/v1/keys/${key?.id}/decryptions`, { ...ask, length: 17 }))).toBe('400 body-malformed');

  await recoveries(doors, alice, key, ask);

  expect((await doors.device(alice, 'GET', '/v1/certificates?email=Alice@corp.example')).json).toHaveLength(1);
  expect((await doors.device(alice, 'GET', '/v1/certificates?email=nobody@corp.example')).json).toEqual([]);
  expect(refusal(await doors.device(alice, 'GET', '/v1/certificates'))).toBe('400 body-malformed');
  expect(refusal(await doors.device(alice, 'GET', '/v1/certificates?email=zo%C3%AB@corp.example'))).toBe('400 address-not-ascii');
  expect(refusal(await doors.device(alice, 'GET', '/v1/certificates?email=zoe'))).toBe('400 address-malformed');

  for (const path of ['/crl/people.crl', '/crl/devices.crl', '/certs/root.cer', '/certs?uri=alice@corp.example'])
    expect({ path, status: (await doors.anybody('public', { path })).status }).toEqual({ path, status: 200 });
  expect(refusal(await doors.anybody('public', { path: '/crl/none.crl' }))).toBe('404 crl-unknown');
  expect(refusal(await doors.anybody('public', { path: '/certs/none.cer' }))).toBe('404 authority-unknown');
  expect(refusal(await doors.anybody('public', { path: '/certs?uri=nobody@corp.example' }))).toBe('404 certificate-unknown');
  expect(refusal(await doors.anybody('public', { path: '/certs' }))).toBe('400 body-malformed');

  const bob = await enrolDevice(house, 'bob@corp.example');
  expect(refusal(await doors.device(bob, 'DELETE', `/v1/devices/${alice.id}`))).toBe('404 device-unknown');
  expect((await doors.device(alice, 'DELETE', `/v1/devices/${alice.id}`)).status).toBe(204);
  expect(refusal(await doors.device(alice, 'GET', '/v1/keys'))).toBe('403 device-blocked');

  for (const path of ['/health/live', '/health/ready', '/metrics']) expect((await doors.anybody('operation', { path })).status).toBe(200);
  house.token.hsm.down = true;
  expect((await doors.anybody('operation', { path: '/health/ready' })).status).toBe(503);
  expect(house.defects).toEqual([]);
});

test('enrolment, its second proof and its refusals are as promised', async () => {
  const doors = await doorsWith({ enrolment: { second: 'device' }, keys: { bits: 2048, pool: { target: 0 } } });
  const { house } = doors;
  const carol = 'carol@corp.example';
  const keys = await newDeviceKeys();
  const begun = await begin(house, carol, keys);
  const half = await mailedHalf(house, begun);
  expect(refusal(await doors.app(answerPath(begun.id), { ...answerBody(house, begun, 'A'.repeat(22)) }))).toBe('403 answer-wrong');
  expect(refusal(await doors.app(answerPath(newId()), answerBody(house, begun, half)))).toBe('404 enrolment-unknown');
  const first = deviceFrom(begun, await doors.app(answerPath(begun.id), answerBody(house, begun, half)));
  expect(refusal(await doors.app(answerPath(begun.id), answerBody(house, begun, half)))).toBe('409 enrolment-spent');
  expect(refusal(await doors.app('/v1/enrolments', requestBody(carol, keys)))).toBe('409 device-key-used');
  expect(refusal(await doors.app('/v1/enrolments', requestBody('eve@elsewhere.example', await newDeviceKeys())))).toBe(
    '403 domain-not-served',
  );
  expect((await doors.app('/v1/enrolments', requestBody('erin@corp.example', await newDeviceKeys()))).status).toBe(201);
  expect(refusal(await doors.app('/v1/enrolments', Buffer.from('{ "address": ')))).toBe('400 body-malformed');
  expect(refusal(await doors.app('/v1/enrolments', {}, { signature: `ekms=:${'A'.repeat(86)}==:` }))).toBe('401 app-signature-wrong');

  const pending = await doors.device(first, 'GET', '/v1/keys');
  expect(pending.json).toMatchObject([{ state: 'pending' }]);
  expect(headerOf(pending, 'retry-after')).toBe('2');

  const second = await begin(house, carol);
  const secondHalf = await mailedHalf(house, second);
  const answer = () => doors.app(answerPath(second.id), answerBody(house, second, secondHalf));
  const waiting = await answer();
  expect({ status: waiting.status, json: waiting.json, retry: headerOf(waiting, 'retry-after') }).toEqual({
    status: 202,
    json: { state: 'waiting', for: 'device' },
    retry: '5',
  });
  expect((await doors.device(first, 'GET', '/v1/enrolments')).json).toMatchObject([{ id: second.id, address: carol }]);
  expect((await doors.device(first, 'POST', `/v1/enrolments/${second.id}/confirmation`, { confirm: true })).status).toBe(204);
  expect(refusal(await doors.device(first, 'POST', `/v1/enrolments/${second.id}/confirmation`, { confirm: true }))).toBe(
    '404 enrolment-unknown',
  );
  const further = deviceFrom(second, await answer());
  expect((await doors.device(further, 'GET', '/v1/devices')).json).toMatchObject([{ current: false }, { current: true }]);
  expect(refusal(await doors.device(first, 'DELETE', `/v1/devices/${further.id}`))).toBe('403 second-proof-needed');

  const link = await house.mailed(carol, (mail) => /\/v1\/freezes\/([\w-]{22})/.exec(mail.replaceAll('=\r\n', ''))?.[1]);
  const path = `/v1/freezes/${link}`;
  expect((await doors.anybody('client', { path })).status).toBe(200);
  expect(
    (await doors.anybody('client', { method: 'POST', path, body: 'x=y', headers: { 'content-type': 'application/x-www-form-urlencoded' } }))
      .status,
  ).toBe(200);
  expect(refusal(await doors.anybody('client', { method: 'POST', path, body: '' }))).toBe('404 freeze-unknown');

  const late = await begin(house, 'dave@corp.example');
  const lateHalf = await mailedHalf(house, late);
  house.pass(11 * 60_000);
  expect(refusal(await doors.app(answerPath(late.id), answerBody(house, late, lateHalf)))).toBe('410 enrolment-expired');
  house.token.hsm.down = true;
  const down = await doors.app('/v1/enrolments', requestBody(carol, await newDeviceKeys()));
  expect(refusal(down)).toBe('503 token-unavailable');
  expect(headerOf(down, 'retry-after')).toMatch(/^\d+$/);
  expect(house.defects).toEqual([]);
});

test('every answer that the document promises was seen in this file, or is looked for in another one', () => {
  // administration-answers.spec.ts, staff-answers.spec.ts, document-and-log-answers.spec.ts; the document itself: openapi.spec.ts.
  const elsewhere = /^\/v1\/(admin|staff|pdf|audit|me|witness)\/|openapi\.json/;
  expect(check.unseen((path) => !elsewhere.test(path))).toEqual([]);
});
