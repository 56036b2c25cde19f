import { execFileSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { compat, modern, pkcs12, readPkcs12 } from '../../src/codec/pkcs12/index.js';
import { isFault } from '../../src/foundation/index.js';
import { foreignKeys } from '../../src/tokens/foreign-keys.js';

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

  test('a pass phrase beyond the first plane, one from a Latin-1 terminal, and one of which OpenSSL before 1.1.0 made a character an octet', () => {
    const from = (file: string, words: Buffer, ...form: string[]) => {
      writeFileSync(path('words'), words);
      openssl(
        'pkcs12',
        '-export',
        '-inkey',
        'key.pem',
        '-in',
        'cert.pem',
        '-passout',
        'file:words',
        '-noiter',
        '-nomaciter',
        '-out',
        file,
        ...form,
      );
      return readFileSync(path(file));
    };
    for (const form of [[], ['-legacy']]) {
      expect(same(readPkcs12(from('plane.p12', Buffer.from('𝔊rüße 😀'), ...form), '𝔊rüße 😀').keys[0])).toBe(true);
      expect(same(readPkcs12(from('latin.p12', Buffer.from('Grüße', 'latin1'), ...form), 'Grüße').keys[0])).toBe(true);
    }
    // What it wrote for "Grüße" is what is written now for the words that those octets would be.
    const widened = Buffer.from(Buffer.from('Grüße').toString('latin1'));
    const old = from('octets.p12', widened, '-legacy');
    expect(same(readPkcs12(old, 'Grüße').keys[0])).toBe(true);
    expect(outcome(old, 'Grüsse')).toBe('pkcs12-passphrase');
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

test('what gpgsm writes, by a pass phrase of any letters', () => {
  // A home of its own: the agent's socket has a short name only.
  const home = mkdtempSync('/tmp/ekms-gpgsm-');
  writeFileSync(join(home, 'gpg-agent.conf'), 'allow-loopback-pinentry\n');
  const gpgsm = (input: string, ...words: string[]) =>
    execFileSync(
      'gpgsm',
      ['--homedir', home, '--batch', '--pinentry-mode', 'loopback', '--passphrase-fd', '0', '--disable-crl-checks', ...words],
      {
        cwd: folder,
        input,
        stdio: ['pipe', 'pipe', 'pipe'],
      },
    );
  try {
    openssl('pkcs12', '-export', '-inkey', 'key.pem', '-in', 'cert.pem', '-legacy', '-passout', 'pass:Grüße', '-out', 'to-gpgsm.p12');
    gpgsm('Grüße\n', '--import', 'to-gpgsm.p12');
    // Of one salt in 128 it derives what nobody else does (protect.ts), and there are two in a file: then it is asked again.
    let file: Buffer;
    let times = 0;
    do file = gpgsm('Grüße\n', '--export-secret-key-p12', 'anna@corp.example');
    while (outcome(file, 'Grüße') !== 'read' && ++times < 4);
    const { keys, certificates } = readPkcs12(file, 'Grüße');
    expect(keys.map(same)).toEqual([true]);
    expect(certificates).toEqual([certificate]);
  } finally {
    execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'], { stdio: 'ignore' });
    rmSync(home, { recursive: true, force: true });
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
  // A store of several entries, as mail gateways keep: each key is told by itself.
  const ec = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=Bob'];
  openssl(...ec, '-keyout', 'bob.pem', '-out', 'bob-cert.pem');
  openssl('pkcs12', '-export', '-inkey', 'bob.pem', '-in', 'bob-cert.pem', '-name', 'bob', '-passout', 'pass:to java', '-out', 'bob.p12');
  run(
    '-importkeystore',
    '-noprompt',
    '-srckeystore',
    'bob.p12',
    '-srcstorepass',
    'to java',
    '-destkeystore',
    'new.p12',
    '-deststorepass',
    'from java',
  );
  const problems = foreignKeys(readFileSync(path('new.p12')), 'from java', ({ keys }) => keys.map(({ problem }) => problem ?? 'taken'));
  expect(problems.sort()).toEqual(['key-unsupported', 'taken']);
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
