import { BlockList, isIPv6 } from 'node:net';

/** Route classes (design §6); each has a listener of its own. */
export type RouteClass = 'client' | 'administration' | 'staff' | 'public' | 'operation';

export interface Network {
  /** CIDR blocks in their one spelling. */
  addresses: readonly string[];
  reach: readonly RouteClass[];
}

/** IPv4-mapped IPv6 (RFC 4291 §2.5.5.2) is IPv4; a zone id is not part of an address. */
export const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '').replace(/%.*$/, '');

/** Who may reach which route class, judged by the socket's own address at TCP accept, before TLS. Deny unless allowed. */
export class NetworkPolicy {
  readonly #allowed = new Map<RouteClass, BlockList>();

  constructor(networks: Readonly<Record<string, Network>>) {
    for (const { addresses, reach } of Object.values(networks))
      for (const kind of reach) {
        const list = this.#allowed.get(kind) ?? new BlockList();
        for (const block of addresses) {
          const [address = '', length] = block.split('/');
          list.addSubnet(address, Number(length), isIPv6(address) ? 'ipv6' : 'ipv4');
        }
        this.#allowed.set(kind, list);
      }
  }

  allows(kind: RouteClass, address: string | undefined): boolean {
    if (!address) return false;
    const plain = plainAddress(address);
    return this.#allowed.get(kind)?.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4') ?? false;
  }
}
