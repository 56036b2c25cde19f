import 'reflect-metadata';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { refuseBytes } from '../../src/http/unreadable.js';
import type { WireReply } from '../support/wire.js';
import { enrolDevice } from '../support/wire-device.js';
import { ContractCheck } from './contract-check.js';
import { type Ask, Doors, headerOf } from './doors.js';
import { raw } from './sockets.js';

/** Device keys of RSA-3072 take their time on a busy machine. */
jest.setTimeout(60_000);

const check = new ContractCheck();
let doors: Doors;
beforeAll(async () => {
  doors = await Doors.open(check);
});
afterAll(async () => {
  await doors.close();
});

/** RFC 9457, our code, and nothing of our insides. */
function expectProblem({ status, headers, body }: Pick<WireReply, 'status' | 'headers' | 'body'>, expected: string): void {
  const type = headers.find(([name]) => name.toLowerCase() === 'content-type')?.[1];
  const text = body.toString('utf8');
  const json: unknown = JSON.parse(text);
  expect(type?.split(';')[0]).toBe('application/problem+json');
  expect(json).toMatchObject({ status, code: expected.split(' ')[1], type: `/problems/${expected.split(' ')[1]}` });
  expect(`${status}`).toBe(expected.split(' ')[0]);
  expect(check.is('Problem', json)).toBe(true);
  expect(text).not.toMatch(/stack|node_modules|\.[jt]s\b|FST_|Error:/);
}

const tooLarge = 'x'.repeat(64 * 1024 + 1);
const FRAMEWORK: [string, Ask, string][] = [
  ['an unknown path', { path: '/nothing' }, '404 route-unknown'],
  ['a known path with another method', { method: 'PUT', path: '/v1/keys', body: '{}' }, '404 route-unknown'],
  ['OPTIONS', { method: 'OPTIONS', path: '/v1/keys' }, '404 route-unknown'],
  ['TRACE', { method: 'TRACE', path: '/v1/keys' }, '404 route-unknown'],
  ['a method of others', { method: 'PROPFIND', path: '/v1/keys' }, '404 route-unknown'],
  ['a path that cannot be decoded', { path: '/v1/freezes/%E0%A4%A' }, '400 request-malformed'],
  ['a path of 3,000 characters', { path: `/v1/freezes/${'x'.repeat(3000)}` }, '414 path-too-long'],
  ['a body over the limit', { method: 'POST', path: '/v1/enrolments', body: tooLarge }, '413 body-too-large'],
  [
    'a foreign media type',
    { method: 'POST', path: '/v1/enrolments', body: '<a/>', headers: { 'content-type': 'text/xml' } },
    '415 media-type',
  ],
  [
    'a media type that is none',
    { method: 'POST', path: '/v1/enrolments', body: '{}', headers: { 'content-type': 'nonsense' } },
    '415 media-type',
  ],
  [
    'a body where none belongs',
    { method: 'DELETE', path: '/v1/devices/x', body: 'x', headers: { 'content-type': 'a/b' } },
    '415 media-type',
  ],
  ['an expectation', { method: 'POST', path: '/v1/enrolments', body: '{}', headers: { expect: 'teapot' } }, '417 expectation-unknown'],
];

test.each(FRAMEWORK)('%s is refused with a problem document', async (_, ask, expected) => {
  expectProblem(await doors.ask('client', ask), expected);
  expect(doors.house.defects).toEqual([]);
});

test('HEAD is refused without a body', async () => {
  const reply = await doors.ask('client', { method: 'HEAD', path: '/v1/keys' });
  expect({ status: reply.status, type: headerOf(reply, 'content-type')?.split(';')[0], length: reply.body.length }).toEqual({
    status: 404,
    type: 'application/problem+json',
    length: 0,
  });
});

test('a malformed body is named as such, signed or not', async () => {
  for (const body of ['{', '', '[]', 'null', '\ufffe', '{"address":1}'])
    expectProblem(await doors.app('/v1/enrolments', Buffer.from(body, 'utf16le')), '400 body-malformed');
});

