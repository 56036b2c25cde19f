import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { BlockList, isIPv4 } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { ROUTE_CLASSES, type RouteClass } from '../../src/access/index.js';
import { askAppliance } from '../../src/commands/ask-appliance.js';
import { dice } from '../faults/dice.js';
import { Home } from '../support/appliance.js';
import { mayMakeNamespaces, Namespace, type Probe } from '../support/namespaces.js';

jest.setTimeout(120_000);

const EKMS = join(__dirname, '../../dist/programs/main.js');
const PORTS: Record<RouteClass, number> = { client: 8443, administration: 8444, staff: 8445, public: 8480, operation: 9464 };
const isTls = (kind: RouteClass) => kind !== 'public' && kind !== 'operation';

const STRICT = {
  networks: {
    employees: { addresses: ['10.1.0.0/16', 'fd00:1::/48'], reach: ['client', 'staff', 'public'] },
    administrators: { addresses: ['10.2.0.0/24'], reach: ['administration', 'operation', 'public'] },
  },
  network: { proxies: { front: { addresses: ['10.3.0.2'], speaks: 'proxy-protocol', for: ['client'] } } },
};
/** The outer bound of ekms.yaml here, so that the policies that follow differ in everything. */
const EVERYWHERE = ['0.0.0.0/0', '::/0'];
/** The application's own check, as good as off. */
const OFF = { networks: { all: { addresses: ['10.0.0.0/8', 'fd00::/8'], reach: ROUTE_CLASSES } } };

/** The appliance in its own namespace, and those of whoever is around it. */
class Site {
  readonly app = new Namespace('app');
  readonly employees = new Namespace('emp');
  readonly administrators = new Namespace('adm');
  readonly proxy = new Namespace('prx');
  readonly outsider = new Namespace('out');
  home!: Home; // set by open()
  #serving: ChildProcess | undefined;
  said = '';

  static async open(): Promise<Site> {
    const site = new Site();
    site.app.cable(site.employees, ['10.1.0.1/16', 'fd00:1::1/48'], ['10.1.0.2/16', 'fd00:1::2/48']);
    site.app.cable(site.administrators, ['10.2.0.1/24'], ['10.2.0.2/24']);
    site.app.cable(site.proxy, ['10.3.0.1/24'], ['10.3.0.2/24']);
    site.app.cable(site.outsider, ['10.9.0.1/24'], ['10.9.0.2/24']);
    for (const other of [site.employees, site.administrators, site.proxy, site.outsider]) {
      const gateway = /inet (10\.\d+\.0)\.2/.exec(other.ip('-4 addr show'))?.[1];
      other.ip(`route add default via ${gateway}.1`);
    }
    site.home = await Home.prepare();
    site.home.ports = PORTS;
    site.configure({});
    const { status, stderr } = await site.home.ekms('init');
    if (status !== 0) throw new Error(stderr);
    return site;
  }

  configure(settings: object): void {
    const listen = {
      client: `[::]:${PORTS.client}`,
      administration: `10.2.0.1:${PORTS.administration}`,
      staff: `10.1.0.1:${PORTS.staff}`,
      public: `[::]:${PORTS.public}`,
      operation: `[::]:${PORTS.operation}`,
    };
    this.home.configure({
      domains: ['corp.example'],
      keys: { bits: 2048, pool: { target: 0 } },
      ...STRICT,
      network: { ...STRICT.network, internal: EVERYWHERE },
      ...settings,
      listen,
    });
  }

  /** Resolves with its exit status when it ends before it is ready. */
  async start(): Promise<number | undefined> {
    this.said = '';
    const child = this.app.spawn(process.execPath, [EKMS, 'serve'], { EKMS_HOME: this.home.path });
    this.#serving = child;
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.said += text;
      });
    for (const until = Date.now() + 40_000; !/^ready/m.test(this.said); await sleep(20)) {
      if (child.exitCode !== null) return child.exitCode;
      if (Date.now() > until) throw new Error(`not ready: ${this.said}`);
    }
    return undefined;
  }

  async stop(): Promise<void> {
    const child = this.#serving;
    if (!child || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    // `ip netns exec` becomes the program itself.
    child.kill('SIGTERM');
    await ended;
  }

  async policy(document: object): Promise<void> {
    await askAppliance(this.home.path, 'policy.set', { document });
  }

  /** Puts the rules of the policy in force into the appliance's namespace. */
  async loadRules(): Promise<void> {
    const file = this.home.beside('rules.nft');
    writeFileSync(file, await this.printed('nftables'));
    this.app.run('nft', ['-f', file]);
  }

  async printed(format: 'nftables' | 'systemd'): Promise<string> {
    const { value } = (await askAppliance(this.home.path, 'firewall.print', { format })) ?? {};
    return (value as { text: string }).text; // src/commands/firewall-acts.ts
  }

  flushRules(): void {
    this.app.run('nft', ['flush', 'ruleset']);
  }

  async close(): Promise<void> {
    await this.stop();
    for (const namespace of [this.app, this.employees, this.administrators, this.proxy, this.outsider]) namespace.remove();
    await this.home.remove();
  }
}

