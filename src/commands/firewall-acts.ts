import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { z } from 'zod';
import {
  AddressBlocks,
  type Destination,
  type FirewallSettings,
  NetworkPolicy,
  nftables,
  readAddress,
  systemdDropIn,
} from '../access/index.js';
import { type Configuration, policyOf } from '../configuration/index.js';
import { Fault } from '../foundation/index.js';
import { act } from './act.js';

const print = z.strictObject({ format: z.enum(['nftables', 'systemd']), ssh: z.int().min(1).max(65_535).optional() });
export type FirewallPrint = z.output<typeof print>;

/** The rules, and what whoever loads them should know before. */
export interface Printed {
  text: string;
  hints: string[];
}

const LOOPBACK = AddressBlocks.of(['127.0.0.0/8', '::1/128']);
const NO_SHELLS =
  'these rules let remote shells in from this machine only: first let a network of administrators reach administration, or you will be kept out';

/** Acts on the packet filter. */
export const FIREWALL_ACTS = {
  'firewall.print': act({
    args: print,
    roles: ['operator', 'security-officer'],
    perform: async ({ networks, configuration }, args) => {
      await networks.refresh();
      return firewallOf(configuration, networks.policy, networks.version, args);
    },
  }),
} as const;

/** Before `init` there is nothing but the file. */
export const firewallOfFile = (configuration: Configuration, args: FirewallPrint): Promise<Printed> =>
  firewallOf(configuration, new NetworkPolicy(policyOf(configuration)), 0, args);

async function firewallOf(
  configuration: Configuration,
  policy: NetworkPolicy,
  version: number,
  { format, ssh }: FirewallPrint,
): Promise<Printed> {
  const settings: FirewallSettings = {
    policy,
    version,
    listen: configuration.listen,
    egress: await egressOf(configuration, policy),
    ...(ssh === undefined ? {} : { ssh }),
  };
  const others = policy
    .reaching('administration')
    .texts()
    .filter((block) => !LOOPBACK.covers(AddressBlocks.of([block])));
  return format === 'nftables'
    ? { text: nftables(settings), hints: ssh !== undefined && others.length === 0 ? [NO_SHELLS] : [] }
    : { text: systemdDropIn(settings), hints: [] };
}

/** What the settings have this machine connect to: `network.egress`, and the services that other settings name, unless it has one of their name. */
async function egressOf({ mail, database, directory, staff }: Configuration, policy: NetworkPolicy): Promise<Destination[]> {
  const named = policy.document.network.egress;
  const services: [string, { host: string; port: number } | undefined][] = [
    ['mail', mail.transport === 'smtp' ? mail : undefined],
    ['database', atUrl(database.url, { 'postgres:': 5432, 'postgresql:': 5432 })],
    ['directory', directory && 'url' in directory ? atUrl(directory.url, { 'ldap:': 389, 'ldaps:': 636 }) : undefined],
    ['sign-in', staff.oidc ? atUrl(staff.oidc.issuer, { 'https:': 443 }) : undefined],
  ];
  const own = await Promise.all(
    services.map(
      async ([name, at]): Promise<Destination[]> =>
        at && !Object.hasOwn(named, name) ? [{ name, addresses: await addressesOf(name, at.host), port: at.port, protocol: 'tcp' }] : [],
    ),
  );
  return [
    ...own.flat(),
    ...Object.entries(named).map(([name, { addresses, ...rest }]) => ({ name, addresses: AddressBlocks.of(addresses), ...rest })),
  ];
}

function atUrl(text: string, ports: Record<string, number>): { host: string; port: number } | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const standard = ports[url?.protocol ?? ''];
  if (!url || standard === undefined || url.hostname === '') return undefined;
  return { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port: url.port === '' ? standard : Number(url.port) };
}

/** A packet filter knows no names: they are looked up now, and the rules say what was found. */
async function addressesOf(service: string, host: string): Promise<AddressBlocks> {
  if (isIP(host) !== 0) return AddressBlocks.of([readAddress(host) ?? '']);
  try {
    return AddressBlocks.of((await lookup(host, { all: true })).map(({ address }) => readAddress(address) ?? ''));
  } catch {
    throw new Fault('misconfigured', 'egress-unresolved', `${host} has no address here: give the addresses as network.egress.${service}`);
  }
}