test('a defect shows nothing but that it is one; the operator gets it under the same id', async () => {
  const device = await enrolDevice(doors.house, 'alice@corp.example');
  const { vault } = doors.house.house;
  const retrieve = vault.retrieve;
  const broken = new Error('secret at /etc/ekms/pin');
  vault.retrieve = () => Promise.reject(broken);
  try {
    const reply = await doors.device(device, 'GET', '/v1/keys');
    expectProblem(reply, '500 defect');
    expect(reply.body.toString()).not.toMatch(/secret|etc|pin/);
    expect(doors.house.defects.splice(0)).toEqual([broken]);
  } finally {
    vault.retrieve = retrieve;
  }
});

const host = 'Host: localhost\r\n';
const post = `POST /v1/enrolments HTTP/1.1\r\n${host}Content-Type: application/json\r\nConnection: close\r\n`;
const BYTES: [string, string, string][] = [
  ['garbage', 'garbage\r\n\r\n', '400 request-malformed'],
  ['no Host', 'GET / HTTP/1.1\r\n\r\n', '400 request-malformed'],
  ['two Hosts', `GET / HTTP/1.1\r\n${host}${host}\r\n`, '400 request-malformed'],
  ['an unknown version', `GET / HTTP/9.9\r\n${host}\r\n`, '400 request-malformed'],
  ['HTTP/2 in clear', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', '400 request-malformed'],
  ['a header of 9 KB', `GET / HTTP/1.1\r\n${host}X: ${'x'.repeat(9_000)}\r\n\r\n`, '431 header-too-large'],
  [
    'length and chunks at once, which smuggles requests',
    `${post}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    '400 request-malformed',
  ],
  ['an unknown transfer encoding', `${post}Transfer-Encoding: gzip\r\n\r\n`, '400 request-malformed'],
  ['two lengths', `${post}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`, '400 request-malformed'],
  ['a broken chunk', `${post}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, '400 request-malformed'],
  ['a line feed in a field', `GET / HTTP/1.1\r\n${host}X: a\0b\r\n\r\n`, '400 request-malformed'],
  ['a space in the path', `GET /a b HTTP/1.1\r\n${host}\r\n`, '400 request-malformed'],
  ['CONNECT', `CONNECT other:443 HTTP/1.1\r\n${host}\r\n`, '501 method-unknown'],
  ['HTTP/1.0 to nowhere', 'GET /nothing HTTP/1.0\r\n\r\n', '404 route-unknown'],
];

describe.each(['client', 'public'] as const)('bytes at the %s listener', (listener) => {
  const root = () => (listener === 'client' ? doors.house.root : undefined);
  test.each(BYTES)('%s', async (_, bytes, expected) => {
    expectProblem(parsed(await raw(doors.ports[listener], bytes, root())), expected);
    expect(doors.house.defects).toEqual([]);
  });

  test('garbage behind a request never mixes with its answer', async () => {
    const got = await raw(doors.ports[listener], `GET /api/openapi.json HTTP/1.1\r\n${host}\r\ngarbage\r\n\r\n`, root());
    const answer = got === '' ? undefined : parsed(got);
    if (answer?.status === 200) expect(JSON.parse(answer.body.toString())).toEqual(check.document);
    else expect(answer?.status).toBeUndefined();
  });
});

test('what does not begin TLS gets no answer from the client listener', async () => {
  expect(await raw(doors.ports.client, `GET / HTTP/1.1\r\n${host}\r\n`)).toBe('');
});

test('a request that does not arrive in time is told so', async () => {
  const socket = new PassThrough();
  refuseBytes(Object.assign(new Error('late'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), socket, undefined);
  expectProblem(parsed(String(await socket.toArray())), '408 request-timeout');
});

function parsed(answer: string): Pick<WireReply, 'status' | 'headers' | 'body'> {
  const [head = '', ...rest] = answer.split('\r\n\r\n');
  const [line = '', ...fields] = head.split('\r\n');
  const headers = fields.map((field): [string, string] => [field.split(': ')[0] ?? '', field.split(': ').slice(1).join(': ')]);
  return { status: Number(line.split(' ')[1]), headers, body: Buffer.from(rest.join('\r\n\r\n'), 'latin1') };
}