/** Which classes are open, from each place. */
const EXPECTED = {
  employees: ['client', 'staff', 'public'],
  administrators: ['administration', 'public', 'operation'],
  proxy: [],
  outsider: [],
} as const;

function reached(site: Site): Record<keyof typeof EXPECTED, string[]> {
  const hosts: Record<RouteClass, string> = {
    client: '10.1.0.1',
    administration: '10.2.0.1',
    staff: '10.1.0.1',
    public: '10.1.0.1',
    operation: '10.2.0.1',
  };
  const from = (place: Namespace) => {
    const got = probedTwice(
      place,
      ROUTE_CLASSES.map((kind) => ({ host: hosts[kind], port: PORTS[kind], tls: isTls(kind) })),
    );
    return ROUTE_CLASSES.filter((_, at) => got[at] === 'open');
  };
  const sorted = (kinds: readonly string[]) => [...kinds].sort();
  return {
    employees: sorted(from(site.employees)),
    administrators: sorted(from(site.administrators)),
    proxy: sorted(from(site.proxy)),
    outsider: sorted(from(site.outsider)),
  };
}
const EXPECTED_SORTED = Object.fromEntries(Object.entries(EXPECTED).map(([place, kinds]) => [place, [...kinds].sort()]));

const claim = (source: string) =>
  `0d0a0d0a000d0a515549540a2111000c${Buffer.from([...source.split('.').map(Number), 10, 3, 0, 1, 1, 2, 3, 4]).toString('hex')}`;

