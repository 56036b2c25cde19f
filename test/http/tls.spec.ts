import 'reflect-metadata';
import { request } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { run } from '../../src/demo/programs.js';
import { ContractCheck } from './contract-check.js';
import { Doors, headerOf, type Listener } from './doors.js';

jest.setTimeout(60_000);

const TLS: Listener[] = ['client', 'administration', 'staff'];
let doors: Doors;
beforeAll(async () => {
  doors = await Doors.open(new ContractCheck(), { settings: { network: { connectionsPerAddress: 300 } } });
});
afterAll(() => doors.close());

/** What OpenSSL's own client makes of it: protocol and suite, or `refused`. It is told to accept anything. */
async function handshake(listener: Listener, ...how: string[]): Promise<string> {
  const words = ['s_client', '-connect', `127.0.0.1:${doors.ports[listener]}`, '-servername', 'localhost', ...how]
    .map((word) => `'${word}'`)
    .join(' ');
  const { stdout } = await run('sh', ['-c', `timeout 10 openssl ${words} </dev/null`]);
  const [, protocol = '', suite = ''] = /^New, (\S+), Cipher is (\S+)$/m.exec(stdout) ?? [];
  return suite === '' || suite === '(NONE)' ? 'refused' : `${protocol} ${suite}`;
}

const ANY = '@SECLEVEL=0:ALL:COMPLEMENTOFALL';
const OLD: [string, string[]][] = [
  ['TLS 1.0', ['-tls1', '-cipher', ANY]],
  ['TLS 1.1', ['-tls1_1', '-cipher', ANY]],
  ['TLS 1.2', ['-tls1_2', '-cipher', ANY]],
  ['TLS 1.3 with CCM', ['-tls1_3', '-ciphersuites', 'TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256']],
  ['TLS 1.3 with an RSA certificate only', ['-tls1_3', '-sigalgs', 'rsa_pss_rsae_sha256']],
];

describe('by default', () => {
  test.each(TLS)('the %s listener takes TLS 1.3 and nothing else', async (listener) => {
    for (const [name, how] of OLD) expect(`${name}: ${await handshake(listener, ...how)}`).toBe(`${name}: refused`);
    expect(await handshake(listener)).toBe('TLSv1.3 TLS_AES_256_GCM_SHA384');
    expect(await handshake(listener, '-ciphersuites', 'TLS_CHACHA20_POLY1305_SHA256')).toBe('TLSv1.3 TLS_CHACHA20_POLY1305_SHA256');
  });

  test.each(TLS)('every answer of the %s listener has HSTS, a policy without script, and no sniffing', async (listener) => {
    for (const path of ['/api/openapi.json', '/nothing']) {
      const reply = await doors.ask(listener, { path });
      expect(headerOf(reply, 'strict-transport-security')).toMatch(/^max-age=\d{7,}/);
      expect(headerOf(reply, 'content-security-policy')).toContain("default-src 'none'");
      expect(headerOf(reply, 'content-security-policy')).not.toContain("script-src 'unsafe-inline'");
      expect(headerOf(reply, 'x-content-type-options')).toBe('nosniff');
      expect(headerOf(reply, 'x-frame-options')).toBeDefined();
    }
  });
});

describe('with 1.2 by policy', () => {
  beforeAll(async () => {
    await doors.house.house.networks.set({ tls: { minimum: '1.2' }, network: { connectionsPerAddress: 300 } }, { kind: 'operator' });
  });

  test('every suite that OpenSSL knows: those with forward secrecy and an AEAD are taken, nothing else', async () => {
    const { stdout } = await run('openssl', ['ciphers', '-s', '-tls1_2', ANY]);
    const suites = stdout
      .trim()
      .split(':')
      .filter((suite) => !suite.startsWith('TLS_'));
    expect(suites.length).toBeGreaterThan(50);
    const taken: string[] = [];
    for (let at = 0; at < suites.length; at += 10)
      taken.push(
        ...(await Promise.all(suites.slice(at, at + 10).map((suite) => handshake('client', '-tls1_2', '-cipher', `${suite}:@SECLEVEL=0`)))),
      );
    expect(taken.filter((one) => one !== 'refused').sort()).toEqual([
      'TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256',
      'TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384',
      'TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305',
    ]);
  });

  test('older versions stay refused; 1.3 is still preferred; nothing is renegotiated', async () => {
    expect(await handshake('staff', '-tls1_1', '-cipher', ANY)).toBe('refused');
    expect(await handshake('staff')).toMatch(/^TLSv1\.3 /);
    const { stdout, stderr } = await run('sh', [
      '-c',
      `(sleep 0.5; echo R; sleep 1) | timeout 5 openssl s_client -tls1_2 -connect 127.0.0.1:${doors.ports.staff}`,
    ]);
    expect(`${stdout}${stderr}`).toMatch(/no renegotiation|ssl handshake failure|RENEGOTIATING[\s\S]*error/i);
  });
});

describe('slow clients', () => {
  /** Somebody else, from another address, over a connection of their own. Resolves with the status. */
  const good = () =>
    new Promise<number | undefined>((resolve, reject) => {
      const asked = request(
        { host: '127.0.0.1', port: doors.ports.public, path: '/api/openapi.json', localAddress: '127.0.0.2', agent: false },
        (response) => response.resume().once('end', () => resolve(response.statusCode)),
      );
      asked.once('error', reject).end();
    });

  // How much longer the others wait is bench/slow-clients.mjs.
  test('are cut off, all of them, over HTTP and before a TLS handshake; whoever else asks meanwhile is answered', async () => {
    const began = Date.now();
    let open = 0;
    const slow = (listener: 'public' | 'client') => {
      const socket = connect(doors.ports[listener], '127.0.0.1');
      socket.on('error', () => undefined);
      open++;
      const closed = new Promise<number>((resolve) =>
        socket.once('close', () => {
          open--;
          resolve(Date.now() - began);
        }),
      );
      const drip = setInterval(() => socket.write(listener === 'public' ? 'x' : '\u0016'), 1_000);
      void closed.then(() => clearInterval(drip));
      if (listener === 'public') socket.write('GET / HTTP/1.1\r\nx-slow: ');
      socket.resume();
      return closed;
    };
    const all = Promise.all([...Array(200).keys()].map((n) => slow(n % 2 ? 'public' : 'client')));
    const answers: (number | undefined)[] = [];
    while (open > 0) {
      answers.push(await good());
      await sleep(20);
    }
    for (const end of await all) expect(end).toBeLessThan(40_000);
    expect(answers.length).toBeGreaterThan(10);
    expect(answers.filter((status) => status !== 200)).toEqual([]);
  });
});
