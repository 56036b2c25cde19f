import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { at, elements } from '../../src/codec/cms/der.js';
import { signedDetached } from '../../src/codec/cms/index.js';
import { type MailAuthority, mailAuthority } from '../mail/mail-authority.js';

describe('a detached signature', () => {
  const content = Buffer.from('what was said\r\n');
  let authority: MailAuthority;
  const ask = (time: string, sign = authority.sign) =>
    signedDetached({ content, certificates: authority.certificates, time: new Date(time), algorithm: 'ecdsa-p256-sha256', sign });
  const verify = (signature: Buffer, ...more: string[]) => {
    writeFileSync(join(authority.folder, 'signature.der'), signature);
    writeFileSync(join(authority.folder, 'content'), content);
    const files = ['-inform', 'DER', '-in', 'signature.der', '-binary', '-content', 'content', '-CAfile', 'root.pem', ...more];
    return execFileSync('openssl', ['cms', '-verify', ...files], { cwd: authority.folder, stdio: ['ignore', 'pipe', 'pipe'] });
  };
  const printed = (signature: Buffer) =>
    execFileSync('openssl', ['cms', '-cmsout', '-print', '-inform', 'DER', '-noout'], { input: signature, encoding: 'utf8' });

  beforeAll(() => {
    authority = mailAuthority('ekms@corp.example');
  });
  afterAll(() => authority.remove());

  test('verifies with openssl up to the root, by the certificates that it carries, also under CAdES rules', async () => {
    const signature = await ask('2026-11-24T12:00:00Z');
    expect(verify(signature)).toEqual(content);
    expect(verify(signature, '-cades')).toEqual(content); // the signingCertificateV2 attribute fits the signer
  });

  test('holds for every signature value, also those whose r or s begins with a zero or a set bit', async () => {
    for (let n = 0; n < 40; n++) verify(await ask('2026-11-24T12:00:00Z'));
    const tiny = await ask('2026-11-24T12:00:00Z', async () => Buffer.alloc(64, Buffer.concat([Buffer.alloc(31), Buffer.of(0x80)])));
    expect(tiny.includes(Buffer.from('300802020080' + '02020080', 'hex'))).toBe(true);
  });

  test('has its attributes and certificates in DER order (X.690 §11.6)', async () => {
    const signature = await ask('2026-11-24T12:00:00Z');
    for (const path of [
      [0, 1, 0, 3],
      [0, 1, 0, 4, 0, 3],
    ]) {
      const found = elements(at(signature, ...path)?.content ?? Buffer.of(0))?.map(({ whole }) => whole) ?? [];
      expect(found.length).toBeGreaterThan(1);
      expect(found).toEqual(found.toSorted(Buffer.compare));
    }
  });

  test('does not verify once a byte of the content or of an attribute is another', async () => {
    const signature = await ask('2026-11-24T12:00:00Z');
    const digit = signature.indexOf('261124120000Z');
    expect(digit).toBeGreaterThan(0);
    signature[digit] = 0x33;
    expect(() => verify(signature)).toThrow();
  });

  test('says its time as UTCTime through 2049 and as GeneralizedTime after (RFC 5652 §11.3)', async () => {
    expect(printed(await ask('2049-12-31T23:59:59Z'))).toMatch(/UTCTIME:Dec 31 23:59:59 2049 GMT/);
    expect(printed(await ask('2050-01-01T00:00:00Z'))).toMatch(/GENERALIZEDTIME:Jan {2}1 00:00:00 2050 GMT/);
  });

  test('refuses a signature of another length and a signer without certificate', async () => {
    await expect(ask('2026-11-24T12:00:00Z', async () => Buffer.alloc(96))).rejects.toThrow(RangeError);
    const none = signedDetached({ content, certificates: [], time: new Date(), algorithm: 'ecdsa-p256-sha256', sign: authority.sign });
    await expect(none).rejects.toMatchObject({ code: 'certificate-missing' });
  });
});
