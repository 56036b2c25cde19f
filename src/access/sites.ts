import { AddressBlocks } from './address-blocks.js';

/** Addresses that were looked up; people's machines keep theirs for hours. */
const REMEMBERED = 20_000;

type Networks = Readonly<Record<string, { addresses: readonly string[] }>>;

/** Which of the policy's networks an address is in: budgets call each of them a site. */
export class Sites {
  #networks: { name: string; blocks: AddressBlocks }[] = [];
  readonly #found = new Map<string, string>();

  constructor(networks: Networks) {
    this.follow(networks);
  }

  /** The policy has other networks now. */
  follow(networks: Networks): void {
    this.#networks = Object.entries(networks).map(([name, { addresses }]) => ({ name, blocks: AddressBlocks.of(addresses) }));
    this.#found.clear();
  }

  /** @param address as the listener judged it */
  of(address: string): string {
    const known = this.#found.get(address);
    if (known !== undefined) return known;
    const name = this.#networks.find(({ blocks }) => blocks.has(address))?.name ?? 'elsewhere';
    if (this.#found.size >= REMEMBERED) this.#found.clear();
    this.#found.set(address, name);
    return name;
  }
}
