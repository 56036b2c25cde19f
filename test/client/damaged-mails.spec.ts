import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { CannotDecrypt, type HeldKey, openerFor } from '../../client/src/keys/index.js';
import { unwrap } from '../../client/src/mime/index.js';
import { readCertificate } from '../../client/src/x509/index.js';
import { isFault } from '../../src/foundation/index.js';
import { TestAuthority } from './test-authority.js';
import { TestHouse, vector } from './test-house.js';

/** mulberry32: one seed is one run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function damage(bytes: Buffer, random: () => number): Buffer {
  const at = Math.floor(random() * bytes.length);
  const kind = Math.floor(random() * 4);
  if (kind === 0) return bytes.subarray(0, at);
  if (kind === 1) return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + Math.floor(random() * 8))]);
  if (kind === 2)
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.floor(random() * bytes.length), at), bytes.subarray(at)]);
  const copy = Buffer.from(bytes);
  for (let times = 1 + Math.floor(random() * 3); times > 0; times--) copy[Math.floor(random() * copy.length)] = Math.floor(random() * 256);
  return copy;
}

describe('a mail damaged anywhere', () => {
  test('is either read or refused with words, never a defect', async () => {
    const house = new TestHouse();
    const authority = await TestAuthority.create();
    const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pem = await authority.person('alice@corp.example', pair.publicKey);
    writeFileSync(house.path('a.pem'), pem);
    const signer = await authority.mailSigning('bob@corp.example');
    writeFileSync(house.path('s.pem'), signer.pem);
    writeFileSync(house.path('s.key'), signer.key.export({ type: 'pkcs8', format: 'pem' }));
    const openssl = (...words: string[]) => execFileSync('openssl', ['cms', ...words], { cwd: house.folder });
    openssl('-sign', '-in', vector('eml', 'nested.eml'), '-signer', 's.pem', '-inkey', 's.key', '-out', 'signed');
    for (const [name, ...words] of [
      ['cbc', '-aes256'],
      ['gcm', '-aes-256-gcm', '-stream'],
    ])
      openssl('-encrypt', ...words, '-in', 'signed', '-out', name ?? '', 'a.pem');
    openssl('-encrypt', '-aes256', '-in', 'signed', '-outform', 'DER', '-out', 'der', 'a.pem');
    openssl('-sign', '-in', 'cbc', '-signer', 's.pem', '-inkey', 's.key', '-out', 'outer');

    const key: HeldKey = {
      id: 'k',
      suite: 'rsa',
      state: 'active',
      mode: 'deliver',
      leaves: [readCertificate(pem)],
      authorities: [],
      privateKey: pair.privateKey,
    };
    const open = openerFor([key], () => Promise.reject(new Error('no key is remote')));
    const mails = ['signed', 'cbc', 'gcm', 'der', 'outer'].map((name) => readFileSync(house.path(name)));
    house.remove();
    for (const mail of mails) await expect(unwrap(mail, open)).resolves.toBeDefined();

    const seed = 20261124;
    const random = seeded(seed);
    const count = { read: 0, refused: 0 };
    for (let run = 0; run < 3000; run++) {
      const mail = damage(mails[run % mails.length] ?? Buffer.alloc(0), random);
      try {
        await unwrap(mail, open);
        count.read++;
      } catch (error) {
        if (!isFault(error) && !(error instanceof CannotDecrypt))
          throw new Error(`seed ${seed}, run ${run}: ${error}\n${mail.toString('base64')}`);
        count.refused++;
      }
    }
    expect(count.refused).toBeGreaterThan(500);
  }, 60_000);
});
