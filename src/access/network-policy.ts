import { z } from 'zod';
import { forwardedFor } from '../codec/forwarded.js';
import { base64url, canonicalJson, Fault, type Json, sha256 } from '../foundation/index.js';
import { AddressBlocks, readAddress, readBlock } from './address-blocks.js';

/** Route classes (design §6); each has a listener of its own. */
export const ROUTE_CLASSES = ['client', 'administration', 'staff', 'public', 'operation'] as const;
export type RouteClass = (typeof ROUTE_CLASSES)[number];

/** Loopback, private (RFC 1918) and unique local (RFC 4193). */
const INTERNAL = ['127.0.0.0/8', '::1/128', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'];

const name = z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'must be a name in lower case');
const host = z.string().regex(/^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/, 'must be a host name');
const routeClasses = z
  .array(z.enum(ROUTE_CLASSES))
  .min(1)
  .transform((all) => ROUTE_CLASSES.filter((one) => all.includes(one)));
const block = z.string().transform((text, context) => {
  try {
    return readBlock(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as RangeError).message }); // readBlock throws nothing else
    return z.NEVER;
  }
});
/** Blocks of one list: what a list of thousands says, a block says better. */
const blocks = z.array(block).max(1_000);
/** `address:port` or `name:port`. */
const endpoint = z.string().refine((text) => {
  const [, six, other, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  return Number(port) > 0 && Number(port) < 65_536 && (six !== undefined ? readAddress(six) !== undefined : host.safeParse(other).success);
}, 'must be HOST:PORT');

const network = z.strictObject({ addresses: blocks.min(1), reach: routeClasses });
const proxy = z.strictObject({
  addresses: blocks.min(1),
  /** How it says whom it speaks for. One way only: what else comes along, the proxy's own callers may have written. */
  speaks: z.enum(['proxy-protocol', 'forwarded', 'x-forwarded-for']),
  for: routeClasses,
});
const destination = z.strictObject({
  addresses: blocks.min(1),
  port: z.int().min(1).max(65_535),
  protocol: z.enum(['tcp', 'udp']).default('tcp'),
});

/** Parts of the policy as `ekms.yaml` has them. */
export const policyParts = {
  /** Who may reach which route class. */
  networks: z.record(name, network).default({ loopback: { addresses: ['127.0.0.0/8', '::1/128'], reach: [...ROUTE_CLASSES] } }),
  network: z
    .strictObject({
      /** What can be inside at all: an address beyond it is refused even when a network lists it. */
      internal: blocks.min(1).default(INTERNAL),
      proxies: z.record(name, proxy).default({}),
      /** Where this machine may connect to, besides what other settings name; for `ekms firewall print`. */
      egress: z.record(name, destination).default({}),
      /** Connections at a time from one address (of IPv6: one /64), at each listener. */
      connectionsPerAddress: z.int().min(1).max(2_000).default(500),
    })
    .prefault({}),
  tls: z
    .strictObject({
      // YAML reads 1.3 as a number.
      minimum: z
        .union([z.literal(['1.2', '1.3']), z.literal([1.2, 1.3])])
        .transform((version) => (Number(version) === 1.2 ? '1.2' : '1.3'))
        .prefault('1.3'),
    })
    .prefault({}),
  isolation: z
    .strictObject({
      mode: z.enum(['warn', 'enforce']).default('warn'),
      /** Places outside that must not answer, as HOST:PORT. */
      canaries: z.array(endpoint).max(20).default([]),
      /** Public names that must not resolve. */
      names: z.array(host).max(20).default([]),
      /** Minutes between two looks. */
      minutes: z.int().min(1).max(60).default(5),
    })
    .prefault({}),
} as const;

/** What contradicts itself, where. */
export function policyContradictions(policy: Pick<PolicyDocument, 'network'>): { path: string[]; message: string }[] {
  const found: { path: string[]; message: string }[] = [];
  const internal = AddressBlocks.of(policy.network.internal);
  const proxies = Object.entries(policy.network.proxies);
  for (const [at, [one, { addresses, speaks, for: kinds }]] of proxies.entries()) {
    const path = ['network', 'proxies', one];
    const tls = kinds.filter((kind) => kind !== 'public' && kind !== 'operation');
    if (speaks !== 'proxy-protocol' && tls.length > 0)
      found.push({
        path: [...path, 'for'],
        message: `a header field cannot speak for ${tls.join(' or ')}: their TLS ends here, not at a proxy`,
      });
    const own = AddressBlocks.of(addresses);
    if (!internal.covers(own)) found.push({ path: [...path, 'addresses'], message: 'a proxy must be inside network.internal' });
    for (const [two, other] of proxies.slice(0, at))
      if (other.for.some((kind) => kinds.includes(kind)) && own.and(AddressBlocks.of(other.addresses)).texts().length > 0)
        found.push({ path: [...path, 'addresses'], message: `has addresses of ${two} too, for the same listeners` });
  }
  return found;
}

const policyShape = z.strictObject(policyParts).superRefine((policy, context) => {
  for (const { path, message } of policyContradictions(policy)) context.addIssue({ code: 'custom', path, message });
});

/** Who may reach what, as one document: defaults filled in, every block in its one spelling. */
export type PolicyDocument = z.output<typeof policyShape>;

/** Throws `policy-invalid`, naming every place that cannot be, before anything has changed. */
export function readPolicy(value: unknown): PolicyDocument {
  const parsed = policyShape.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `  ${path.join('.') || 'the whole document'}: ${message}`);
  throw new Fault('malformed', 'policy-invalid', `this policy cannot be used; the one in force stays:\n${problems.join('\n')}`);
}

