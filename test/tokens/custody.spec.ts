import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { makeHeader, readHeader } from '../../src/codec/age.js';
import { parsePackage } from '../../src/tokens/custody/package.js';
import { combineShares, formatShare, parseShare, shareDigest, splitKey } from '../../src/tokens/custody/shares.js';
import { TokenProcess } from '../../src/tokens/index.js';
import { openDelivery } from '../support/open-delivery.js';
import { softHsmIsHere } from '../support/softhsm.js';
import { ENTRY, enrol, giveKey, runMain, type TokenHome, tokenHome } from './process-house.js';

const ceremony = Buffer.alloc(16, 1);
const key = Buffer.from('00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff', 'hex');

describe('shares', () => {
  test('any M of N give the key back; M − 1, repeated, damaged, foreign and replaced ones are refused by name', async () => {
    const shares = await splitKey(key, { ceremony, threshold: 3, total: 5 });
    const digests = shares.map(shareDigest);
    const combined = (...numbers: number[]) =>
      combineShares(
        numbers.map((n) => parseShare(formatShare(shares[n - 1] as never))),
        ceremony,
        3,
        digests,
      );
    for (const three of [
      [1, 2, 3],
      [5, 1, 4],
      [2, 3, 4, 5],
    ])
      expect((await combined(...three)).equals(key)).toBe(true);
    await expect(combined(1, 2)).rejects.toMatchObject({ code: 'shares-too-few' });
    await expect(combined(1, 2, 2)).rejects.toMatchObject({ code: 'share-repeated' });
    const [other] = await splitKey(key, { ceremony: Buffer.alloc(16, 2), threshold: 3, total: 5 });
    await expect(combineShares([other as never], ceremony, 3, digests)).rejects.toMatchObject({ code: 'share-foreign' });
    const [replaced] = await splitKey(key, { ceremony, threshold: 3, total: 5 });
    await expect(combineShares([replaced as never], ceremony, 3, digests)).rejects.toMatchObject({ code: 'share-foreign' });
  });

  test('each single wrong letter of a printed share is seen, and its grouping and case do not matter', async () => {
    const [share] = await splitKey(key, { ceremony, threshold: 2, total: 3 });
    const line = formatShare(share as never);
    expect(parseShare(` ${line.toLowerCase().replaceAll('-', ' ').replace('ekms share 1', 'ekms-share-1')}\n`).number).toBe(1);
    const from = 'EKMS-SHARE-1:'.length;
    let tried = 0;
    for (let at = from; at < line.length; at++) {
      if (line[at] === '-') continue;
      const wrong = line.slice(0, at) + (line[at] === 'A' ? 'B' : 'A') + line.slice(at + 1);
      expect(() => parseShare(wrong)).toThrow(expect.objectContaining({ code: 'share-damaged' }));
      tried++;
    }
    expect(tried).toBe(92);
  });
});

const sealedToAll = (text: string) => text.match(/EKMS-SHARE-1:\S+/)?.[0] ?? '';

