import 'reflect-metadata';
import { type ClientRequestArgs, request } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { fastify } from 'fastify';
import { NetworkPolicy, peerOf, plainAddress, type RouteClass, readPolicy } from '../../src/access/index.js';
import { Listeners, type Place } from '../../src/http/index.js';
import { HEADER_CASES, SOCKET_CASES } from './address-cases.js';

jest.setTimeout(60_000);

const EMPLOYEES = ['10.1.0.0/16', 'fd00:1::/48', '127.1.0.0/16'];
const proxied = (speaks: string, kinds: RouteClass[]) =>
  readPolicy({
    networks: {
      employees: { addresses: EMPLOYEES, reach: ['public', 'client'] },
      listed: { addresses: ['8.8.8.0/24'], reach: ['public'] },
    },
    network: { proxies: { front: { addresses: ['127.0.0.1', '127.0.0.2'], speaks, for: kinds } } },
  });

let policy: NetworkPolicy;
let place: Place;
let refusals: string[];
let listeners: Listeners;
const app = fastify();
app.get('/', (asked, reply) => reply.send(peerOf(asked.raw).network));

beforeAll(async () => {
  await app.ready();
  listeners = new Listeners(app, { policy: () => policy, refused: (kind, address, rule) => refusals.push(`${kind} ${address} ${rule}`) });
  policy = new NetworkPolicy(readPolicy({}));
  place = await listeners.openPlain('public', { host: '127.0.0.1', port: 0 });
});
beforeEach(() => {
  refusals = [];
});
afterAll(async () => {
  await listeners.close(0);
  await app.close();
});

/** Who the application takes the caller for; `refused` when it says 403 or the connection is closed. */
function seenAs(headers: ClientRequestArgs['headers'], localAddress = '127.0.0.1', port = place.port): Promise<string> {
  return new Promise((resolve) => {
    const asked = request({ host: '127.0.0.1', port, localAddress, agent: false, headers: { host: 'x', ...headers } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () => resolve(response.statusCode === 200 ? text : `refused ${response.statusCode}`));
    });
    asked.on('error', () => resolve('refused'));
    asked.end();
  });
}

describe('what a header field says', () => {
  test(`${HEADER_CASES.length} cases: 0 bypasses, 0 false refusals`, async () => {
    expect(HEADER_CASES.length + SOCKET_CASES.length).toBeGreaterThanOrEqual(500);
    const wrong: string[] = [];
    for (const { title, speaks, from, headers, seen } of HEADER_CASES) {
      policy = new NetworkPolicy(proxied(speaks, ['public']));
      const got = await seenAs(headers, from);
      if (got.replace(/ 403$/, '') !== seen) wrong.push(`${title}: ${got} instead of ${seen}`);
    }
    expect(wrong).toEqual([]);
  });
});

test(`${SOCKET_CASES.length} addresses of sockets are judged as the blocks say`, () => {
  const wrong = SOCKET_CASES.filter(({ blocks, internal, address, isIn }) => {
    const given = readPolicy({
      networks: { them: { addresses: blocks, reach: ['public'] } },
      ...(internal ? { network: { internal } } : {}),
    });
    return new NetworkPolicy(given).allows('public', plainAddress(address)) !== isIn;
  });
  expect(wrong).toEqual([]);
});

test('who is let in is let in to what the network reaches, and to nothing else', async () => {
  policy = new NetworkPolicy(readPolicy({ networks: { them: { addresses: ['127.1.0.0/16'], reach: ['client', 'operation'] } } }));
  expect(await seenAs({}, '127.1.0.1')).toBe('refused');
  policy = new NetworkPolicy(readPolicy({ networks: { them: { addresses: ['127.1.0.0/16'], reach: ['public'] } } }));
  expect(await seenAs({}, '127.1.0.1')).toBe('127.1.0.1');
  expect(refusals).toEqual(['public 127.1.0.1 network-not-listed']);
});

test('a refused connection is closed before a byte is read or sent', async () => {
  policy = new NetworkPolicy(readPolicy({ networks: { them: { addresses: ['127.1.0.0/16'], reach: ['public'] } } }));
  const socket = connect({ host: '127.0.0.1', port: place.port });
  let got = 0;
  socket.on('data', ({ length }) => {
    got += length;
  });
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.once('close', resolve));
  expect({ got, refusals }).toEqual({ got: 0, refusals: ['public 127.0.0.1 network-not-listed'] });
});

test('a change of the policy ends the connections that it keeps out, and no others', async () => {
  policy = new NetworkPolicy(readPolicy({ networks: { them: { addresses: ['127.1.0.0/16'], reach: ['public'] } } }));
  const ends = await Promise.all(
    ['127.1.0.1', '127.1.0.2'].map(async (localAddress) => {
      const socket = connect({ host: '127.0.0.1', port: place.port, localAddress });
      socket.on('error', () => undefined);
      await new Promise((resolve) => socket.once('connect', resolve));
      return socket;
    }),
  );
  await sleep(50);
  policy = new NetworkPolicy(readPolicy({ networks: { them: { addresses: ['127.1.0.1'], reach: ['public'] } } }));
  listeners.judgeAgain();
  for (const until = Date.now() + 5_000; Date.now() < until && !ends[1]?.closed; ) await sleep(10);
  expect(ends.map(({ closed }) => closed)).toEqual([false, true]);
  for (const socket of ends) socket.destroy();
});

test('one address has so many connections and no more; another is not hindered', async () => {
  policy = new NetworkPolicy(
    readPolicy({ networks: { them: { addresses: ['127.1.0.0/16'], reach: ['public'] } }, network: { connectionsPerAddress: 3 } }),
  );
  const sockets = Array.from({ length: 5 }, () => connect({ host: '127.0.0.1', port: place.port, localAddress: '127.1.0.1' }));
  for (const socket of sockets) socket.on('error', () => undefined);
  for (const until = Date.now() + 5_000; Date.now() < until && refusals.length < 2; ) await sleep(10);
  expect(refusals).toEqual(Array(2).fill('public 127.1.0.1 connections-per-address'));
  expect(await seenAs({}, '127.1.0.2')).toBe('127.1.0.2');
  for (const socket of sockets) socket.destroy();
  await sleep(50);
  expect(await seenAs({}, '127.1.0.1')).toBe('127.1.0.1');
});
