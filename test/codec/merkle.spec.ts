import { createHash, generateKeyPairSync, hash, randomBytes, sign } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  type Checkpoint,
  checkpointText,
  consistencyRecipe,
  decodeBundle,
  encodeBundle,
  encodeNoteKey,
  Frontier,
  hashLeaf,
  hashOver,
  inclusionRecipe,
  keyId,
  type NoteKey,
  openCheckpoint,
  parseCheckpoint,
  parseNoteKey,
  parseTileName,
  proofOf,
  pureSha256,
  type Sha256,
  type Subtree,
  signatureLine,
  tileName,
  tilesOf,
  verifyByWebCrypto,
  verifyConsistency,
  verifyInclusion,
} from '../../src/codec/merkle/index.js';

const sha256: Sha256 = (bytes) => hash('sha256', bytes, 'buffer');
const VECTORS = joinPath(__dirname, '../vectors/merkle');
const bytes = (text: string | null) => Buffer.from(text ?? '', 'base64');

interface Vector {
  leafIdx?: number;
  treeSize?: number;
  leafHash?: string;
  root?: string;
  size1?: number;
  size2?: number;
  root1?: string;
  root2?: string;
  proof: (string | null)[] | null;
  wantErr: boolean;
}

function files(kind: string): string[] {
  return readdirSync(joinPath(VECTORS, kind), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.json'))
    .map((name) => joinPath(kind, name));
}

describe('the vectors of transparency-dev/merkle', () => {
  const all = [...files('inclusion'), ...files('consistency')];
  test('are 96', () => expect(all).toHaveLength(96));
  test.each(all)('%s', (name) => {
    const v = JSON.parse(readFileSync(joinPath(VECTORS, name), 'utf8')) as Vector;
    const proof = (v.proof ?? []).map(bytes);
    const holds = name.startsWith('inclusion')
      ? verifyInclusion(sha256, v.leafIdx ?? -1, bytes(v.leafHash ?? ''), { size: v.treeSize ?? 0, root: bytes(v.root ?? '') }, proof)
      : verifyConsistency(
          sha256,
          { size: v.size1 ?? 0, root: bytes(v.root1 ?? '') },
          { size: v.size2 ?? 0, root: bytes(v.root2 ?? '') },
          proof,
        );
    expect(holds).toBe(!v.wantErr);
  });
});

/** RFC 9162 §2.1.1, word for word: what everything else is judged by. */
function treeHash(leaves: readonly Buffer[]): Buffer {
  const [first] = leaves;
  if (!first) return createHash('sha256').digest();
  if (leaves.length === 1) return first;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return createHash('sha256')
    .update(Buffer.concat([Buffer.of(1), treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k))]))
    .digest();
}

describe('a tree of every size to 2,000', () => {
  const SIZE = 2_000;
  const leaves = Array.from({ length: SIZE }, (_, n) => Buffer.from(hashLeaf(sha256, Buffer.from(`entry ${n}`))));
  const frontier = new Frontier(sha256);
  const roots = [Buffer.from(frontier.root())];
  for (const leaf of leaves) {
    frontier.append(leaf);
    roots.push(Buffer.from(frontier.root()));
  }
  const known = new Map<string, Uint8Array>();
  const subtree = async ({ height, index }: Subtree) => {
    const name = `${height}/${index}`;
    const hashed = known.get(name) ?? hashOver(sha256, leaves.slice(index * 2 ** height, (index + 1) * 2 ** height));
    known.set(name, hashed);
    return hashed;
  };

  test('has the root that RFC 9162 §2.1.1 says', () => {
    for (let size = 0; size <= SIZE; size += size < 300 ? 1 : 37) expect(roots[size]).toEqual(treeHash(leaves.slice(0, size)));
  });

  test('goes on from its right edge as if it had never been put down', () => {
    for (let size = 1; size < SIZE; size += 1) {
      if (size > 300 && size % 61 > 0) continue;
      const before = new Frontier(sha256);
      for (const leaf of leaves.slice(0, size)) before.append(leaf);
      const after = new Frontier(sha256, size, before.state);
      after.append(leaves[size] ?? Buffer.alloc(0));
      expect(Buffer.from(after.root())).toEqual(roots[size + 1]);
    }
    expect(() => new Frontier(sha256, 3, new Uint8Array(32))).toThrow(RangeError);
  });

  test('proves each leaf and each earlier size, and nothing else', async () => {
    const random = (below: number) => Math.floor(Math.random() * below);
    for (let size = 1; size <= SIZE; size += 1) {
      const head = { size, root: roots[size] ?? Buffer.alloc(0) };
      const index = random(size);
      const inclusion = await proofOf(sha256, inclusionRecipe(index, size), subtree);
      const leaf = leaves[index] ?? Buffer.alloc(0);
      expect(verifyInclusion(sha256, index, leaf, head, inclusion)).toBe(true);
      const other = random(size);
      expect(verifyInclusion(sha256, other, leaf, head, inclusion)).toBe(other === index);
      const size1 = random(size + 1);
      const earlier = { size: size1, root: roots[size1] ?? Buffer.alloc(0) };
      const consistency = await proofOf(sha256, consistencyRecipe(size1, size), subtree);
      expect(verifyConsistency(sha256, earlier, head, consistency)).toBe(true);
      if (size1 > 0 && size1 < size) {
        expect(verifyConsistency(sha256, { size: size1, root: randomBytes(32) }, head, consistency)).toBe(false);
        expect(verifyConsistency(sha256, earlier, { size, root: randomBytes(32) }, consistency)).toBe(false);
        expect(verifyConsistency(sha256, earlier, head, consistency.slice(1))).toBe(false);
        expect(verifyConsistency(sha256, earlier, head, [...consistency, randomBytes(32)])).toBe(false);
      }
    }
  }, 60_000);
});

