import { BlockList, isIPv4 } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { AddressBlocks, plainAddress, readAddress, readBlock, sourceOf } from '../../src/access/address-blocks.js';

/** Few bits vary, so that blocks meet one another often. */
const v4 = fc.array(fc.constantFrom(0, 1, 2, 127, 128, 255), { minLength: 4, maxLength: 4 }).map((bytes) => bytes.join('.'));
const v6 = fc.array(fc.constantFrom('0', '1', '8000', 'ffff', 'fd00'), { minLength: 8, maxLength: 8 }).map((groups) => groups.join(':'));
const address = fc.oneof(v4, v6);
/** Without those of IPv4 within IPv6 that reach beyond it, which are refused and no block. */
const block = fc
  .tuple(address, fc.nat(128))
  .map(([one, length]) => shorten(one, isIPv4(one) ? length % 33 : length))
  .filter((text) => text !== '');
const blocks = fc.array(block, { maxLength: 8 });

/** The block of this length that the address lies in, as `readBlock` itself proposes it. */
function shorten(one: string, length: number): string {
  try {
    return readBlock(`${one}/${length}`);
  } catch (error) {
    return /write (\S+),/.exec((error as Error).message)?.[1] ?? '';
  }
}

/** Node's own, which knows nothing of ours; a list for each family, since it takes IPv4 to lie in ::/0. */
function nodes(texts: readonly string[]): (one: string) => boolean {
  const lists = { ipv4: new BlockList(), ipv6: new BlockList() };
  const familyOf = (one: string) => (isIPv4(one) ? 'ipv4' : 'ipv6');
  for (const text of texts) {
    const [start = '', length] = text.split('/');
    lists[familyOf(start)].addSubnet(start, Number(length), familyOf(start));
  }
  return (one) => lists[familyOf(one)].check(one, familyOf(one));
}

test('a set holds what Node’s block list holds', () => {
  fc.assert(
    fc.property(blocks, fc.array(address, { minLength: 1, maxLength: 20 }), (texts, ones) => {
      const [set, judge] = [AddressBlocks.of(texts), nodes(texts)];
      for (const one of ones) {
        const read = readAddress(one) ?? '';
        expect({ texts, read, held: set.has(read) }).toEqual({ texts, read, held: judge(read) });
      }
    }),
    { numRuns: 500 },
  );
});

test('and, or and covers are those of sets; equal sets have equal blocks', () => {
  fc.assert(
    fc.property(blocks, blocks, address, (one, two, asked) => {
      const [a, b] = [AddressBlocks.of(one), AddressBlocks.of(two)];
      const it = readAddress(asked) ?? '';
      expect(a.and(b).has(it)).toBe(a.has(it) && b.has(it));
      expect(a.or(b).has(it)).toBe(a.has(it) || b.has(it));
      expect(a.or(b).covers(a)).toBe(true);
      expect(a.covers(b)).toBe(a.or(b).texts().join() === a.texts().join());
      expect(AddressBlocks.of([...one, ...two].toReversed()).texts()).toEqual(a.or(b).texts());
      expect(AddressBlocks.of(a.texts()).texts()).toEqual(a.texts());
    }),
    { numRuns: 500 },
  );
});

test('two halves make a whole', () => {
  expect(AddressBlocks.of(['10.0.0.0/9', '10.128.0.0/9', '11.0.0.0/8', '10.1.2.3/32']).texts()).toEqual(['10.0.0.0/7']);
  expect(AddressBlocks.of(['::/1', '8000::/1', '0.0.0.0/1', '128.0.0.0/1']).texts()).toEqual(['0.0.0.0/0', '::/0']);
});

describe('spellings', () => {
  test.each([
    ['10.1.2.3', '10.1.2.3'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['::FFFF:0a01:0203', '10.1.2.3'],
    ['0:0:0:0:0:ffff:10.1.2.3', '10.1.2.3'],
    ['::10.1.2.3', '::10.1.2.3'],
    ['64:ff9b::10.1.2.3', '64:ff9b::a01:203'],
    ['FD00:0001:0:0:0::1', 'fd00:1::1'],
    ['2001:db8:0:1:0:0:0:1', '2001:db8:0:1::1'],
    ['::', '::'],
  ])('%s is %s', (text, one) => expect(readAddress(text)).toBe(one));

  test.each([
    '010.1.2.3',
    '10.1.515',
    '167838211',
    '0x0a010203',
    '0xa.1.2.3',
    '10.1.2.3 ',
    '10.1.2.3.',
    '1.2.3',
    '',
    'fe80::1%eth0',
    '::ffff:010.1.2.3',
    '[::1]',
    '10.1.2.256',
    ':::',
    '1::2::3',
    '10.1.2.3/32',
    '１０.1.2.3',
  ])('“%s” is no address', (text) => expect(readAddress(text)).toBeUndefined());

  test('of a socket’s own address the zone is left out', () => {
    expect([plainAddress('fe80::1%eth0'), plainAddress('::ffff:127.0.0.1'), plainAddress(undefined)]).toEqual(['fe80::1', '127.0.0.1', '']);
  });

  test.each([
    ['10.1.0.0/16', '10.1.0.0/16'],
    ['10.1.2.3', '10.1.2.3/32'],
    ['::ffff:10.1.0.0/112', '10.1.0.0/16'],
    ['::ffff:0:0/96', '0.0.0.0/0'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['::/0', '::/0'],
    ['FD00::/8', 'fd00::/8'],
    ['::1/128', '::1/128'],
  ])('the block %s is %s', (text, one) => expect(readBlock(text)).toBe(one));

  test.each([
    ['10.1.2.3/16', 'write 10.1.0.0/16'],
    ['10.1.0.0/33', '0 to 32'],
    ['::/129', '0 to 128'],
    ['::ffff:0:0/95', '96 to 128'],
    ['10.1.0.0/016', 'must be'],
    ['10.1.0.0/', 'must be'],
    ['10.1.0.0/8/8', 'must be'],
    ['10.1.0.0/255.255.0.0', 'must be'],
    ['fe80::%eth0/64', 'must be'],
    ['10.*', 'must be'],
  ])('the block %s is refused: %s', (text, why) => expect(() => readBlock(text)).toThrow(why));

  test('an IPv6 source counts by its /64', () => {
    expect([sourceOf('fd00:1:2:3:4:5:6:7'), sourceOf('10.1.2.3')]).toEqual(['fd00:1:2:3::/64', '10.1.2.3']);
  });
});