export const policyDigest = (policy: PolicyDocument): string => base64url(sha256(canonicalJson(policy as unknown as Json))); // zod's output is JSON

/** Why an address is refused; stable. */
export type RefusalRule = 'address-unreadable' | 'network-outside' | 'network-not-listed' | 'proxy-header' | 'connections-per-address';

export type NamedProxy = PolicyDocument['network']['proxies'][string];

/** Judges addresses. Deny unless allowed. */
export class NetworkPolicy {
  readonly internal: AddressBlocks;
  readonly #allowed: Record<RouteClass, AddressBlocks>;
  readonly #proxies: { addresses: AddressBlocks; proxy: NamedProxy }[];

  /** @param bound what `ekms.yaml` lets be inside; the document can only narrow it */
  constructor(
    readonly document: PolicyDocument,
    bound?: AddressBlocks,
  ) {
    const internal = AddressBlocks.of(document.network.internal);
    this.internal = bound ? internal.and(bound) : internal;
    const listed = (kind: RouteClass) =>
      AddressBlocks.of(Object.values(document.networks).flatMap(({ addresses, reach }) => (reach.includes(kind) ? addresses : [])));
    this.#allowed = Object.fromEntries(ROUTE_CLASSES.map((kind) => [kind, listed(kind).and(this.internal)])) as Record<
      RouteClass,
      AddressBlocks
    >; // every class is there
    this.#proxies = Object.values(document.network.proxies).map((proxy) => ({
      addresses: AddressBlocks.of(proxy.addresses).and(this.internal),
      proxy,
    }));
  }

  /** All who may reach the class, by their own or, from a proxy, by their claimed address. */
  reaching(kind: RouteClass): AddressBlocks {
    return this.#allowed[kind];
  }

  /** Proxies that may connect for this class; nftables must let them through too. */
  proxiesFor(kind: RouteClass): AddressBlocks {
    return this.#proxies.reduce((all, { addresses, proxy }) => (proxy.for.includes(kind) ? all.or(addresses) : all), AddressBlocks.none);
  }

  allows(kind: RouteClass, address: string): boolean {
    return this.refusal(kind, address) === undefined;
  }

  /** @param address as `readAddress` gives it. Undefined where it may reach the class. */
  refusal(kind: RouteClass, address: string): RefusalRule | undefined {
    if (address === '') return 'address-unreadable';
    if (!this.internal.has(address)) return 'network-outside';
    return this.#allowed[kind].has(address) ? undefined : 'network-not-listed';
  }

  /** The proxy that this address is, for this class. It is never judged as itself. */
  proxy(kind: RouteClass, address: string): NamedProxy | undefined {
    return this.#proxies.find(({ addresses, proxy }) => proxy.for.includes(kind) && addresses.has(address))?.proxy;
  }

  /**
   * Whom a named proxy speaks for: read from its field from the right, since each proxy adds to what it got; the first that is no proxy of ours is the
   * one who asked. Whatever stands further left, that one wrote. Empty where the field says nothing that counts.
   */
  claimed(kind: RouteClass, proxy: NamedProxy, lines: (field: string) => readonly string[]): string {
    if (proxy.speaks === 'proxy-protocol') return '';
    const { speaks } = proxy;
    for (const written of forwardedFor(speaks, lines(speaks))?.toReversed() ?? []) {
      const address = readAddress(written) ?? '';
      if (this.proxy(kind, address)?.speaks !== speaks) return address;
    }
    return '';
  }
}