test('the SHA-256 for browsers is the SHA-256 of OpenSSL', () => {
  for (let length = 0; length < 300; length += 1) {
    const message = randomBytes(length);
    expect(Buffer.from(pureSha256(message))).toEqual(sha256(message));
  }
});

describe('tiles', () => {
  test('the example of the specification: 70,000 entries', () => {
    const tiles = [...tilesOf(70_000)];
    const of = (level: number) => tiles.filter((tile) => tile.level === level);
    expect(of(0).filter(({ width }) => width === 256)).toHaveLength(273);
    expect(of(0).at(-1)).toEqual({ level: 0, index: 273, width: 112 });
    expect(of(1)).toEqual([
      { level: 1, index: 0, width: 256 },
      { level: 1, index: 1, width: 17 },
    ]);
    expect(of(2)).toEqual([{ level: 2, index: 0, width: 1 }]);
    expect([...tilesOf(256)]).toEqual([
      { level: 0, index: 0, width: 256 },
      { level: 1, index: 0, width: 1 },
    ]);
  });

  test('a name has one spelling', () => {
    expect(tileName({ index: 1_234_067, width: 256 })).toBe('x001/x234/067');
    expect(tileName({ index: 0, width: 1 })).toBe('000.p/1');
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 40 }), fc.integer({ min: 1, max: 256 }), (index, width) => {
        expect(parseTileName(tileName({ index, width }))).toEqual({ index, width });
      }),
    );
    for (const name of ['', '0', '000/', 'x000/000', '000.p/256', '000.p/0', '000.p/01', 'x1/000', '../000', '000.p/', 'X001/000'])
      expect(parseTileName(name)).toBeUndefined();
  });

  test('a bundle gives back its entries; what is cut short shows', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (entries) => {
        const bundle = encodeBundle(entries);
        expect(decodeBundle(bundle)).toEqual({ entries, rest: 0 });
        if (bundle.length > 0) expect(decodeBundle(bundle.subarray(0, -1)).rest).toBeGreaterThan(0);
      }),
    );
    expect(() => encodeBundle([new Uint8Array(65_536)])).toThrow(RangeError);
  });
});

describe('a signed checkpoint', () => {
  const head: Checkpoint = { origin: 'ekms.corp.example/audit', size: 70_000, root: randomBytes(32), extensions: [] };
  const pairs = {
    ed25519: generateKeyPairSync('ed25519'),
    'ecdsa-p256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  };

  test.each(['ed25519', 'ecdsa-p256'] as const)('by %s is opened with that key only', async (type) => {
    const pair = pairs[type];
    const spki = pair.publicKey.export({ format: 'der', type: 'spki' });
    const key: NoteKey = { name: head.origin, type, publicKey: type === 'ed25519' ? spki.subarray(-32) : spki };
    const text = checkpointText(head);
    const signature = sign(type === 'ed25519' ? null : 'sha256', Buffer.from(text), pair.privateKey);
    const note = `${text}\n${signatureLine({ name: key.name, keyId: keyId(sha256, key), signature })}`;
    const open = (given: string, by: NoteKey = key) => openCheckpoint(sha256, verifyByWebCrypto, given, by);
    expect(await open(note)).toEqual({ ...head, root: Uint8Array.from(head.root) });
    // Other signatures are ignored; the key's own must hold.
    expect(await open(`${note}— witness.example AAAAAAAA\n`)).toMatchObject({ size: 70_000 });
    expect(await open(note.replace('70000', '70001'))).toEqual({ wrong: 'its signature does not hold' });
    expect(await open(note, { ...key, name: 'other.example' })).toEqual({ wrong: 'the given key did not sign it' });
    expect(await open(note.slice(0, -1))).toEqual({ wrong: 'it is no signed note' });
    expect(await open(`${note}\0`)).toEqual({ wrong: 'it is no signed note' });
    expect(parseNoteKey(sha256, encodeNoteKey(sha256, key))).toEqual({ ...key, publicKey: Uint8Array.from(key.publicKey) });
  });

  test('has one spelling', () => {
    const text = checkpointText(head);
    expect(parseCheckpoint(text)).toMatchObject({ size: 70_000 });
    for (const other of [
      text.replace('\n70000', '\n070000'),
      text.slice(0, -1),
      `${text}\n`,
      text.replace('=\n', '\n'),
      text.replace('70000', '-1'),
    ])
      expect(parseCheckpoint(other)).toBeUndefined();
  });

  test('a verifier key of Go’s sum.golang.org is read', () => {
    const text = 'sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8';
    expect(parseNoteKey(sha256, text)).toMatchObject({ name: 'sum.golang.org', type: 'ed25519' });
  });
});
