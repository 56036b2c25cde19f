import { canonicalJson, type Json } from '../foundation/index.js';
import { AddressBlocks } from './address-blocks.js';
import { NetworkPolicy, type PolicyDocument, ROUTE_CLASSES, type RouteClass } from './network-policy.js';

/**
 * `policy` with what `by` takes away: who reaches less, what is inside, where this machine may connect to, a higher TLS version, a stricter guard.
 * Whatever `by` allows beyond it is left out, and so are its proxies: a proxy more lets it speak for others, a proxy less makes all who come through
 * it one address.
 */
export function narrowed(policy: PolicyDocument, by: PolicyDocument): PolicyDocument {
  const other = new NetworkPolicy(by);
  const networks = Object.entries(policy.networks).flatMap(
    ([name, { addresses, reach }]): [string, PolicyDocument['networks'][string]][] => {
      const own = AddressBlocks.of(addresses);
      // One network per set of addresses that is left; one as a rule.
      const left = new Map<string, RouteClass[]>();
      for (const kind of reach) {
        const blocks = canonicalJson(own.and(other.reaching(kind)).texts());
        left.set(blocks, [...(left.get(blocks) ?? []), kind]);
      }
      left.delete('[]');
      const isWhole = left.size === 1;
      return [...left].map(([blocks, kinds]) => [
        isWhole ? name : `${name}-${kinds[0]}`.slice(0, 63),
        { addresses: JSON.parse(blocks) as string[], reach: kinds },
      ]);
    },
  );
  const egress = Object.entries(policy.network.egress).filter(([name, to]) => same(to, by.network.egress[name]));
  return {
    networks: Object.fromEntries(networks),
    network: {
      ...policy.network,
      internal: AddressBlocks.of(policy.network.internal).and(AddressBlocks.of(by.network.internal)).texts(),
      egress: Object.fromEntries(egress),
      connectionsPerAddress: Math.min(policy.network.connectionsPerAddress, by.network.connectionsPerAddress),
    },
    tls: { minimum: policy.tls.minimum === '1.3' ? '1.3' : by.tls.minimum },
    isolation: {
      mode: policy.isolation.mode === 'enforce' ? 'enforce' : by.isolation.mode,
      canaries: [...new Set([...policy.isolation.canaries, ...by.isolation.canaries])].slice(0, 20),
      names: [...new Set([...policy.isolation.names, ...by.isolation.names])].slice(0, 20),
      minutes: Math.min(policy.isolation.minutes, by.isolation.minutes),
    },
  };
}

/** In words, what `to` allows and `from` does not. */
export function widenings(from: PolicyDocument, to: PolicyDocument): string[] {
  const [before, after] = [new NetworkPolicy(from), new NetworkPolicy(to)];
  const reached = ROUTE_CLASSES.flatMap((kind) => {
    const more = after
      .reaching(kind)
      .texts()
      .filter((block) => !before.reaching(kind).covers(AddressBlocks.of([block])));
    return more.length > 0 ? [`${kind} from ${more.join(', ')}`] : [];
  });
  const weaker = [
    AddressBlocks.of(from.network.internal).covers(AddressBlocks.of(to.network.internal)) ? '' : 'network.internal',
    same(from.network.proxies, to.network.proxies) ? '' : 'network.proxies',
    Object.entries(to.network.egress).every(([name, one]) => same(one, from.network.egress[name])) ? '' : 'network.egress',
    to.network.connectionsPerAddress <= from.network.connectionsPerAddress ? '' : 'network.connectionsPerAddress',
    to.tls.minimum >= from.tls.minimum ? '' : 'tls.minimum',
    from.isolation.mode === 'enforce' && to.isolation.mode === 'warn' ? 'isolation.mode' : '',
    from.isolation.canaries.every((one) => to.isolation.canaries.includes(one)) ? '' : 'isolation.canaries',
    from.isolation.names.every((one) => to.isolation.names.includes(one)) ? '' : 'isolation.names',
    to.isolation.minutes <= from.isolation.minutes ? '' : 'isolation.minutes',
  ];
  return [...reached, ...weaker.filter((one) => one !== '')];
}

const same = (one: unknown, two: unknown): boolean => two !== undefined && canonicalJson(one as Json) === canonicalJson(two as Json); // parts of a document are JSON
