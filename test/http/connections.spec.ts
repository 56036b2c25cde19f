import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { FastifyInstance } from 'fastify';
import { NetworkPolicy, readPolicy } from '../../src/access/network-policy.js';
import type * as listeners from '../../src/http/listeners.js';
import { TokenServer } from '../../src/tokens/process/server.js';
import { guardOff } from '../support/guard-off.js';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** How many of so many connections stay open. */
async function staying(count: number, to: { port: number } | { path: string }): Promise<number> {
  const sockets: Socket[] = [];
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
  });
  for (let n = 0; n < count; n++) {
    const socket = connect(to);
    socket.on('error', () => undefined).resume();
    sockets.push(socket);
    await once(socket, 'connect');
  }
  await sleep(100);
  return sockets.filter(({ destroyed, readableEnded }) => !destroyed && !readableEnded).length;
}

describe('connections at a time, whoever they are of', () => {
  const FEWER = { guard: 'connections: 2_000', instead: 'connections: 3' };
  const LIMIT = { guard: 'server.maxConnections = LIMITS.connections;', instead: '' };

  async function listener({ Listeners }: typeof listeners): Promise<{ port: number }> {
    const policy = new NetworkPolicy(readPolicy({}));
    const app = { routing: () => undefined } as unknown as FastifyInstance; // nobody asks anything
    const doors = new Listeners(app, { policy: () => policy, refused: () => undefined });
    ends.push(() => doors.close(0));
    return doors.openPlain('operation', { host: '127.0.0.1', port: 0 });
  }

  test('are as many as the listener takes (3 here), and without its limit as many as come', async () => {
    const file = 'src/http/listeners.ts';
    const limited = guardOff<typeof listeners>({ file, ...FEWER });
    expect(await staying(5, await listener(limited))).toBe(3);
    expect(await staying(5, await listener(guardOff({ file, ...FEWER }, LIMIT)))).toBe(5);
  });

  test('are 16 at the token process, and without its limit as many as come', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ekms-sockets-'));
    ends.push(() => rmSync(folder, { recursive: true }));
    const open = async (name: string, Server: typeof TokenServer) => {
      const server = new Server(join(folder, name), async () => '');
      await server.listen();
      ends.push(() => server.close());
      return { path: join(folder, name) };
    };
    expect(await staying(20, await open('one', TokenServer))).toBe(16);
    const guard = 'this.server.maxConnections = CONNECTIONS;';
    const unlimited = guardOff<{ TokenServer: typeof TokenServer }>({
      file: 'src/tokens/process/server.ts',
      guard,
      instead: 'void CONNECTIONS;',
    });
    expect(await staying(20, await open('two', unlimited.TokenServer))).toBe(20);
  });
});
