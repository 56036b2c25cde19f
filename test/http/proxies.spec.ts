import 'reflect-metadata';
import { connect, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readProxyHeader } from '../../src/codec/proxy-protocol.js';
import { proxySource } from '../../src/http/proxy-source.js';
import { ContractCheck } from './contract-check.js';
import { Doors, type Listener } from './doors.js';

jest.setTimeout(20_000);

const PROXY = '127.0.0.9';
let doors: Doors;
beforeAll(async () => {
  const settings = {
    networks: {
      employees: { addresses: ['10.1.0.0/16', 'fd00:1::/48'], reach: ['client', 'public', 'operation'] },
      // The proxy's own address reaches everything: it must not be enough.
      here: { addresses: ['127.0.0.0/8'], reach: ['client', 'staff', 'public', 'operation'] },
    },
    network: { proxies: { front: { addresses: [PROXY], speaks: 'proxy-protocol', for: ['client', 'public'] } } },
  };
  doors = await Doors.open(new ContractCheck(), { settings });
});
afterAll(() => doors.close());

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
/** As the specification's §2.2 lays it out. */
function header(source: string, { command = 0x21, family = source.includes(':') ? 0x21 : 0x11, extras = Buffer.alloc(0) } = {}): Buffer {
  const bytes = source.includes(':')
    ? Buffer.concat([
        Buffer.from(
          source
            .split(':')
            .map((group) => group.padStart(4, '0'))
            .join(''),
          'hex',
        ),
        Buffer.alloc(16, 1),
        Buffer.from([1, 2, 3, 4]),
      ])
    : Buffer.from([...source.split('.').map(Number), 127, 0, 0, 1, 1, 2, 3, 4]);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length + extras.length);
  return Buffer.concat([SIGNATURE, Buffer.from([command, family]), length, bytes, extras]);
}

/** The status line that comes back when these pieces are sent one by one; empty when the connection is closed without. */
async function answer(listener: Listener, pieces: Buffer[], { localAddress = PROXY, tls = false } = {}): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port: doors.ports[listener], localAddress });
  socket.on('error', () => undefined);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await new Promise((resolve) => socket.once('connect', resolve));
  for (const piece of pieces) {
    socket.write(piece);
    await sleep(5);
  }
  const speaks: Socket = tls ? connectTls({ socket, servername: 'localhost', ca: [doors.house.root] }) : socket;
  speaks.on('error', () => undefined);
  if (tls) speaks.write(ASK);
  let text = '';
  speaks.setEncoding('latin1').on('data', (piece: string) => {
    text += piece;
    if (text.includes('\r\n')) socket.destroy();
  });
  await closed;
  return text.split('\r\n', 1)[0] ?? '';
}

const ASK = Buffer.from('GET /api/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n');
const OK = 'HTTP/1.1 200 OK';

describe('a proxy with the PROXY protocol', () => {
  test.each([
    ['in one piece with the request', [Buffer.concat([header('10.1.2.3'), ASK])]],
    ['before the request', [header('10.1.2.3'), ASK]],
    ['byte by byte', [...header('10.1.2.3')].map((byte) => Buffer.from([byte])).concat([ASK])],
    ['IPv6', [header('fd00:1:0:0:0:0:0:5'), ASK]],
    ['a mapped address', [header('0:0:0:0:0:ffff:0a01:0203'), ASK]],
    ['with extensions', [header('10.1.2.3', { extras: Buffer.from([4, 0, 2, 1, 1, 0x20, 0, 0]) }), ASK]],
    ['a connection of its own (LOCAL)', [header('10.9.9.9', { command: 0x20 }), ASK]],
  ])('%s: let in over HTTP', async (_, pieces) => expect(await answer('public', pieces)).toBe(OK));

  test.each([
    ['somebody of a network that is not listed', header('10.2.0.1')],
    ['somebody outside', header('8.8.8.8')],
    ['somebody who reaches this listener by another address only', header('0:0:0:0:0:0:0:1')],
    ['UNSPEC', header('10.1.2.3', { family: 0 })],
    ['UDP', header('10.1.2.3', { family: 0x12 })],
    ['a Unix socket', header('10.1.2.3', { family: 0x31 })],
    ['a cut address', Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x11, 0, 4, 10, 1, 2, 3])])],
    ['a cut extension', header('10.1.2.3', { extras: Buffer.from([4, 0, 9, 1]) })],
    ['a header of 2,000 bytes', header('10.1.2.3', { extras: Buffer.from([4, 7, 0xcd, ...Buffer.alloc(1997)]) })],
    ['another version', Buffer.concat([SIGNATURE, Buffer.from([0x31, 0x11]), header('10.1.2.3').subarray(14)])],
    ['version 1', Buffer.from('PROXY TCP4 10.1.2.3 127.0.0.1 1 2\r\n')],
    ['no header at all', Buffer.alloc(0)],
  ])('%s: closed without an answer', async (_, first) => expect(await answer('public', [Buffer.concat([first, ASK])])).toBe(''));

  test('over TLS too, before the handshake', async () => {
    expect(await answer('client', [header('10.1.2.3')], { tls: true })).toBe(OK);
    expect(await answer('client', [header('10.2.0.1')], { tls: true })).toBe('');
    expect(await answer('client', [], { tls: true })).toBe('');
  });

  test('nobody else is believed, and the proxy only where it is named', async () => {
    expect(await answer('public', [Buffer.concat([header('10.1.2.3'), ASK])], { localAddress: '127.0.0.1' })).toBe(
      'HTTP/1.1 400 Bad Request',
    );
    expect(await answer('operation', [Buffer.concat([header('10.1.2.3'), ASK])])).toBe('HTTP/1.1 400 Bad Request');
    expect(await answer('operation', [ASK])).toBe(OK);
  });

  test('what was refused is an entry with address, class and rule', async () => {
    await sleep(100);
    const entries = (await doors.house.log(200)).filter(({ action }) => action === 'connection.refuse');
    const told = entries.map(({ reason, facts, personal }) => ({ reason, listener: facts?.['listener'], network: personal['network'] }));
    expect(told).toContainEqual({ reason: 'network-not-listed', listener: 'public', network: '10.2.0.1' });
    expect(told).toContainEqual({ reason: 'network-outside', listener: 'public', network: '8.8.8.8' });
    expect(told).toContainEqual({ reason: 'proxy-header', listener: 'public', network: PROXY });
  });
});

test('a header is read the same however it is cut, and its length is what it took', () => {
  for (const source of ['10.1.2.3', 'fd00:1:0:0:0:0:0:5'])
    for (const whole = Buffer.concat([header(source), ASK]), cut = { at: 0 }; cut.at <= whole.length; cut.at++) {
      const read = readProxyHeader(whole.subarray(0, cut.at));
      expect(read?.length).toBe(cut.at < header(source).length ? undefined : header(source).length);
    }
});

test('whoever connects as a proxy and says nothing is not waited for', async () => {
  const silent = new Socket();
  expect(await proxySource(silent, 20)).toBeUndefined();
  silent.destroy();
});
