import 'reflect-metadata';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { RequestFiled } from '../../src/commands/ask-appliance.js';
import { newId } from '../../src/foundation/index.js';
import type { RawAnswer } from '../support/browser.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { TestAdministrator } from '../support/officers.js';
import { ContractCheck } from './contract-check.js';

jest.setTimeout(60_000);

/** Every answer here is held against the document. */
const check = new ContractCheck();
const faults: string[] = [];
const look = (method: string, path: string, { status, type, body }: RawAnswer) =>
  void faults.push(
    ...check
      .faults({ method, path, status, header: (name) => (name === 'content-type' ? type : undefined), body })
      .map((fault) => `${method} ${path} ${status}: ${fault}`),
  );

let house: HouseInProcess;
beforeAll(async () => {
  house = await HouseInProcess.open();
});
afterAll(() => house.close());

test('administrators get what is promised, and are refused as promised', async () => {
  const anna = await TestAdministrator.register(house, 'anna', undefined, undefined, look);
  const boris = await TestAdministrator.register(house, 'boris', undefined, undefined, look);
  const status = async (who: TestAdministrator, method: string, path: string, body?: unknown) => (await who.ask(method, path, body)).status;

  expect(await status(anna, 'GET', 'me')).toBe(200);
  expect(await status(anna, 'GET', 'administrators')).toBe(200);
  const second = anna.anotherPasskey();
  const response = second.create((await anna.ask('POST', 'passkeys/options')).json);
  expect(await status(anna, 'POST', 'passkeys', { name: 'second', response })).toBe(204);
  expect(await status(anna, 'POST', 'passkeys', { name: 'second', response })).toBe(401);
  const again = second.create((await anna.ask('POST', 'passkeys/options')).json);
  expect(await anna.ask('POST', 'passkeys', { name: 'second', response: again })).toMatchObject({ status: 409, code: 'passkey-taken' });
  expect(await status(anna, 'DELETE', `passkeys/${second.id.toString('base64url')}`)).toBe(204);
  expect(await anna.ask('DELETE', 'passkeys/none')).toMatchObject({ status: 404, code: 'passkey-unknown' });
  expect(await anna.ask('DELETE', `passkeys/${anna.passkey.id.toString('base64url')}`)).toMatchObject({
    status: 409,
    code: 'passkey-last',
  });
  const proof = anna.passkey.get((await anna.ask('POST', 'proofs/options')).json);
  expect(await status(anna, 'POST', 'proofs', { response: proof })).toBe(204);

  expect(await status(anna, 'POST', 'acts/health', { args: {} })).toBe(200);
  expect(await anna.act('none', {})).toMatchObject({ status: 404, code: 'act-unknown' });
  expect(await anna.act('health', { more: 1 })).toMatchObject({ status: 400, code: 'body-malformed' });
  const asked = await anna.act('admin.role', { id: boris.id, role: 'auditor' });
  expect(asked.status).toBe(202);
  const { id } = asked.json as { id: string };
  expect(await status(anna, 'GET', 'requests')).toBe(200);
  expect(await status(anna, 'GET', `requests/${id}`)).toBe(200);
  expect(await anna.ask('GET', `requests/${newId()}`)).toMatchObject({ status: 404, code: 'request-unknown' });
  expect(await anna.approve(id)).toMatchObject({ status: 403, code: 'requester-approves' });
  expect((await boris.approve(id)).json).toMatchObject({ state: 'failed', reason: 'officers-too-few' });
  const renewal = ((await anna.act('admin.renew', { id: boris.id })).json as { id: string }).id;
  expect(await boris.ask('POST', `requests/${renewal}/performance`)).toMatchObject({ status: 403, code: 'not-the-requester' });
  expect(await anna.ask('POST', `requests/${renewal}/performance`)).toMatchObject({ status: 403, code: 'approvals-missing' });
  expect((await boris.approve(renewal)).json).toMatchObject({ state: 'approved' });
  const link = ((await anna.ask('POST', `requests/${renewal}/performance`)).json as { value: { link: string } }).value.link;
  const filed = (await house.act('app.issue', { platform: 'linux' }).catch((error: unknown) => error)) as RequestFiled;
  expect(await status(anna, 'DELETE', `requests/${filed.request.id}`)).toBe(204);

  // The link gives Boris a new passkey, and ends his old one.
  const old = boris.passkey;
  const options = await boris.ask('POST', 'invitations/options', { token: link.split('#')[1] });
  boris.passkey = boris.anotherPasskey();
  const made = await boris.ask('POST', 'invitations', {
    token: link.split('#')[1],
    passkey: 'new',
    response: boris.passkey.create(options.json),
  });
  expect(made).toMatchObject({ status: 201, json: { id: boris.id, role: 'security-officer' } });
  const used = old.get((await boris.ask('POST', 'sign-in/options')).json);
  expect(await boris.ask('POST', 'sign-in', { response: used })).toMatchObject({ status: 401, code: 'passkey-refused' });
  await boris.signIn();

  const sessions = (await anna.ask('GET', 'sessions')).json as { id: string; administrator: string }[];
  const his = sessions.find(({ administrator }) => administrator === boris.id);
  expect(await status(anna, 'DELETE', `sessions/${his?.id}`)).toBe(204);
  expect(await anna.ask('DELETE', `sessions/${newId()}`)).toMatchObject({ status: 404, code: 'session-unknown' });
  expect(await status(anna, 'POST', 'sign-out')).toBe(204);
  expect(await anna.ask('GET', 'me')).toMatchObject({ status: 401, code: 'session-ended' });
  expect(faults).toEqual([]);
  expect(house.defects).toEqual([]);
});

test('every answer that the document promises administrators was seen in this file', () => {
  expect(check.unseen((path) => path.startsWith('/v1/admin/'))).toEqual([]);
});
