import 'reflect-metadata';
import { type ChildProcess, spawn } from 'node:child_process';
import { createCipheriv, createHmac, type KeyObject, pbkdf2Sync, randomBytes, webcrypto } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import * as x509 from '@peculiar/x509';
import { integer, nothing, octetString, oid, sequence } from '../../src/codec/asn1/index.js';
import { derive, type Protection, PURPOSE, pkcs12 } from '../../src/codec/pkcs12/index.js';
import { openStorage } from '../../src/storage/index.js';
import { CustodyHome } from '../faults/custody-home.js';
import { enrolDevice } from '../support/wire-device.js';

const EKMS = resolve(import.meta.dirname, '../../dist/programs/main.js');
/** The least that is taken. */
const BITS = 1_024;
const USAGE = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };

/** What openssl and NSS write. */
const ROUNDS = 2_048;
const AS_OPENSSL: Protection = {
  encrypt(plain) {
    const [salt, iv] = [randomBytes(16), randomBytes(16)];
    const cipher = createCipheriv('aes-256-cbc', pbkdf2Sync('phrase', salt, ROUNDS, 32, 'sha256'), iv);
    const prf = sequence(oid('1.2.840.113549.2.9'), nothing());
    const kdf = sequence(oid('1.2.840.113549.1.5.12'), sequence(octetString(salt), integer(ROUNDS), prf));
    const scheme = sequence(oid('2.16.840.1.101.3.4.1.42'), octetString(iv));
    const algorithm = sequence(oid('1.2.840.113549.1.5.13'), sequence(kdf, scheme));
    return { algorithm, encrypted: Buffer.concat([cipher.update(plain), cipher.final()]) };
  },
  mac(content) {
    const salt = randomBytes(8);
    const digest = createHmac('sha256', derive('sha256', 'phrase', salt, ROUNDS, PURPOSE.mac, 32))
      .update(content)
      .digest();
    const algorithm = sequence(oid('2.16.840.1.101.3.4.2.1'), nothing());
    return sequence(sequence(algorithm, octetString(digest)), octetString(salt), integer(ROUNDS));
  },
};

/** A file with a self-signed certificate for the address. */
async function makeFile(path: string, address: string, privateKey: KeyObject): Promise<void> {
  const signer = await webKey(privateKey);
  const now = Date.now();
  const certificate = await x509.X509CertificateGenerator.create({
    ...{ serialNumber: '01', subject: 'CN=Former', issuer: 'CN=Former', signingKey: signer, signingAlgorithm: USAGE },
    ...{ notBefore: new Date(now - 60_000), notAfter: new Date(now + 86_400_000) },
    publicKey: await publicHalf(privateKey),
    extensions: [
      new x509.SubjectAlternativeNameExtension([{ type: 'email', value: address }]),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyEncipherment, true),
    ],
  });
  const identity = { name: address, privateKey, leaves: [{ der: Buffer.from(certificate.rawData) }], authorities: [] };
  writeFileSync(path, pkcs12(identity, AS_OPENSSL));
}

const webKey = (key: KeyObject) =>
  webcrypto.subtle.importKey('pkcs8', key.export({ format: 'der', type: 'pkcs8' }), USAGE, false, ['sign']);
async function publicHalf(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const { n, e, kty } = key.export({ format: 'jwk' });
  return webcrypto.subtle.importKey('jwk', { n, e, kty } as webcrypto.JsonWebKey, USAGE, true, ['verify']); // an RSA key has these
}

/** @param makeKeys so many RSA keys, each another one, quickly (products of a few hundred primes) */
export async function main(makeKeys: (count: number, bits: number) => KeyObject[]): Promise<void> {
  const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '100000' } } });
  const count = Number(values.count);
  const home = await CustodyHome.make({ durability: 'one', keys: { bits: 2048, pool: { target: 1 } } });
  try {
    await home.must('init', '--domain', 'corp.example');
    await home.serve();
    const alice = await enrolDevice(home.door(await home.issueApp()), 'alice@corp.example');
    const folder = home.beside('files');
    mkdirSync(folder);
    const began = Date.now();
    for (const [n, key] of makeKeys(count, BITS).entries()) await makeFile(join(folder, `${n}.p12`), alice.address, key);
    console.log(`${count} files are made in ${Math.round((Date.now() - began) / 1000)} s`);
    writeFileSync(home.beside('phrases.csv'), '*,phrase\n');
    const words = ['import', 'p12', folder, '--passphrases', home.beside('phrases.csv'), '--report', home.beside('report')];
    const run = (): ChildProcess =>
      spawn(process.execPath, [EKMS, ...words], { env: { ...process.env, EKMS_HOME: home.path }, stdio: ['ignore', 'ignore', 'inherit'] });
    const first = run();
    const started = Date.now();
    // In the middle, whatever it is doing then.
    while (lines(home.beside('report')) < count / 2 && first.exitCode === null) await sleep(20);
    const killedAt = lines(home.beside('report'));
    const rate = (killedAt * 1000) / (Date.now() - started);
    first.kill('SIGKILL');
    await once(first, 'close');
    const second = run();
    const ended = once(second, 'close');
    let peak = 0;
    while (second.exitCode === null && second.signalCode === null) {
      peak = Math.max(peak, residentMiB(second.pid ?? 0));
      await sleep(20);
    }
    const [status] = (await ended) as [number | null];
    const storage = await openStorage({ url: 'sqlite:ekms.db', home: home.path });
    const row = await storage.one<{ keys: number; owners: number }>(
      `SELECT COUNT(DISTINCT public_key) AS "keys", COUNT(DISTINCT employee) AS "owners" FROM keys WHERE origin = 'imported'`,
    );
    const entries = await storage.one<{ n: number }>(`SELECT COUNT(*) AS "n" FROM audit_entries WHERE action = 'key.import'`);
    await storage.close();
    const outcome = {
      files: count,
      killedAt,
      status,
      ...row,
      entries: entries?.n,
      perSecond: Math.round(rate),
      commandMiB: peak,
      reportBytes: statSync(home.beside('report')).size,
    };
    console.log(JSON.stringify(outcome));
    for (const [words, times] of refusalsIn(home.beside('report'))) console.log(`${times} refused: ${words}`);
    if (status !== 0 || row?.keys !== count || row.owners !== 1 || entries?.n !== count) process.exitCode = 1;
  } finally {
    await home.stop();
    await home.remove();
  }
}

const lines = (path: string): number => (existsSync(path) ? readFileSync(path, 'latin1').split('\n').length - 1 : 0);

/** What the report says of files that were not taken, and how often. */
function refusalsIn(report: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const text of readFileSync(report, 'utf8')
    .split('\n')
    .filter((line) => line.includes('"refused"'))) {
    const { words } = JSON.parse(text) as { words: string };
    found.set(words, (found.get(words) ?? 0) + 1);
  }
  return found;
}

function residentMiB(pid: number): number {
  try {
    return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024);
  } catch {
    return 0; // it has ended
  }
}
