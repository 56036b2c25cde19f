import 'reflect-metadata';
import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { run } from '../../src/demo/programs.js';
import { ContractCheck } from './contract-check.js';
import { Doors, type Listener } from './doors.js';

jest.setTimeout(60_000);

let doors: Doors;
beforeAll(async () => {
  doors = await Doors.open(new ContractCheck());
});
afterAll(() => doors.close());

const TLS: Listener[] = ['client', 'administration', 'staff'];

/** A handshake as a browser makes it; resolves with the socket once it is through. */
async function handshake(listener: Listener): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port: doors.ports[listener], servername: 'localhost', ca: [doors.house.root] });
  await once(socket, 'secureConnect');
  return socket;
}

test.each(TLS)('the %s listener speaks TLS 1.3 with a certificate for the public name', async (listener) => {
  const socket = await handshake(listener);
  expect({ version: socket.getProtocol(), names: socket.getPeerX509Certificate()?.checkHost('localhost') }).toEqual({
    version: 'TLSv1.3',
    names: 'localhost',
  });
  socket.destroy();
});

test('a certificate is asked of devices only: a browser would ask its person for one', async () => {
  const asks = async (listener: Listener) => {
    const { stdout } = await run('sh', ['-c', `openssl s_client -connect 127.0.0.1:${doors.ports[listener]} </dev/null`]);
    return /^Acceptable client certificate CA names$/m.test(stdout);
  };
  expect(await Promise.all(TLS.map(asks))).toEqual([true, false, false]);
});
