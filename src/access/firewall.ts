import { isIP } from 'node:net';
import { AddressBlocks } from './address-blocks.js';
import { type NetworkPolicy, ROUTE_CLASSES, type RouteClass } from './network-policy.js';

/** A service that this machine connects to. */
export interface Destination {
  name: string;
  addresses: AddressBlocks;
  port: number;
  protocol: 'tcp' | 'udp';
}

export interface FirewallSettings {
  policy: NetworkPolicy;
  /** Which version of the policy, for whoever reads the rules later. */
  version: number;
  listen: Readonly<Record<RouteClass, { host: string; port: number }>>;
  egress: readonly Destination[];
  /** Port for administrators' remote shells; they come from where `administration` is reached. */
  ssh?: number;
}

/** Who may connect to the class: those who reach it, and the proxies that speak for them. */
const callers = ({ policy }: FirewallSettings, kind: RouteClass): AddressBlocks => policy.reaching(kind).or(policy.proxiesFor(kind));

const FAMILIES = [
  { family: 4, name: 'ip', type: 'ipv4_addr' },
  { family: 6, name: 'ip6', type: 'ipv6_addr' },
] as const;

/**
 * The network policy as an nftables file: in to each listener only who may reach it, out only to the named services, nothing through. It replaces
 * its own table in one step and touches no other.
 */
export function nftables(settings: FirewallSettings): string {
  const { listen, egress, ssh, version } = settings;
  const sets = ROUTE_CLASSES.flatMap((kind) =>
    FAMILIES.map(({ family, type }) => {
      const blocks = callers(settings, kind).texts(family);
      return `  set ${kind}${family} { type ${type}; flags interval; ${blocks.length > 0 ? `elements = { ${blocks.join(', ')} }; ` : ''}}`;
    }),
  );
  const doors = ROUTE_CLASSES.flatMap((kind) =>
    familiesOf(listen[kind].host).map(({ family, name }) => `${doorOf(settings, kind, name)} ${name} saddr @${kind}${family} accept`),
  );
  const closed = ROUTE_CLASSES.flatMap((kind) =>
    familiesOf(listen[kind].host).map(({ name }) => `${doorOf(settings, kind, name)} meta nfproto ${name === 'ip' ? 'ipv4' : 'ipv6'} drop`),
  );
  const shells =
    ssh === undefined
      ? []
      : FAMILIES.map(({ family, name }) => `tcp dport ${ssh} ${name} saddr @administration${family} accept comment "remote shells"`);
  const out = egress.flatMap(({ name: service, addresses, port, protocol }) =>
    FAMILIES.flatMap(({ family, name }) => {
      const blocks = addresses.texts(family);
      return blocks.length > 0 ? [`${name} daddr { ${blocks.join(', ')} } ${protocol} dport ${port} accept comment "${service}"`] : [];
    }),
  );
  return `# EKMS, network policy ${version}. Made by: ekms firewall print --format nftables
table inet ekms
delete table inet ekms
table inet ekms {
${sets.join('\n')}

  chain input {
    type filter hook input priority filter; policy drop;
    ct state invalid drop
    ct state established,related accept
${lines(doors)}
${lines(closed)}
    iif lo accept
    icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request } accept
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
${lines(shells)}
  }

  chain output {
    type filter hook output priority filter; policy drop;
    ct state established,related accept
    oif lo accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
${lines(out)}
  }

  chain forward {
    type filter hook forward priority filter; policy drop;
  }
}
`
    .replace(/^ {4}\n/gm, '')
    .replace(/^\n(?= {2}\})/gm, '');
}

/**
 * The same as a drop-in of the systemd unit. systemd knows neither ports nor directions: whoever may reach anything, or is a service that this machine
 * connects to, is let through here, and judged by nftables and by the appliance.
 */
export function systemdDropIn(settings: FirewallSettings): string {
  const all = [...ROUTE_CLASSES.map((kind) => callers(settings, kind)), ...settings.egress.map(({ addresses }) => addresses)];
  const blocks = all.reduce((sum, one) => sum.or(one), AddressBlocks.none).texts();
  return `# EKMS, network policy ${settings.version}. Made by: ekms firewall print --format systemd
[Service]
IPAddressDeny=any
IPAddressAllow=
${blocks.map((one) => `IPAddressAllow=${one}\n`).join('')}`;
}

const lines = (all: readonly string[]): string => all.map((line) => `    ${line}`).join('\n');

/** Which families a listener's address takes; a name may be of either, and :: takes both. */
function familiesOf(host: string): { family: 4 | 6; name: 'ip' | 'ip6' }[] {
  const version = host === '::' ? 0 : isIP(host);
  return FAMILIES.filter(({ family }) => version === 0 || version === family);
}

function doorOf({ listen }: FirewallSettings, kind: RouteClass, name: 'ip' | 'ip6'): string {
  const { host, port } = listen[kind];
  const isOne = isIP(host) !== 0 && host !== '::' && host !== '0.0.0.0';
  return `${isOne ? `${name} daddr ${host} ` : ''}tcp dport ${port}`;
}
