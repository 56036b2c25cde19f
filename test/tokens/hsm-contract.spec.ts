import { execFileSync } from 'node:child_process';
import {
  constants,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  randomInt,
  verify,
} from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Hsm, type Rewrapped, SIGNING_KEYS, type StoredPair, type TransportScheme } from '../../src/tokens/hsm.js';
import { MemoryHsm } from '../../src/tokens/memory-hsm.js';
import { selfTest } from '../../src/tokens/pkcs11/self-test.js';
import { openSoftHsm, softHsmIsHere } from '../support/softhsm.js';

/** A token of each sort, opened for a test file, with what ends it. */
const TOKENS: [string, () => { hsm: Hsm; end: () => void }][] = [
  ['memory', () => ({ hsm: new MemoryHsm(), end: () => undefined })],
  [
    'SoftHSM',
    () => {
      const soft = openSoftHsm();
      return { hsm: soft.open(), end: soft.remove };
    },
  ],
];

const device = generateKeyPairSync('rsa', { modulusLength: 3072 });
const recipient = device.publicKey.export({ format: 'der', type: 'spki' });
const { RSA_PKCS1_OAEP_PADDING, RSA_PKCS1_PADDING } = constants;

const openOaep = ({ encryptedKey, oaepHash }: { encryptedKey: Buffer; oaepHash: string }) =>
  privateDecrypt({ key: device.privateKey, padding: RSA_PKCS1_OAEP_PADDING, oaepHash }, encryptedKey);

function openRelease(release: Rewrapped): Buffer {
  const decipher = createDecipheriv('id-aes256-wrap-pad', openOaep(release), Buffer.from('a65959a6', 'hex'));
  return Buffer.concat([decipher.update(release.content), decipher.final()]);
}

function flipped(bytes: Buffer, bit = randomInt(bytes.length * 8)): Buffer {
  const changed = Buffer.from(bytes);
  changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return changed;
}

function encryptTo(pair: StoredPair, scheme: TransportScheme, key: Buffer): Buffer {
  const owner = createPublicKey({ key: pair.publicKey, format: 'der', type: 'spki' });
  if (scheme === 'rsa-pkcs1') return publicEncrypt({ key: owner, padding: RSA_PKCS1_PADDING }, key);
  return publicEncrypt({ key: owner, padding: RSA_PKCS1_OAEP_PADDING, oaepHash: scheme === 'rsa-oaep-sha1' ? 'sha1' : 'sha256' }, key);
}

