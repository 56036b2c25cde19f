import 'reflect-metadata';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { readRoutes4, readRoutes6 } from '../../src/access/surroundings.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { Isolated } from '../support/isolated.js';
import { send } from '../support/wire.js';

jest.setTimeout(30_000);

const FINDINGS: [string, (machine: Isolated) => void, string][] = [
  ['a default route', (machine) => machine.ways.push({ block: '0.0.0.0/0', device: 'eth1' }), 'default-route'],
  ['an IPv6 default route', (machine) => machine.ways.push({ block: '::/0', device: 'eth1' }), 'default-route'],
  ['half a default route', (machine) => machine.ways.push({ block: '128.0.0.0/1', device: 'tun0' }), 'outside-route'],
  ['an outside address', (machine) => machine.own.push({ address: '203.0.113.7', device: 'eth1' }), 'outside-address'],
  ['an outside IPv6 address', (machine) => machine.own.push({ address: '2001:db8::7', device: 'eth1' }), 'outside-address'],
  ['a canary that answers', (machine) => machine.answering.add('203.0.113.1:443'), 'canary-answers'],
  ['a resolver that knows the world', (machine) => machine.answering.add('example.com'), 'name-resolves'],
  [
    'a machine that cannot be looked at',
    (machine) => {
      machine.failure = new Error('ENOENT');
    },
    'not-looked-at',
  ],
];
const ISOLATION = { canaries: ['203.0.113.1:443', '[2001:db8::1]:80', 'canary.example:443'], names: ['example.com'] };

describe('the isolation guard', () => {
  let machine: Isolated;
  let house: HouseInProcess | undefined;
  beforeEach(() => {
    machine = new Isolated();
  });
  afterEach(async () => {
    await house?.close();
    house = undefined;
  });
  const open = async (mode: string) => {
    house = await HouseInProcess.open({ surroundings: machine, settings: { isolation: { mode, ...ISOLATION } } });
    return house;
  };

  test('finds nothing on an isolated machine', async () => {
    const { house } = await open('enforce');
    expect(await house.isolation.look()).toEqual([]);
  });

  test('names each way out', async () => {
    const { house } = await open('warn');
    for (const [title, make, check] of FINDINGS) {
      Object.assign(machine, new Isolated());
      make(machine);
      expect({ title, found: (await house.isolation.look()).map((finding) => finding.check) }).toEqual({ title, found: [check] });
    }
  });

  test('warns: it starts, says what to do, and serves', async () => {
    machine.ways.push({ block: '0.0.0.0/0', device: 'eth1' });
    const house = await open('warn');
    expect((await house.house.health.report()).isolation).toEqual({ mode: 'warn', findings: 1 });
    expect((await send({ port: house.port, root: house.root, path: '/v1/keys' })).status).toBe(401);
    expect((await house.log()).filter(({ action }) => action === 'isolation.find').map(({ facts }) => facts)).toEqual([
      { findings: 1, mode: 'warn' },
    ]);
  });

  test('enforces: it does not start', async () => {
    machine.ways.push({ block: '0.0.0.0/0', device: 'eth1' });
    await expect(open('enforce')).rejects.toMatchObject({
      code: 'isolation-broken',
      message: expect.stringContaining('default route (0.0.0.0/0) on eth1: remove it'),
    });
  });

  test('enforces: what is found later stops keys and enrolments at the next request, keeps health, and all goes on when it is gone', async () => {
    const house = await open('enforce');
    const ask = async (path: string, method = 'GET') =>
      (await send({ port: house.port, root: house.root, path, method, ...(method === 'POST' ? { body: '{}' } : {}) })).json as {
        code: string;
      };
    const told: string[] = [];
    const again = async () => {
      house.house.isolation.stop();
      await house.house.isolation
        .start(
          (line) => told.push(line),
          () => undefined,
        )
        .catch(() => undefined);
    };
    expect((await ask('/v1/keys')).code).toBe('device-certificate-missing');
    machine.own.push({ address: '203.0.113.7', device: 'eth1' });
    await again();
    expect([await ask('/v1/keys'), await ask('/v1/enrolments', 'POST'), await ask('/v1/devices')].map(({ code }) => code)).toEqual(
      Array(3).fill('isolation-broken'),
    );
    expect((await house.house.health.report()).status).toBe('unready');
    machine.own.pop();
    await again();
    expect((await ask('/v1/keys')).code).toBe('device-certificate-missing');
    expect(told).toEqual([expect.stringContaining('eth1 has the address 203.0.113.7'), 'isolation: nothing is found any more']);
  });
});

test('routes are read as Linux writes them', () => {
  const four = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
*\t000000C0\t00000000\t0200\t0\t0\t0\t000000FF\t0\t0\t0
`;
  expect(readRoutes4(four)).toEqual([
    { block: '0.0.0.0/0', device: 'eth0' },
    { block: '10.1.0.0/16', device: 'eth0' },
  ]);
  const none = '00000000000000000000000000000000';
  const six = `fd000001000000000000000000000000 40 ${none} 00 ${none} 00000100 00000001 00000000 00000001     eth0
fe800000000000000000000000000001 80 ${none} 00 ${none} 00000000 00000002 00000000 80200001     eth0
${none} 00 ${none} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0
${none} 00 ${none} 00 ${none} ffffffff 00000001 00000000 00200200       lo
`;
  expect(readRoutes6(six)).toEqual([
    { block: 'fd00:0001:0000:0000:0000:0000:0000:0000/64', device: 'eth0' },
    { block: '0000:0000:0000:0000:0000:0000:0000:0000/0', device: 'eth0' },
  ]);
});
