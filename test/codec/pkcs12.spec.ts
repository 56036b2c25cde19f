import { execFileSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { compat, modern, pkcs12, readPkcs12 } from '../../src/codec/pkcs12/index.js';
import { isFault } from '../../src/foundation/index.js';

const PHRASE = 'Grüße, 1,000 "times"';
let folder: string;
const path = (name: string) => join(folder, name);
const openssl = (...words: string[]) => execFileSync('openssl', words, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
let key: Buffer;
let certificate: Buffer;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-p12-'));
  openssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    'key.pem',
    '-out',
    'cert.pem',
    '-days',
    '2',
    '-subj',
    '/CN=Anna/emailAddress=anna@corp.example',
  );
  key = createPrivateKey(readFileSync(path('key.pem'))).export({ format: 'der', type: 'pkcs8' });
  certificate = new X509Certificate(readFileSync(path('cert.pem'))).raw;
  writeFileSync(path('phrase'), `${PHRASE}\n`);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const same = (der: Buffer | undefined) =>
  createPrivateKey({ key: der ?? Buffer.alloc(0), format: 'der', type: 'pkcs8' })
    .export({ format: 'der', type: 'pkcs8' })
    .equals(key);
const outcome = (file: Buffer, phrase: string): string => {
  try {
    readPkcs12(file, phrase);
    return 'read';
  } catch (error) {
    if (!isFault(error)) throw error;
    return error.code;
  }
};
const made = (name: string, ...words: string[]) => {
  openssl('pkcs12', '-export', '-inkey', 'key.pem', '-in', 'cert.pem', '-passout', 'file:phrase', '-out', name, ...words);
  return readFileSync(path(name));
};

describe('what openssl writes', () => {
  test.each([
    ['PBES2, as it is by default'],
    ['PBES2 with AES-128 and SHA-512 in the MAC', '-keypbe', 'AES-128-CBC', '-certpbe', 'AES-192-CBC', '-macalg', 'sha512'],
    ['PBES2 with 3DES', '-keypbe', 'DES-EDE3-CBC', '-certpbe', 'DES-EDE3-CBC', '-macalg', 'sha1'],
    ['RC2-40 and 3DES, the old form', '-legacy'],
    ['RC2-128 and two-key 3DES', '-legacy', '-keypbe', 'PBE-SHA1-2DES', '-certpbe', 'PBE-SHA1-RC2-128'],
    ['certificates in the clear', '-certpbe', 'NONE'],
    ['no MAC', '-nomac'],
    ['one round', '-noiter', '-nomaciter'],
  ])('%s', (_, ...words) => {
    const file = made('one.p12', ...words);
    const { keys, certificates } = readPkcs12(file, PHRASE);
    expect(keys).toHaveLength(1);
    expect(same(keys[0])).toBe(true);
    expect(certificates).toEqual([certificate]);
    expect(outcome(file, 'another')).toBe('pkcs12-passphrase');
  });

  test('an empty pass phrase', () => {
    openssl('pkcs12', '-export', '-inkey', 'key.pem', '-in', 'cert.pem', '-passout', 'pass:', '-out', 'empty.p12');
    expect(same(readPkcs12(readFileSync(path('empty.p12')), '').keys[0])).toBe(true);
  });
});

test('what NSS writes', () => {
  mkdirSync(path('nss'));
  const run = (name: string, ...words: string[]) => execFileSync(name, words, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  run('certutil', '-N', '-d', 'sql:nss', '--empty-password');
  openssl('pkcs12', '-export', '-inkey', 'key.pem', '-in', 'cert.pem', '-name', 'anna', '-passout', 'pass:from', '-out', 'to-nss.p12');
  run('pk12util', '-i', 'to-nss.p12', '-d', 'sql:nss', '-W', 'from');
  for (const [cipher, certificates] of [
    ['AES-256-CBC', 'AES-128-CBC'],
    ['PKCS #12 V2 PBE With SHA-1 And 3KEY Triple DES-cbc', 'PKCS #12 V2 PBE With SHA-1 And 40 Bit RC2 CBC'],
  ] as const) {
    run('pk12util', '-o', 'from-nss.p12', '-n', 'anna', '-d', 'sql:nss', '-W', 'to us', '-c', cipher, '-C', certificates);
    const content = readPkcs12(readFileSync(path('from-nss.p12')), 'to us');
    expect(same(content.keys[0])).toBe(true);
    expect(content.certificates.some((der) => der.equals(certificate))).toBe(true);
  }
}, 30_000);

test('what the keytool of Java writes', () => {
  const run = (...words: string[]) => execFileSync('keytool', words, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  openssl('pkcs12', '-export', '-inkey', 'key.pem', '-in', 'cert.pem', '-name', 'anna', '-passout', 'pass:to java', '-out', 'to-java.p12');
  const from = ['-importkeystore', '-noprompt', '-srckeystore', 'to-java.p12', '-srcstorepass', 'to java', '-deststoretype', 'PKCS12'];
  // The second is what Java 8 wrote: RC2-40 and 3DES.
  for (const [name, ...form] of [['new.p12'], ['old.p12', '-J-Dkeystore.pkcs12.legacy']] as const) {
    run(...form, ...from, '-destkeystore', name, '-deststorepass', 'from java');
    const { keys, certificates } = readPkcs12(readFileSync(path(name)), 'from java');
    expect(keys.map(same)).toEqual([true]);
    expect(certificates).toEqual([certificate]);
  }
}, 30_000);

test('what we write ourselves, and openssl with us', () => {
  const identity = {
    name: 'Anna',
    privateKey: createPrivateKey(readFileSync(path('key.pem'))),
    leaves: [{ der: certificate }],
    authorities: [],
  };
  for (const protection of [modern(PHRASE), compat(PHRASE)])
    expect(same(readPkcs12(pkcs12(identity, protection), PHRASE).keys[0])).toBe(true);
}, 30_000);

test('a file damaged at any byte, cut anywhere, or of something else is refused by a code; nothing else is thrown', () => {
  const file = made('damaged.p12', '-noiter', '-nomaciter');
  const seen = new Set<string>();
  for (let at = 0; at < file.length; at += 7) {
    const bent = Buffer.from(file);
    bent[at] = (bent[at] ?? 0) ^ 0x41;
    seen.add(outcome(bent, PHRASE));
    seen.add(outcome(file.subarray(0, at), PHRASE));
  }
  expect([...seen].sort()).toEqual(expect.arrayContaining(['pkcs12-malformed', 'pkcs12-passphrase']));
  expect(
    [...seen].filter(
      (code) =>
        !['read', 'pkcs12-malformed', 'pkcs12-passphrase', 'algorithm-unsupported', 'pkcs12-excessive', 'archived-key-sealed'].includes(
          code,
        ),
    ),
  ).toEqual([]);
  expect(outcome(certificate, PHRASE)).toBe('pkcs12-malformed');
  expect(outcome(Buffer.from('-----BEGIN'), PHRASE)).toBe('pkcs12-malformed');
});

test('a file that wants its reader busy for long is refused before that', () => {
  const slow = made('slow.p12', '-iter', '65537');
  expect(outcome(slow, PHRASE)).toBe('read');
  const at = slow.lastIndexOf(Buffer.from('0203010001', 'hex'));
  expect(at).toBeGreaterThan(slow.length - 8);
  slow.write('7fffff', at + 2, 'hex');
  expect(outcome(slow, PHRASE)).toBe('pkcs12-excessive');
});