(softHsmIsHere() ? describe : describe.skip)('a ceremony with custodians, on SoftHSM', () => {
  let first: TokenHome;
  let shares: string[];
  const ageKey = () => join(first.home, 'age-key');

  beforeAll(() => {
    first = tokenHome();
    const out = join(first.home, 'shares');
    mkdirSync(out);
    const recipient = execFileSync('age-keygen', ['-o', ageKey()], { stdio: ['ignore', 'ignore', 'pipe'] });
    void recipient;
    const age = /age1\S+/.exec(readFileSync(ageKey(), 'utf8'))?.[0] ?? '';
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-subj',
        '/CN=Custodian',
        '-days',
        '30',
        '-keyout',
        join(first.home, 'card.key'),
        '-out',
        join(first.home, 'card.pem'),
      ],
      { stdio: 'ignore' },
    );
    const der = execFileSync('openssl', ['x509', '-in', join(first.home, 'card.pem'), '-outform', 'DER']).toString('base64');
    const custodians = [
      { name: 'Ada', recipient: { kind: 'age', recipient: age } },
      { name: 'Ben', recipient: { kind: 'certificate', der } },
      { name: 'Safe 3', recipient: { kind: 'paper' } },
    ];
    const { status, stderr } = runMain('init', { ...first.init, custody: { plan: { threshold: 2, custodians }, out } });
    if (status !== 0) throw new Error(stderr);
    const [one = '', two = '', three = ''] = readdirSync(out).sort();
    expect([one, two, three]).toEqual(['share-1-Ada.age', 'share-2-Ben.p7m', 'share-3-Safe_3.txt']);
    shares = [
      execFileSync('age', ['-d', '-i', ageKey(), join(out, one)]).toString(),
      execFileSync('openssl', [
        'cms',
        '-decrypt',
        '-inform',
        'DER',
        '-in',
        join(out, two),
        '-inkey',
        join(first.home, 'card.key'),
        '-recip',
        join(first.home, 'card.pem'),
      ]).toString(),
      readFileSync(join(out, three), 'utf8'),
    ].map(sealedToAll);
  }, 60_000);

  afterAll(() => first?.remove());

  const restored = (home: TokenHome, given: string[], change: (text: string) => string = (text) => text) => {
    const text = readFileSync(join(first.home, 'token-state/custody.json'), 'utf8');
    const { header } = makeHeader(parsePackage(text).package.backup.recipient);
    const stanza = readHeader(header)?.stanza;
    const { token, softhsmTokens, kekHelper } = home.init;
    return runMain('restore', {
      token,
      softhsmTokens,
      kekHelper,
      package: change(text),
      shares: given,
      stanzas: [{ share: stanza?.share.toString('base64url'), body: stanza?.body.toString('base64url') }],
    });
  };

  test('each custodian opens their share by age, openssl or eye; any two make a token whose keys are the same ones', async () => {
    const token = new TokenProcess({ entry: ENTRY, settings: first.settings });
    await token.start();
    const alice = await enrol(token);
    const held = await giveKey(token, alice);
    const before = openDelivery((await token.release(held.key, held.blob, alice.evidence)).delivery, alice.delivery);
    const [certificates, audit, sealed] = [
      await token.certificates(),
      await token.signingKey('audit'),
      await token.sealBytes(Buffer.from('s'), 'c'),
    ];
    await token.stop();
    for (const [a, b] of [
      [0, 1],
      [2, 0],
      [1, 2],
    ] as const) {
      const second = tokenHome();
      try {
        const { status, stderr, stdout } = restored(second, [shares[a] ?? '', shares[b] ?? '']);
        expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
        expect(stdout).toMatch(/^ready \{"fileKeys":\["[\w-]{22}"\]\}/);
        copyFileSync(join(first.home, 'token-state/journal'), join(second.home, 'token-state/journal'));
        const again = new TokenProcess({ entry: ENTRY, settings: second.settings });
        await again.start();
        try {
          expect(openDelivery((await again.release(held.key, held.blob, alice.evidence)).delivery, alice.delivery).equals(before)).toBe(
            true,
          );
          expect([await again.certificates(), await again.signingKey('audit')]).toEqual([certificates, audit]);
          expect((await again.openBytes(sealed, 'c')).toString()).toBe('s');
          const bad = (await again.inspect()).filter(({ verdict, check }) => verdict === 'bad' && check !== 'pin');
          expect(bad).toEqual([]);
          expect((await again.inspect()).find(({ check }) => check === 'unwrap-template')?.verdict).toBe('good');
        } finally {
          await again.stop();
        }
      } finally {
        second.remove();
      }
    }
  }, 60_000);

  test('one share, a damaged one, and a package that was changed make no token at all', () => {
    const second = tokenHome();
    try {
      const [one = '', two = ''] = shares;
      const damaged = two.slice(0, -1) + (two.endsWith('A') ? 'B' : 'A');
      const outcomes = [
        restored(second, [one]),
        restored(second, [one, one]),
        restored(second, [one, damaged]),
        restored(second, [one, two], (text) => text.replace('"name": "Ada"', '"name": "Eve"')),
        restored(second, [one, two], (text) => text.replace(/"wrapped": "(.)/, (_, letter) => `"wrapped": "${letter === 'A' ? 'B' : 'A'}`)),
      ].map(({ stdout }) => /"code":"([a-z-]+)"/.exec(stdout)?.[1]);
      expect(outcomes).toEqual(['shares-too-few', 'share-repeated', 'share-damaged', 'custody-package-forged', 'blob-corrupt']);
      expect(readdirSync(second.home)).toEqual([]);
    } finally {
      second.remove();
    }
  });

  test('nothing on the disk of the ceremony holds the ceremony key or a share, but what was made for paper', () => {
    const found = spawnSync('grep', ['-rlE', 'EKMS-SHARE-1:', first.home]).stdout.toString().trim().split('\n');
    expect(found).toEqual([join(first.home, 'shares/share-3-Safe_3.txt')]);
    void writeFileSync;
  });
});