(mayMakeNamespaces() ? describe : describe.skip)('in network namespaces', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
    await site.start();
  });
  afterAll(() => site.close());

  test('each class is reached from exactly where the policy says: by the application alone, with nftables, and by nftables alone', async () => {
    expect(reached(site)).toEqual(EXPECTED_SORTED);
    await site.loadRules();
    expect(reached(site)).toEqual(EXPECTED_SORTED);
    await site.policy(OFF);
    const { proxy, ...others } = reached(site); // to nftables the proxy is one who may come
    expect({ others, proxy }).toEqual({ others: { ...EXPECTED_SORTED, proxy: undefined }, proxy: ['client'] });
    site.flushRules();
    // Both off: what the first line of this test would then say.
    expect(reached(site)).not.toEqual(EXPECTED_SORTED);
    expect(reached(site).outsider).toEqual([...ROUTE_CLASSES].sort());
    await site.policy(STRICT);
  });

  test('a proxy is judged by whom it speaks for, and nobody else may speak', () => {
    const client = (header?: string): Probe => ({ host: '10.3.0.1', port: PORTS.client, tls: true, ...(header ? { header } : {}) });
    expect(site.proxy.probe([client(claim('10.1.0.77')), client(claim('10.9.0.77')), client(claim('8.8.8.8')), client()])).toEqual([
      'open',
      'refused',
      'refused',
      'refused',
    ]);
    expect(site.outsider.probe([client(claim('10.1.0.77'))])).toEqual(['refused']);
  });

  test('policy, nftables and application decide alike on 500 cases', async () => {
    const roll = dice(4);
    const four = [
      '10.0.0.9',
      '10.1.0.9',
      '10.1.2.3',
      '10.1.255.254',
      '10.2.0.9',
      '10.2.0.254',
      '10.200.1.1',
      '172.16.0.9',
      '172.31.9.9',
      '172.32.0.9',
      '192.168.1.9',
      '8.8.8.8',
      '100.64.0.9',
      '198.51.100.9',
    ];
    const six = ['fd00:1::9', 'fd00:1:0:ffff::9', 'fd00:2::9', 'fdff::9', 'fc00::9', '2001:db8::9'];
    const blocks = [
      '10.0.0.0/8',
      '10.1.0.0/16',
      '10.1.2.0/24',
      '10.1.2.3/32',
      '10.2.0.0/24',
      '172.16.0.0/12',
      '192.168.0.0/16',
      '8.8.8.0/24',
      '0.0.0.0/0',
      'fd00:1::/48',
      'fd00::/8',
      'fc00::/7',
      '2001:db8::/32',
      '::/0',
      'fd00:1::9/128',
    ];
    const internal = ['127.0.0.0/8', '::1/128', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'];
    for (const one of [...four, ...six]) site.outsider.ip(`addr add ${one}/${one.includes(':') ? '128 nodad' : '32'} dev lo`);
    const way = /dev (\S+)/.exec(site.app.ip('route get 10.9.0.2'))?.[1] ?? '';
    const here = /\d+: (\S+?)[@:]/.exec(site.outsider.ip('-o link show type veth'))?.[1] ?? '';
    site.app.ip(`addr add fd00:9::1/64 dev ${way} nodad`);
    site.outsider.ip(`addr add fd00:9::2/64 dev ${here} nodad`);
    for (const one of four) site.app.ip(`route add ${one}/32 via 10.9.0.2`);
    for (const one of six) site.app.ip(`route add ${one}/128 via fd00:9::2`);
    const kinds = ['client', 'public', 'operation'] as const; // what listens on both families
    let cases = 0;
    const different: string[] = [];
    for (let n = 0; n < 9; n++) {
      const pick = <T>(from: readonly T[], count: number) => Array.from({ length: count }, () => from[roll(from.length)] as T);
      const networks = Object.fromEntries(
        ['a', 'b', 'c'].map((name) => [name, { addresses: [...new Set(pick(blocks, 2))], reach: [...new Set(pick(kinds, 2))] }]),
      );
      const asked = [...four, ...six].flatMap((from) =>
        kinds.map((kind) => ({ from, kind, host: from.includes(':') ? 'fd00:9::1' : '10.9.0.1', port: PORTS[kind], tls: isTls(kind) })),
      );
      await site.policy({ networks });
      const drop = await site.printed('systemd');
      const byApplication = probedTwice(site.outsider, asked);
      await site.loadRules();
      await site.policy({ networks: { all: { addresses: EVERYWHERE, reach: ROUTE_CLASSES } }, network: { internal: EVERYWHERE } });
      const byRules = probedTwice(site.outsider, asked);
      site.flushRules();
      const inside = judge(internal);
      for (const [at, { from, kind }] of asked.entries()) {
        cases++;
        const listed = Object.values(networks).some(({ addresses, reach }) => reach.includes(kind) && judge(addresses)(from));
        const expected = listed && inside(from) ? 'open' : 'refused';
        const isLetBySystemd = judge([...drop.matchAll(/^IPAddressAllow=(\S+)$/gm)].map(([, block = '']) => block))(from);
        if (byApplication[at] !== expected || byRules[at] !== expected || (expected === 'open' && !isLetBySystemd))
          different.push(
            `${from} ${kind} of ${JSON.stringify(networks)}: ${expected}, application ${byApplication[at]}, nftables ${byRules[at]}, systemd ${isLetBySystemd}`,
          );
      }
    }
    process.stdout.write(`${cases} cases judged by policy, nftables and application\n`);
    expect(different).toEqual([]);
    expect(cases).toBeGreaterThanOrEqual(500);
    await site.policy(STRICT);
  });

  test('the isolation guard finds and names each way out; enforced, no key leaves and it does not start', async () => {
    await site.stop();
    site.app.cable(site.outsider, ['203.0.113.5/24'], ['203.0.113.9/24']);
    site.app.ip('route add default via 203.0.113.9');
    site.app.resolver('203.0.113.9');
    const outside = site.outsider.spawn(process.execPath, [join(__dirname, '../support/outside.mjs'), '203.0.113.9', '443']);
    try {
      await once(outside.stdout ?? outside, 'data');
      const isolation = { canaries: ['203.0.113.9:443', '203.0.113.10:443'], names: ['example.com'] };
      site.configure({ isolation, network: STRICT.network });
      expect(await site.start()).toBeUndefined();
      const told = [...site.said.matchAll(/^ekms: isolation: (.*)$/gm)].map(([, words]) => words);
      expect(told).toEqual(
        expect.arrayContaining([
          expect.stringContaining('there is a default route (0.0.0.0/0) on'),
          expect.stringContaining('there is a route to 203.0.113.0/24'),
          expect.stringContaining('has the address 203.0.113.5'),
          expect.stringContaining('203.0.113.9:443 answers'),
          expect.stringContaining('the resolver answers for example.com'),
        ]),
      );
      expect(told.join('\n')).not.toContain('203.0.113.10');
      const keys = () =>
        site.employees.run(
          'openssl',
          ['s_client', '-quiet', '-connect', `10.1.0.1:${PORTS.client}`],
          'GET /v1/keys HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n',
        );
      expect(keys()).toContain('device-certificate-missing');
      await site.policy({ ...STRICT, isolation: { ...isolation, mode: 'enforce' } });
      expect(keys()).toContain('isolation-broken');
      expect(site.administrators.probe([{ host: '10.2.0.1', port: PORTS.administration, tls: true }])).toEqual(['open']);
      await site.stop();
      expect(await site.start()).toBe(1);
      expect(site.said).toContain('isolation.mode is enforce');
    } finally {
      outside.kill('SIGKILL');
    }
  });
});

/** Who was not let in asks again and waits longer: a busy machine refuses nobody. */
function probedTwice(place: Namespace, asked: Probe[]): string[] {
  const first = place.probe(asked, 300);
  const again = asked.filter((_, at) => first[at] !== 'open');
  const second = place.probe(again, 800);
  return first.map((one) => (one === 'open' ? one : (second.shift() ?? one)));
}

/** Node's own lists, one for each family. */
function judge(texts: readonly string[]): (one: string) => boolean {
  const lists = { ipv4: new BlockList(), ipv6: new BlockList() };
  const familyOf = (one: string) => (isIPv4(one) ? 'ipv4' : 'ipv6');
  for (const text of texts) {
    const [start = '', length] = text.split('/');
    lists[familyOf(start)].addSubnet(start, Number(length), familyOf(start));
  }
  return (one) => lists[familyOf(one)].check(one, familyOf(one));
}
