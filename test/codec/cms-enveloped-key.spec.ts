import { execFileSync } from 'node:child_process';
import { constants, createCipheriv, generateKeyPairSync, publicEncrypt, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { envelopedKey, parseEnvelopedKey, subjectKeyIdentifier } from '../../src/codec/cms/index.js';

const der = { publicKeyEncoding: { type: 'spki', format: 'der' }, privateKeyEncoding: { type: 'pkcs8', format: 'der' } } as const;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-cms-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function deliver(pkcs8: Buffer, deliveryKey: Buffer, oaepHash: 'sha1' | 'sha256'): Buffer {
  const cek = randomBytes(32);
  const wrap = createCipheriv('id-aes256-wrap-pad', cek, Buffer.from('a65959a6', 'hex')); // RFC 5649 §3
  const content = Buffer.concat([wrap.update(pkcs8), wrap.final()]);
  const recipient = { key: deliveryKey, format: 'der', type: 'spki', padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash } as const;
  return envelopedKey({ encryptedKey: publicEncrypt(recipient, cek), content, oaepHash, deliveryKey });
}

describe('a delivery', () => {
  const device = generateKeyPairSync('rsa', { modulusLength: 3072, ...der });

  for (const modulusLength of [2048, 3072, 4096])
    for (const oaepHash of ['sha1', 'sha256'] as const)
      test(`of an RSA-${modulusLength} key by OAEP with ${oaepHash} opens with an unmodified openssl, byte for byte`, () => {
        const { privateKey } = generateKeyPairSync('rsa', { modulusLength, ...der });
        writeFileSync(join(folder, 'delivery.der'), deliver(privateKey, device.publicKey, oaepHash));
        writeFileSync(join(folder, 'device.der'), device.privateKey);
        const opened = execFileSync(
          'openssl',
          ['cms', '-decrypt', '-inform', 'DER', '-in', 'delivery.der', '-inkey', 'device.der', '-binary'],
          {
            cwd: folder,
          },
        );
        expect(opened.equals(privateKey)).toBe(true);
      });

  test('names the delivery key as openssl does in the certificate extension', () => {
    const request = execFileSync(
      'openssl',
      ['req', '-x509', '-inform', 'DER', '-key', 'device.der', '-keyform', 'DER', '-subj', '/CN=d', '-addext', 'subjectKeyIdentifier=hash'],
      { cwd: folder },
    );
    const shown = execFileSync('openssl', ['x509', '-noout', '-ext', 'subjectKeyIdentifier'], { input: request, encoding: 'utf8' });
    expect(shown.replaceAll(':', '').toLowerCase()).toContain(subjectKeyIdentifier(device.publicKey).toString('hex'));
  });

  test('reads back as it was made', () => {
    const made = { encryptedKey: randomBytes(384), content: randomBytes(1232), oaepHash: 'sha256', deliveryKey: device.publicKey } as const;
    const { keyIdentifier, ...read } = parseEnvelopedKey(envelopedKey(made));
    expect({ ...read, deliveryKey: device.publicKey }).toEqual(made);
    expect(keyIdentifier).toEqual(subjectKeyIdentifier(device.publicKey));
  });

  test('changed anywhere in its structure, cut short or longer is either refused or another delivery, never read two ways', () => {
    const good = deliver(device.privateKey, device.publicKey, 'sha1');
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), fc.boolean(), (at, flip, cut) => {
        const bad = cut ? good.subarray(0, at) : Buffer.from(good);
        if (!cut) bad[at] = (bad[at] ?? 0) ^ flip;
        let read: ReturnType<typeof parseEnvelopedKey>;
        try {
          read = parseEnvelopedKey(bad);
        } catch (fault) {
          expect(fault).toMatchObject({ code: 'delivery-malformed' });
          return;
        }
        expect(cut).toBe(false);
        expect(bad.includes(read.content) && bad.includes(read.encryptedKey) && bad.includes(read.keyIdentifier)).toBe(true);
      }),
      { numRuns: 500 },
    );
    expect(() => parseEnvelopedKey(Buffer.concat([good, Buffer.of(0)]))).toThrow(expect.objectContaining({ code: 'delivery-malformed' }));
  });
});
