import 'reflect-metadata';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { MemoryDirectory } from '../../src/directory/index.js';
import { newId } from '../../src/foundation/index.js';
import { refusal, type WireReply } from '../support/wire.js';
import { begin, giveAnswer } from '../support/wire-device.js';
import { ContractCheck } from './contract-check.js';
import { Doors, headerOf } from './doors.js';

/** Every answer here goes through `Doors`, which throws for what the document does not promise. What staff may do is told in e2e/staff-sign-in.spec.ts. */
/** Device keys of RSA-3072 take their time on a busy machine. */
jest.setTimeout(60_000);

const anna = 'anna@corp.example';
const password = 'a right password';
const check = new ContractCheck();
const directory = new MemoryDirectory();
let doors: Doors;
beforeAll(async () => {
  directory.put({ id: 'anna', addresses: [anna], active: true });
  directory.passwords.set('anna', password);
  doors = await Doors.open(check, {
    people: directory,
    settings: {
      directory: { url: 'ldaps://localhost', bindDn: 'cn=x', passwordFile: 'x', base: 'dc=x' },
      enrolment: { second: 'directory' },
      staff: { signIn: ['code', 'ldap'] },
    },
  });
});
afterAll(() => doors?.close());

const ask = (method: string, path: string, body?: object, headers: Record<string, string> = {}) =>
  doors.anybody('staff', {
    method,
    path: `/v1/staff/${path}`,
    headers: { origin: doors.house.house.origins.of('staff'), 'sec-fetch-site': 'same-origin', ...headers },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
const sessionOf = (reply: WireReply) => ({ cookie: headerOf(reply, 'set-cookie')?.split(';')[0] ?? '' });

test('who signs in by a mailed code gets what is promised, and is refused as promised', async () => {
  expect((await ask('GET', 'sign-in')).json).toEqual({ methods: ['ldap', 'code'] });
  expect(refusal(await ask('GET', 'sign-in', undefined, { 'sec-fetch-site': 'cross-site' }))).toBe('403 cross-site');
  expect(refusal(await ask('GET', 'oidc'))).toBe('404 sign-in-method-off');
  expect(refusal(await ask('POST', 'codes', { address: 'anna' }))).toBe('400 address-malformed');
  expect(refusal(await ask('POST', 'codes', {}))).toBe('400 body-malformed');
  const sent = await ask('POST', 'codes', { address: anna });
  expect(sent.status).toBe(202);
  const { id } = sent.json as { id: string }; // validated on the way
  const code = await doors.house.mailed(anna, (mail) => /^ {2}([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4})\r?$/m.exec(mail)?.[1]);
  expect(refusal(await ask('POST', 'codes/none', { code }))).toBe('400 body-malformed');
  expect(refusal(await ask('POST', `codes/${newId()}`, { code }))).toBe('403 sign-in-refused');
  const inside = await ask('POST', `codes/${id}`, { code });
  expect(inside.status).toBe(204);
  const session = sessionOf(inside);
  expect((await ask('GET', 'me', undefined, session)).json).toMatchObject({ address: anna, method: 'code' });
  expect(refusal(await ask('GET', 'me'))).toBe('401 session-missing');
  // Control of the mailbox is no second proof.
  expect(refusal(await ask('POST', `enrolments/${newId()}/confirmation`, { confirm: true }, session))).toBe('403 directory-proof-needed');
  expect((await ask('DELETE', 'session', undefined, session)).status).toBe(204);
  expect(refusal(await ask('GET', 'me', undefined, session))).toBe('401 session-ended');
});

test('who signs in by the directory’s password, and what they say of a device, gets what is promised', async () => {
  expect(refusal(await ask('POST', 'passwords', { address: anna, password: 'a wrong one' }))).toBe('403 sign-in-refused');
  const inside = await ask('POST', 'passwords', { address: anna, password });
  expect(inside.status).toBe(204);
  const session = sessionOf(inside);
  const begun = await begin(doors.house, anna);
  expect((await giveAnswer(doors.house, begun)).status).toBe(202);
  expect((await ask('GET', 'enrolments', undefined, session)).json).toMatchObject([{ id: begun.id, platform: 'linux' }]);
  const decide = (id: string, body: object) => ask('POST', `enrolments/${id}/confirmation`, body, session);
  expect(refusal(await decide('none', { confirm: true }))).toBe('400 body-malformed');
  expect(refusal(await decide(begun.id, { confirm: 'yes' }))).toBe('400 body-malformed');
  expect((await decide(begun.id, { confirm: true })).status).toBe(204);
  expect(refusal(await decide(begun.id, { confirm: true }))).toBe('404 enrolment-unknown');

  doors.house.pass(11 * 60_000);
  expect(refusal(await decide(begun.id, { confirm: true }))).toBe('403 proof-needed');
  directory.away = true;
  const away = await ask('POST', 'passwords', { address: anna, password });
  expect(refusal(away)).toBe('503 directory-unavailable');
  expect(headerOf(away, 'retry-after')).toMatch(/^\d+$/);
  directory.away = false;
  for (let n = 0; n < 5; n++) await ask('POST', 'passwords', { address: anna, password: `guess ${n}` });
  expect(refusal(await ask('POST', 'passwords', { address: anna, password }))).toBe('429 too-many-attempts');
  expect(doors.house.defects).toEqual([]);
});

test('every answer that the document promises staff was seen in this file', () => {
  expect(check.unseen((path) => path.startsWith('/v1/staff/'))).toEqual([]);
});
