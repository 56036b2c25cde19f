import { isIP, isIPv4, SocketAddress } from 'node:net';

/** Addresses that share their first `bits` bits. */
interface Block {
  family: 4 | 6;
  start: bigint;
  bits: number;
}

const WIDTH = { 4: 32, 6: 128 } as const;

/**
 * The one spelling of an address: IPv4-mapped IPv6 (RFC 4291 §2.5.5.2) is IPv4, IPv6 as RFC 5952 has it. Undefined for whatever is no address in the
 * strict forms: octal, decimal and short IPv4 are none, and neither is one with a zone id, which names a link of the machine that wrote it.
 */
export function readAddress(text: string): string | undefined {
  return isAddress(text) ? address(unmapped(parse(text))) : undefined;
}

/** Of a socket's own address, whose zone id is ours and says nothing about who it is. Empty where the socket has none any more. */
export const plainAddress = (address: string | undefined): string => readAddress((address ?? '').replace(/%.*$/, '')) ?? '';

/** Whom to count an address under: of IPv6, whoever has one has the /64 of its link. */
export const sourceOf = (text: string): string => (text.includes(':') ? write(shortened(parse(text), 64)) : text);

/**
 * Reads an address or a block into its one spelling, with its length. Throws a RangeError that says what to write instead: bits beyond the length are
 * a mistake of whoever meant something else.
 */
export function readBlock(text: string): string {
  const [start = '', length, ...more] = text.split('/');
  if (!isAddress(start) || more.length > 0 || (length !== undefined && !/^(0|[1-9]\d{0,2})$/.test(length)))
    throw new RangeError('must be an address or a block such as 10.1.0.0/16');
  const given = parse(start);
  const one = unmapped(given);
  const least = given.family === one.family ? 0 : 96;
  const bits = length === undefined ? WIDTH[given.family] : Number(length);
  if (bits < least || bits > WIDTH[given.family]) throw new RangeError(`the length after / must be ${least} to ${WIDTH[given.family]}`);
  const whole = shortened(one, bits - least);
  if (whole.start !== one.start) throw new RangeError(`has bits beyond its length: write ${write(whole)}, or the one address alone`);
  return write(whole);
}

/**
 * A set of addresses. Held as the fewest blocks that make it up, in order, so two equal sets have the same blocks, and a block lies in the set
 * exactly when it lies in one of them.
 */
export class AddressBlocks {
  static readonly none = new AddressBlocks([]);

  private constructor(private readonly blocks: readonly Block[]) {}

  /** @param texts blocks as `readBlock` gives them, or addresses as `readAddress` does */
  static of(texts: Iterable<string>): AddressBlocks {
    return new AddressBlocks(fewest([...texts].map(parse)));
  }

  has(address: string): boolean {
    if (isIP(address) === 0) return false;
    const one = parse(address);
    return this.blocks.some((block) => within(one, block));
  }

  covers(other: AddressBlocks): boolean {
    return other.blocks.every((one) => this.blocks.some((block) => within(one, block)));
  }

  or(other: AddressBlocks): AddressBlocks {
    return new AddressBlocks(fewest([...this.blocks, ...other.blocks]));
  }

  and(other: AddressBlocks): AddressBlocks {
    // Two blocks lie one within the other or have nothing in common.
    const common = this.blocks.flatMap((one) => other.blocks.flatMap((two) => (within(one, two) ? [one] : within(two, one) ? [two] : [])));
    return new AddressBlocks(fewest(common));
  }

  /** As `readBlock` spells them, IPv4 first. */
  texts(family?: 4 | 6): string[] {
    return this.blocks.filter((block) => family === undefined || block.family === family).map(write);
  }
}

const within = (inner: Block, outer: Block): boolean =>
  inner.family === outer.family &&
  inner.bits >= outer.bits &&
  (inner.start ^ outer.start) >> BigInt(WIDTH[outer.family] - outer.bits) === 0n;

function fewest(blocks: Block[]): Block[] {
  const kept: Block[] = [];
  for (const block of blocks.toSorted(
    (a, b) => a.family - b.family || (a.start < b.start ? -1 : a.start > b.start ? 1 : a.bits - b.bits),
  )) {
    const last = kept.at(-1);
    if (last && within(block, last)) continue;
    kept.push(block);
    // Two halves make a whole, which may be a half itself.
    for (let [one, two] = kept.slice(-2); one && two && areHalves(one, two); [one, two] = kept.slice(-2))
      kept.splice(-2, 2, { ...one, bits: one.bits - 1 });
  }
  return kept;
}

const areHalves = (one: Block, two: Block): boolean =>
  one.family === two.family &&
  one.bits === two.bits &&
  one.bits > 0 &&
  within(two, { ...one, bits: one.bits - 1 }) &&
  one.start < two.start;

const isAddress = (text: string): boolean => isIP(text) !== 0 && !text.includes('%');

/** An address (`isAddress`) or a block of it. */
function parse(text: string): Block {
  const [start = '', length] = text.split('/');
  const family = isIPv4(start) ? 4 : 6;
  const bytes = family === 4 ? start.split('.').map(Number) : groupsOf(start).flatMap((group) => [group >> 8, group & 0xff]);
  return { family, start: BigInt(`0x${Buffer.from(bytes).toString('hex')}`), bits: length === undefined ? WIDTH[family] : Number(length) };
}

/** The eight 16-bit groups of a sound IPv6 text, whose last two may be written as IPv4. */
function groupsOf(text: string): number[] {
  const hex = text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...parts) => {
    const [a = 0, b = 0, c = 0, d = 0] = parts.slice(0, 4).map(Number);
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  });
  const [left = [], right = []] = hex
    .split('::')
    .map((half) => (half === '' ? [] : half.split(':').map((group) => Number.parseInt(group, 16))));
  return [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
}

const MAPPED = 0xffffn;

/** One address; what it stands for when it is a mapped one. */
const unmapped = ({ family, start, bits }: Block): Block =>
  family === 6 && start >> 32n === MAPPED ? { family: 4, start: start & 0xffffffffn, bits: 32 } : { family, start, bits };

function shortened({ family, start }: Block, bits: number): Block {
  const rest = BigInt(WIDTH[family] - bits);
  return { family, start: (start >> rest) << rest, bits };
}

const write = (block: Block): string => `${address(block)}/${block.bits}`;

function address({ family, start }: Block): string {
  const hex = start.toString(16).padStart(WIDTH[family] / 4, '0');
  if (family === 4) return [...Buffer.from(hex, 'hex')].join('.');
  return new SocketAddress({ family: 'ipv6', address: (hex.match(/.{4}/g) ?? []).join(':') }).address;
}
