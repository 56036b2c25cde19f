import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { ALICE, BOB, MailHouse } from './mail-house.js';
import type { TestKey } from './test-appliance.js';
import { pemOf } from './test-authority.js';
import { vector } from './test-house.js';

const OAEP = ['-keyopt', 'rsa_padding_mode:oaep'];
const OAEP_SHA256 = [...OAEP, '-keyopt', 'rsa_oaep_md:sha256'];

describe('mesign decrypt', () => {
  let house: MailHouse;
  let current: TestKey;
  let remote: TestKey;
  const MAIL = vector('eml', 'nested.eml');

  beforeAll(async () => {
    house = await MailHouse.open(async (it) => {
      // Renewed once: mails to either certificate of the one key open.
      const own = generateKeyPairSync('rsa', { modulusLength: 2048 });
      const [older, newer] = [await it.authority.person(ALICE, own.publicKey), await it.authority.person(ALICE, own.publicKey)];
      writeFileSync(it.path('older.pem'), older);
      current = await it.key('alice', ALICE, {
        privateKey: own.privateKey,
        certificates: [newer, older, pemOf(it.authority.people.certificate)],
      });
      const pair = generateKeyPairSync('rsa', { modulusLength: 3072 });
      const ended = await it.authority.person(ALICE, pair.publicKey, it.authority.people, -1);
      await it.key('former', ALICE, {
        privateKey: pair.privateKey,
        state: 'deactivated',
        certificates: [ended, pemOf(it.authority.people.certificate)],
      });
      remote = await it.key('remote', ALICE, { mode: 'remote' });
      await it.key('bob', BOB);
    });
    const signer = await house.authority.mailSigning(BOB);
    writeFileSync(house.path('signer.pem'), signer.pem);
    writeFileSync(house.path('infrastructure.pem'), pemOf(house.authority.infrastructure.certificate));
    writeFileSync(house.path('signer.key'), signer.key.export({ type: 'pkcs8', format: 'pem' }));
  });
  afterAll(() => house.close());
  beforeEach(() => rmSync(house.path('out'), { force: true }));

  const encrypt = (from: string, to: string, ...words: string[]) => house.openssl('cms', '-encrypt', '-in', from, '-out', to, ...words);
  const recipient = (name: string, ...keyopt: string[]) => ['-recip', house.path(`${name}.pem`), ...keyopt];
  const key = (name: string) => ['-inkey', house.path(`${name}.key`), '-recip', house.path(`${name}.pem`)];
  const opened = (mail: string, name: string, ...words: string[]) => house.openssl('cms', '-decrypt', '-in', mail, ...key(name), ...words);

  describe('gives what openssl cms -decrypt gives, byte for byte', () => {
    test.each<[string, string, string[]]>([
      ['RSA PKCS#1 v1.5, AES-256-CBC', 'alice', ['-aes256', '-RECIPIENT']],
      ['RSA PKCS#1 v1.5, AES-128-CBC', 'alice', ['-aes128', '-RECIPIENT']],
      ['RSA PKCS#1 v1.5, AES-192-CBC, an indefinite length', 'alice', ['-aes192', '-stream', '-RECIPIENT']],
      ['RSA-OAEP with SHA-1, AES-256-CBC', 'alice', ['-aes256', '-RECIPIENT', ...OAEP]],
      ['RSA-OAEP with SHA-256, AES-256-CBC', 'alice', ['-aes256', '-RECIPIENT', ...OAEP_SHA256]],
      ['RSA-OAEP with SHA-256 and MGF1 with SHA-1', 'alice', ['-aes256', '-RECIPIENT', ...OAEP_SHA256, '-keyopt', 'rsa_mgf1_md:sha1']],
      ['RSA-OAEP with a label', 'alice', ['-aes256', '-RECIPIENT', ...OAEP_SHA256, '-keyopt', 'rsa_oaep_label:6d6573']],
      ['AES-256-GCM', 'alice', ['-aes-256-gcm', '-RECIPIENT']],
      ['AES-128-GCM, an indefinite length', 'alice', ['-aes-128-gcm', '-stream', '-RECIPIENT', ...OAEP]],
      ['a recipient by subject key identifier', 'alice', ['-aes256', '-keyid', '-RECIPIENT']],
      ['a key that is no longer active, its certificate ended', 'former', ['-aes256', '-RECIPIENT']],
      ['3DES', 'alice', ['-des3', '-RECIPIENT']],
    ])('%s', async (_, name, words) => {
      const options = words.flatMap((word) => (word === '-RECIPIENT' ? recipient(name) : [word]));
      encrypt(MAIL, 'm.eml', ...options);
      const { status, said } = await house.decrypt('m.eml');
      expect({ status, said }).toMatchObject({ status: 0, said: expect.stringContaining('decrypted with key') });
      const out = readFileSync(house.path('out'));
      expect(out).toEqual(opened('m.eml', name));
      expect(out.toString('latin1').replaceAll('\r\n', '\n')).toBe(readFileSync(MAIL, 'latin1').replaceAll('\r\n', '\n'));
      if (words.includes('-des3')) expect(said).toContain('warning');
    });

    test.each(['base64encodedroot.eml', 'decoderended.eml', 'mixed.eml', 'nested.eml', 'spam.eml'])(
      '%s, as it is (-binary)',
      async (name) => {
        encrypt(vector('eml', name), 'm.eml', '-aes256', '-binary', ...recipient('alice'));
        expect(await house.decrypt('m.eml')).toMatchObject({ status: 0 });
        expect(readFileSync(house.path('out'))).toEqual(readFileSync(vector('eml', name)));
      },
    );

    test('two recipients, of whom we are the second', async () => {
      encrypt(MAIL, 'm.eml', '-aes256', ...recipient('bob'), ...recipient('alice', ...OAEP));
      const { status, said } = await house.decrypt('m.eml');
      expect({ status, said }).toMatchObject({ status: 0, said: expect.stringContaining(current.id) });
      expect(readFileSync(house.path('out'))).toEqual(opened('m.eml', 'alice'));
    });

    test('an older certificate of the same key', async () => {
      encrypt(MAIL, 'm.eml', '-aes256', ...recipient('older'));
      expect(await house.decrypt('m.eml')).toMatchObject({ status: 0, said: expect.stringContaining(current.id) });
      expect(readFileSync(house.path('out'))).toEqual(canonical());
    });

    test.each([
      ['DER', []],
      ['DER', ['-stream']],
    ])('a bare .p7m file (%s %s)', async (form, words) => {
      encrypt(MAIL, 'm.p7m', '-aes256', '-outform', form, ...words, ...recipient('alice'));
      expect(await house.decrypt('m.p7m')).toMatchObject({ status: 0 });
      expect(readFileSync(house.path('out'))).toEqual(opened('m.p7m', 'alice', '-inform', 'DER'));
    });

    test('a binary body, and the type that old programs write', async () => {
      const der = encrypt2der();
      writeFileSync(
        house.path('m.eml'),
        Buffer.concat([
          Buffer.from('Content-Type: application/x-pkcs7-mime;\r\n name=smime.p7m\r\nContent-Transfer-Encoding: binary\r\n\r\n'),
          der,
        ]),
      );
      expect(await house.decrypt('m.eml')).toMatchObject({ status: 0 });
      expect(readFileSync(house.path('out'))).toEqual(opened('m.p7m', 'alice', '-inform', 'DER'));
    });

    test('50 MiB', async () => {
      writeFileSync(house.path('big'), randomBytes(50 << 20));
      for (const words of [['-aes256', '-stream'], ['-aes-256-gcm']]) {
        encrypt('big', 'm.eml', ...words, '-binary', ...recipient('alice'));
        expect(await house.decrypt('m.eml')).toMatchObject({ status: 0 });
        expect(readFileSync(house.path('out')).equals(readFileSync(house.path('big')))).toBe(true);
      }
    }, 60_000);
  });

  const encrypt2der = (): Buffer => {
    encrypt(MAIL, 'm.p7m', '-aes256', '-outform', 'DER', ...recipient('alice'));
    return readFileSync(house.path('m.p7m'));
  };
  const sign = (from: string, to: string, ...words: string[]) =>
    house.openssl(
      'cms',
      '-sign',
      '-in',
      from,
      '-out',
      to,
      '-signer',
      house.path('signer.pem'),
      '-inkey',
      house.path('signer.key'),
      '-certfile',
      house.path('infrastructure.pem'),
      ...words,
    );
  const canonical = () => Buffer.from(readFileSync(MAIL, 'latin1').replaceAll('\r\n', '\n').replaceAll('\n', '\r\n'), 'latin1');

  describe('takes off every layer', () => {
    test.each<[string, () => void]>([
      [
        'signed (detached) inside encrypted',
        () => {
          sign(MAIL, 's.eml');
          encrypt('s.eml', 'm.eml', '-aes256', ...recipient('alice'));
        },
      ],
      [
        'signed (opaque) inside encrypted',
        () => {
          sign(MAIL, 's.eml', '-nodetach');
          encrypt('s.eml', 'm.eml', '-aes256', ...recipient('alice'));
        },
      ],
      [
        'encrypted inside signed',
        () => {
          encrypt(MAIL, 'e.eml', '-aes256', ...recipient('alice'));
          sign('e.eml', 'm.eml');
        },
      ],
      [
        'signed, encrypted, signed',
        () => {
          sign(MAIL, 's.eml');
          encrypt('s.eml', 'e.eml', '-aes-256-gcm', ...recipient('alice'));
          sign('e.eml', 'm.eml', '-nodetach');
        },
      ],
    ])('%s', async (_, make) => {
      make();
      const { status, said } = await house.decrypt('m.eml');
      expect({ status, said }).toMatchObject({ status: 0, said: expect.stringContaining(`signature: verified, by ${BOB}`) });
      expect(readFileSync(house.path('out'))).toEqual(canonical());
    });

    test('encrypted inside encrypted, to two of our keys', async () => {
      encrypt(MAIL, 'e.eml', '-aes256', ...recipient('former'));
      encrypt('e.eml', 'm.eml', '-aes256', ...recipient('alice'));
      expect(await house.decrypt('m.eml')).toMatchObject({ status: 0 });
      expect(readFileSync(house.path('out'))).toEqual(canonical());
    });

    test('a mailing list around it: what the list added is left out, and said', async () => {
      encrypt(MAIL, 'e.eml', '-aes256', ...recipient('alice'));
      const list = `Content-Type: multipart/mixed; boundary="b1"\r\n\r\n--b1\r\n${readFileSync(house.path('e.eml'), 'latin1')}\r\n--b1\r\nContent-Type: text/plain\r\n\r\nthe footer\r\n--b1--\r\n`;
      writeFileSync(house.path('m.eml'), list);
      expect(await house.decrypt('m.eml')).toMatchObject({ status: 0, said: expect.stringContaining('left out') });
      expect(readFileSync(house.path('out'))).toEqual(canonical());
    });

    test('a signature over something else does not hold', async () => {
      sign(MAIL, 's.eml');
      writeFileSync(
        house.path('s2.eml'),
        readFileSync(house.path('s.eml'), 'latin1').replace(/Content-Type: text\/plain/i, 'Content-Type: text/plane'),
        'latin1',
      );
      encrypt('s2.eml', 'm.eml', '-aes256', '-binary', ...recipient('alice'));
      expect(await house.decrypt('m.eml')).toMatchObject({ status: 0, said: expect.stringContaining('DOES NOT HOLD') });
    });

    test('a signer whom the organisation does not vouch for is not called verified', async () => {
      house.openssl(
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-keyout',
        'eve.key',
        '-out',
        'eve.pem',
        '-subj',
        '/CN=Bob',
        '-addext',
        `subjectAltName=email:${BOB}`,
      );
      house.openssl('cms', '-sign', '-in', MAIL, '-out', 's.eml', '-signer', 'eve.pem', '-inkey', 'eve.key');
      encrypt('s.eml', 'm.eml', '-aes256', ...recipient('alice'));
      const { said } = await house.decrypt('m.eml');
      expect(said).toContain('does not vouch for');
      expect(said).not.toContain('verified');
    });

    test('a sender who is not the signer is told', async () => {
      sign(MAIL, 's.eml');
      encrypt('s.eml', 'm.eml', '-aes256', '-from', 'Mallory <mallory@corp.example>', ...recipient('alice'));
      expect((await house.decrypt('m.eml')).said).toContain('claims to be from mallory@corp.example');
    });
  });

  describe('in remote mode', () => {
    test.each([
      ['PKCS#1 v1.5', []],
      ['OAEP', OAEP],
      ['OAEP with SHA-256', OAEP_SHA256],
    ])('asks the appliance for the content key (%s), and keeps the receipt', async (_, words) => {
      encrypt(MAIL, 'm.eml', '-aes256', ...recipient('remote', ...words));
      expect(await house.decrypt('m.eml')).toMatchObject({ status: 0, said: expect.stringContaining('remote') });
      expect(readFileSync(house.path('out'))).toEqual(opened('m.eml', 'remote'));
      expect(readFileSync(house.path('home', 'receipts.jsonl'), 'utf8')).toContain(`"key":"${remote.id}","act":"decrypt"`);
    });

    test('what the appliance cannot open is said', async () => {
      encrypt(MAIL, 'm.eml', '-aes256', ...recipient('remote', ...OAEP_SHA256, '-keyopt', 'rsa_oaep_label:6d6573'));
      expect(await house.decrypt('m.eml')).toMatchObject({ status: 3, said: expect.stringContaining('and no label') });
    });
  });

  describe('when it cannot', () => {
    test('names the recipients of the mail and the keys of the device', async () => {
      encrypt(MAIL, 'm.eml', '-aes256', ...recipient('bob'));
      const { status, said } = await house.decrypt('m.eml');
      expect(status).toBe(3);
      expect(said).toContain('of issuer CN=Test People CA');
      expect(said).toContain(current.id);
      expect(existsSync(house.path('out'))).toBe(false);
    });

    test.each(['-aes256', '-aes-256-gcm'])(
      'a byte changed anywhere in %s gives no output, or for CBC never a part of one',
      async (cipher) => {
        encrypt(MAIL, 'm.p7m', cipher, '-outform', 'DER', ...recipient('alice'));
        const good = readFileSync(house.path('m.p7m'));
        const last = good.length - (cipher === '-aes256' ? 17 : 1);
        for (const at of [last, good.length - 20]) {
          const bad = Buffer.from(good);
          bad[at] = (bad[at] ?? 0) ^ 1;
          writeFileSync(house.path('bad.p7m'), bad);
          rmSync(house.path('out'), { force: true });
          const { status } = await house.decrypt('bad.p7m');
          if (cipher === '-aes-256-gcm' || at === last) expect(status).toBe(3);
          expect(existsSync(house.path('out'))).toBe(status === 0);
        }
      },
    );

    test('a damaged content key, which RSA PKCS#1 v1.5 does not tell, is told', async () => {
      encrypt(MAIL, 'm.p7m', '-aes256', '-outform', 'DER', ...recipient('alice'));
      const bad = readFileSync(house.path('m.p7m'));
      const at = bad.indexOf(Buffer.from('04820100', 'hex')) + 40;
      bad[at] = (bad[at] ?? 0) ^ 1;
      writeFileSync(house.path('bad.p7m'), bad);
      expect(await house.decrypt('bad.p7m')).toMatchObject({ status: 3, said: expect.stringContaining('damaged or changed') });
    });

    test.each([
      ['a mail that is not encrypted', () => readFileSync(MAIL)],
      ['an empty file', () => Buffer.alloc(0)],
      ['half a message', () => encrypt2der().subarray(0, 600)],
      [
        'deeply nested indefinite lengths',
        () => Buffer.concat([Buffer.from('308006092a864886f70d010703', 'hex'), Buffer.from('a080'.repeat(5000), 'hex')]),
      ],
      ['a boundary that never ends', () => Buffer.from('Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx')],
    ])('%s is words and status 3, not a stack trace', async (_, make) => {
      writeFileSync(house.path('bad'), make());
      const { status, said } = await house.decrypt('bad');
      expect(status).toBe(3);
      expect(said).not.toMatch(/defect|at \//);
      expect(existsSync(house.path('out'))).toBe(false);
    });

    test('an existing file stays as it was', async () => {
      writeFileSync(house.path('out'), 'before');
      encrypt(MAIL, 'm.eml', '-aes256', ...recipient('bob'));
      await house.decrypt('m.eml');
      expect(readFileSync(house.path('out'), 'utf8')).toBe('before');
    });
  });
});