describe.each(TOKENS.filter(([name]) => name === 'memory' || softHsmIsHere()))('%s', (_, make) => {
  let hsm: Hsm;
  let end: () => void;
  let alice: StoredPair;
  let bob: StoredPair;

  const newPair = (bits: number): StoredPair => ({ ...hsm.generatePair({ suite: 'rsa', bits }), kind: { suite: 'rsa', bits } });

  beforeAll(() => {
    ({ hsm, end } = make());
    alice = newPair(2048);
    bob = newPair(2048);
  });
  afterAll(() => end());

  test('it passes its own self-test, in less than a second or so', () => {
    const started = performance.now();
    selfTest(hsm);
    expect(performance.now() - started).toBeLessThan(4000);
  });

  test.each([2048, 3072])('a released RSA-%i key opens with independent code and is the pair that was made', (bits) => {
    const pair = newPair(bits);
    const pkcs8 = openRelease(hsm.rewrap(pair, recipient));
    const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
    expect(createPublicKey(key).export({ format: 'der', type: 'spki' })).toEqual(pair.publicKey);
    expect(key.asymmetricKeyDetails).toEqual({ modulusLength: bits, publicExponent: 65537n });
    expect(execFileSync('openssl', ['pkey', '-inform', 'DER', '-check', '-noout'], { input: pkcs8 }).toString()).toMatch(/valid/);
    expect(pair.wrapped.includes(pkcs8.subarray(-64))).toBe(false);
  });

  test('a key from outside is taken, wrapped and released as one of ours; bytes that are no key are not', () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' });
    const adopted = hsm.adopt(pkcs8);
    expect(adopted.publicKey).toEqual(publicKey.export({ format: 'der', type: 'spki' }));
    const pair = { ...adopted, kind: { suite: 'rsa', bits: 2048 } as const };
    // SoftHSM fills the PKCS#8 up with zero octets to a multiple of eight before it wraps; DER says where it ends.
    const released = () => {
      const opened = openRelease(hsm.rewrap(pair, recipient));
      expect(opened.subarray(pkcs8.length)).toEqual(Buffer.alloc(opened.length - pkcs8.length));
      return opened.subarray(0, pkcs8.length);
    };
    expect(released()).toEqual(pkcs8);
    expect(() => hsm.adopt(Buffer.from('no key at all, but of some length'))).toThrow();
    expect(released()).toEqual(pkcs8);
  });

  test('a key that was sealed to a pair of this token comes in and is released as one of ours; damaged, or sealed to another pair, it is called corrupt', () => {
    const own = { ...hsm.generatePair({ suite: 'rsa', bits: 2048 }), kind: { suite: 'rsa', bits: 2048 } as const };
    const sealed = hsm.rewrap(alice, own.publicKey);
    const received = hsm.receive(own, sealed);
    expect(received.publicKey).toEqual(alice.publicKey);
    expect(openRelease(hsm.rewrap({ ...alice, ...received }, recipient))).toEqual(openRelease(hsm.rewrap(alice, recipient)));
    for (const [pair, bent] of [
      [own, { ...sealed, content: flipped(sealed.content) }],
      [own, { ...sealed, encryptedKey: flipped(sealed.encryptedKey) }],
      [alice, sealed],
    ] as const)
      expect(() => hsm.receive(pair, bent)).toThrow(expect.objectContaining({ code: 'blob-corrupt' }));
    expect(hsm.receive(own, sealed).publicKey).toEqual(alice.publicKey);
  });

  test('each release has a fresh content-encryption key', () => {
    expect(openOaep(hsm.rewrap(alice, recipient))).not.toEqual(openOaep(hsm.rewrap(alice, recipient)));
  });

  test('a wrapped key with any bit flipped, cut or lengthened is called corrupt, and the token goes on', () => {
    const { wrapped } = alice;
    const damaged = [
      ...Array.from({ length: 24 }, () => flipped(wrapped)),
      wrapped.subarray(0, -1),
      wrapped.subarray(0, -8),
      wrapped.subarray(8),
      Buffer.concat([wrapped, Buffer.alloc(8)]),
      Buffer.alloc(0),
      randomBytes(16),
    ];
    for (const bytes of damaged)
      expect(() => hsm.rewrap({ ...alice, wrapped: bytes }, recipient)).toThrow(expect.objectContaining({ code: 'blob-corrupt' }));
    openRelease(hsm.rewrap(alice, recipient));
  });

  test("alice's wrapped key under bob's public key is refused", () => {
    const crossed = { ...alice, publicKey: bob.publicKey };
    expect(() => hsm.rewrap(crossed, recipient)).toThrow(expect.objectContaining({ code: 'blob-corrupt' }));
    const encryptedKey = encryptTo(alice, 'rsa-pkcs1', randomBytes(32));
    expect(() => hsm.transport(crossed, 'rsa-pkcs1', encryptedKey, 32, recipient)).toThrow(
      expect.objectContaining({ code: 'blob-corrupt' }),
    );
  });

  test('a pair under a KEK that the token does not hold names the KEK', () => {
    expect(() => hsm.rewrap({ ...alice, kek: '7' }, recipient)).toThrow(expect.objectContaining({ code: 'kek-missing' }));
  });

  test('a suite that the token does not make is refused by name', () => {
    expect(() => hsm.generatePair({ suite: 'sm2', bits: 256 })).toThrow(expect.objectContaining({ code: 'mechanism-missing' }));
  });

  describe('remote mode', () => {
    const random = (ask: { scheme?: TransportScheme; encryptedKey: Buffer; length?: 16 | 24 | 32; pair?: StoredPair }) =>
      openOaep(hsm.transport(ask.pair ?? alice, ask.scheme ?? 'rsa-pkcs1', ask.encryptedKey, ask.length ?? 32, recipient));

    test.each(['rsa-pkcs1', 'rsa-oaep-sha1'] as const)('%s: the device gets exactly the content-encryption key', (scheme) => {
      for (const length of [16, 24, 32] as const) {
        const key = randomBytes(length);
        expect(openOaep(hsm.transport(alice, scheme, encryptTo(alice, scheme, key), length, recipient))).toEqual(key);
      }
    });

    test.each(['rsa-pkcs1', 'rsa-oaep-sha1'] as const)(
      '%s: a bad padding gives a random key of the announced length, never an error',
      (scheme) => {
        const good = encryptTo(alice, scheme, Buffer.alloc(32, 7));
        const bad = [flipped(good, 2000), Buffer.concat([Buffer.alloc(1), randomBytes(255)]), Buffer.alloc(256), Buffer.alloc(256, 0xff)];
        for (const encryptedKey of [...bad, good.subarray(1), Buffer.concat([good, Buffer.alloc(8)]), Buffer.alloc(0), Buffer.alloc(1)])
          for (const length of [16, 24, 32] as const) {
            const key = random({ scheme, encryptedKey, length });
            expect(key).toHaveLength(length);
            expect(key).not.toEqual(Buffer.alloc(length, 7));
          }
      },
    );

    test("another person's mail gives a random key", () => {
      const key = randomBytes(32);
      const got = random({ encryptedKey: encryptTo(bob, 'rsa-pkcs1', key) });
      expect(got).toHaveLength(32);
      expect(got).not.toEqual(key);
    });

    test('a key of another length than announced gives a random key of the announced length', () => {
      for (const real of [1, 8, 15, 17, 20, 24, 31, 33, 40, 64]) {
        const key = randomBytes(real);
        const length = real < 25 ? 16 : 32;
        const got = random({ encryptedKey: encryptTo(alice, 'rsa-pkcs1', key), length });
        expect(got).toHaveLength(length);
        expect(got.includes(key.subarray(0, 8)) && real >= 8).toBe(false);
        // 17 to 23 bytes pad to 24 in KWP: the length is told exactly all the same.
        if (real > 16 && real < 24) expect(random({ encryptedKey: encryptTo(alice, 'rsa-pkcs1', key), length: 24 })).toHaveLength(24);
      }
    });

    test('OAEP with SHA-256 either works or is refused by name', () => {
      const key = randomBytes(32);
      let got: Buffer;
      try {
        got = random({ scheme: 'rsa-oaep-sha256', encryptedKey: encryptTo(alice, 'rsa-oaep-sha256', key) });
      } catch (error) {
        expect(error).toMatchObject({ code: 'mechanism-missing' });
        return;
      }
      expect(got).toEqual(key);
    });
  });

  test('a record MAC has 32 bytes, is the same for the same bytes, and for no others', () => {
    expect(hsm.mac(Buffer.from('record'))).toHaveLength(32);
    expect(hsm.mac(Buffer.from('record'))).toEqual(hsm.mac(Buffer.from('record')));
    expect(hsm.mac(Buffer.from('Record'))).not.toEqual(hsm.mac(Buffer.from('record')));
    expect(hsm.mac(Buffer.alloc(0))).not.toEqual(hsm.mac(Buffer.alloc(1)));
  });

  test('sealed bytes open in their own context only, and not when damaged', () => {
    for (const plain of [Buffer.alloc(0), Buffer.from('half a token'), randomBytes(100_000)]) {
      const sealed = hsm.seal(plain, 'enrolment 1');
      expect(sealed).toHaveLength(12 + plain.length + 16);
      expect(hsm.open(sealed, 'enrolment 1')).toEqual(plain);
      const broken = [
        flipped(sealed),
        sealed.subarray(0, -1),
        sealed.subarray(1),
        sealed.subarray(0, 12),
        sealed.subarray(0, 5),
        Buffer.alloc(0),
      ];
      for (const bytes of broken) expect(() => hsm.open(bytes, 'enrolment 1')).toThrow(expect.objectContaining({ code: 'seal-broken' }));
      expect(() => hsm.open(sealed, 'enrolment 2')).toThrow(expect.objectContaining({ code: 'seal-broken' }));
      expect(hsm.open(sealed, 'enrolment 1')).toEqual(plain);
    }
  });

  test('every signing key signs as its algorithm says', () => {
    const algorithms = Object.fromEntries(SIGNING_KEYS.map((name) => [name, hsm.algorithm(name)]));
    expect(algorithms).toEqual({
      root: 'ecdsa-p384-sha384',
      people: 'ecdsa-p384-sha384',
      devices: 'ecdsa-p384-sha384',
      infrastructure: 'ecdsa-p384-sha384',
      delivery: 'ecdsa-p256-sha256',
      mail: 'ecdsa-p256-sha256',
      audit: 'ed25519',
    });
    const digest = { 'ecdsa-p384-sha384': 'sha384', 'ecdsa-p256-sha256': 'sha256', 'rsa-pkcs1-sha384': 'sha384', ed25519: null };
    for (const name of SIGNING_KEYS)
      for (const message of [Buffer.alloc(0), randomBytes(5000)]) {
        const key = createPublicKey({ key: hsm.publicKey(name), format: 'der', type: 'spki' });
        const signature = hsm.sign(name, message);
        expect(verify(digest[hsm.algorithm(name)], message, { key, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
        expect(signature).toHaveLength(hsm.algorithm(name) === 'ecdsa-p384-sha384' ? 96 : 64);
      }
  });
});
