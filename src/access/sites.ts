import { BlockList, isIPv6 } from 'node:net';
import { type Network, plainAddress } from './network-policy.js';

/** Addresses that were looked up; people's machines keep theirs for hours. */
const REMEMBERED = 20_000;

/** Which of the declared networks an address is in: budgets call each of them a site. */
export class Sites {
  readonly #lists: { name: string; list: BlockList }[];
  readonly #found = new Map<string, string>();

  constructor(networks: Readonly<Record<string, Network>>) {
    this.#lists = Object.entries(networks).map(([name, { addresses }]) => {
      const list = new BlockList();
      for (const block of addresses) {
        const [address = '', length] = block.split('/');
        list.addSubnet(address, Number(length), isIPv6(address) ? 'ipv6' : 'ipv4');
      }
      return { name, list };
    });
  }

  of(address: string): string {
    const known = this.#found.get(address);
    if (known !== undefined) return known;
    const plain = plainAddress(address);
    const name = this.#lists.find(({ list }) => list.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4'))?.name ?? 'elsewhere';
    if (this.#found.size >= REMEMBERED) this.#found.clear();
    this.#found.set(address, name);
    return name;
  }
}

/** Whom one asker can be told apart from another by: an IPv4 address, or the /64 that one IPv6 host chooses its addresses in (RFC 4291 §2.5.1). */
export function sourceOf(address: string): string {
  const plain = plainAddress(address);
  if (!isIPv6(plain)) return plain;
  const [head = '', tail = ''] = plain.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === '' ? [] : tail.split(':');
  const zeros = plain.includes('::') ? Array<string>(Math.max(0, 8 - before.length - after.length)).fill('0') : [];
  return `${[...before, ...zeros, ...after].slice(0, 4).join(':')}::/64`;
}
