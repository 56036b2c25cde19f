import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { Command } from 'commander';
import { acceptKey } from '../../client/src/keys/index.js';
import { readCertificate } from '../../client/src/x509/index.js';
import { children, type Element, octetString, octetsOf, readWhole, sequence, TAG, tlv } from '../../src/codec/asn1/index.js';
import { compat, pkcs12 } from '../../src/codec/pkcs12/index.js';
import type { ActName } from '../../src/commands/acts.js';
import { checkData } from '../../src/commands/consistency.js';
import { importCommands } from '../../src/commands/import-commands.js';
import { ImportReport } from '../../src/commands/import-report.js';
import type { ImportedKey } from '../../src/custody/index.js';
import { Fault, newId } from '../../src/foundation/index.js';
import type * as foreign from '../../src/tokens/foreign-keys.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { openKey } from '../support/open-delivery.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';
import { PHRASE, p12Maker } from './p12-maker.js';
import { p12sIn, takeSamples } from './pkcs12-samples.js';

jest.setTimeout(60_000);
let house: HouseInProcess;
let folder: string;
let alice: WireDevice;
let bob: WireDevice;

const openssl = (...words: string[]) => execFileSync('openssl', words, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
const read = (name: string) => readFileSync(join(folder, name));
/** A self-signed certificate with its key, as PKCS#12. */
function file(name: string, { bits = 2048, address = 'alice@corp.example', usage = 'keyEncipherment', curve = '' } = {}): Buffer {
  const kind = curve === '' ? ['rsa', '-pkeyopt', `rsa_keygen_bits:${bits}`] : ['ec', '-pkeyopt', `ec_paramgen_curve:${curve}`];
  const names = ['-subj', '/CN=Somebody', '-addext', `subjectAltName=email:${address}`, '-addext', `keyUsage=critical,${usage}`];
  openssl('req', '-x509', '-newkey', ...kind, '-nodes', '-keyout', `${name}.key`, '-out', `${name}.pem`, '-days', '2', ...names);
  const quick = ['-passout', 'pass:phrase', '-noiter', '-nomaciter'];
  openssl('pkcs12', '-export', '-inkey', `${name}.key`, '-in', `${name}.pem`, ...quick, '-out', `${name}.p12`);
  return read(`${name}.p12`);
}
const take = (bytes: Buffer, more: object = {}) =>
  house.act('key.import', { file: bytes.toString('base64'), phrase: 'phrase', dryRun: false, ...more }) as Promise<ImportedKey[]>;
const imported = () => house.house.storage.all<{ id: string }>("SELECT id FROM keys WHERE origin = 'imported' ORDER BY id");
const badFindings = async () => (await checkData(house.house.storage, house.token)).filter(({ verdict }) => verdict === 'bad');

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-import-'));
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 1 } } } });
  alice = await enrolDevice(house, 'alice@corp.example');
  bob = await enrolDevice(house, 'bob@corp.example');
  await keysOf(house, alice);
});
afterAll(async () => {
  await house?.close();
  rmSync(folder, { recursive: true, force: true });
});

test('a dry run says what would be done and does nothing; done twice it is there once; its owner’s device gets it, marked, for reading', async () => {
  const old = file('old');
  expect(await take(old, { dryRun: true })).toMatchObject([
    { outcome: 'importable', employee: alice.employee, weak: false, expired: false },
  ]);
  expect(await imported()).toEqual([]);
  expect(await take(old)).toMatchObject([{ outcome: 'imported', employee: alice.employee }]);
  expect(await take(old)).toMatchObject([{ outcome: 'there' }]);
  expect(await take(old, { dryRun: true })).toMatchObject([{ outcome: 'there' }]);
  expect(await imported()).toHaveLength(1);

  const served = (await keysOf(house, alice)).find((key) => (key as { imported?: boolean }).imported);
  expect(served).toMatchObject({ state: 'deactivated', mode: 'deliver' });
  const receiver = { device: alice.id, addresses: [alice.address], root: readCertificate(house.root), deliveryKey: alice.keys.delivery };
  const accept = (change: object = {}) =>
    acceptKey({ ...served, suite: 'rsa', ...change } as Parameters<typeof acceptKey>[0], receiver, new Date());
  const pkcs8 = { format: 'der', type: 'pkcs8' } as const;
  expect(accept().privateKey?.export(pkcs8)).toEqual(createPrivateKey(read('old.key')).export(pkcs8));
  expect(accept().leaves[0]?.der).toEqual(new X509Certificate(read('old.pem')).raw);
  // Without the mark, or as an active key, it is refused: no authority that the device trusts stands behind its certificate.
  expect(() => accept({ imported: undefined })).toThrow('refused');
  expect(() => accept({ state: 'active' })).toThrow('never the active one');

  expect(await badFindings()).toEqual([]);
  const mark = (origin: string | null) =>
    house.house.storage.write((unit) => unit.run('UPDATE keys SET origin = ? WHERE bits > 0 AND state = ?', [origin, 'deactivated']));
  await mark(null);
  expect(await badFindings()).not.toEqual([]);
  await mark('imported');
});

test('what cannot be taken is told by a code, a key at a time, and leaves nothing behind', async () => {
  const before = await imported();
  const code = (bytes: Buffer, more: object = {}) =>
    take(bytes, more).then(
      ([key]) => key?.code ?? key?.outcome,
      (error: { code: string }) => error.code,
    );
  const other = file('other', { address: 'nobody@corp.example' });
  expect(await code(other)).toBe('owner-unknown');
  expect(await code(other, { phrase: 'wrong' })).toBe('pkcs12-passphrase');
  expect(await code(Buffer.from('nothing of the kind'))).toBe('pkcs12-malformed');
  // As AD CS hands out what it archived: for a recovery agent's key, which is not here, and signed by the authority.
  openssl('cms', '-encrypt', '-binary', '-aes256', '-in', 'other.key', '-outform', 'DER', '-out', 'sealed', 'other.pem');
  openssl(
    'cms',
    '-sign',
    '-binary',
    '-nodetach',
    '-in',
    'sealed',
    '-signer',
    'other.pem',
    '-inkey',
    'other.key',
    '-outform',
    'DER',
    '-out',
    'blob',
  );
  for (const name of ['sealed', 'blob'])
    await expect(take(read(name))).rejects.toMatchObject({
      code: 'archived-key-sealed',
      message: expect.stringMatching(/certutil -getkey .*certutil -recoverkey/),
    });
  const text = read('other.p12').toString('base64');
  for (const bytes of [text, `-----BEGIN PKCS12-----\n${text}`])
    await expect(take(Buffer.from(bytes))).rejects.toMatchObject({
      code: 'pkcs12-malformed',
      message: expect.stringContaining('base64 -d'),
    });
  expect(await code(file('sign', { usage: 'digitalSignature' }))).toBe('signing-only');
  expect(await code(file('ec', { curve: 'P-256', usage: 'keyAgreement' }))).toBe('key-unsupported');
  // OpenSSL takes a modulus of any length, and longer for each use of it: minutes, hours.
  const [version, algorithm, key] = children(readWhole(createPrivateKey(read('other.key')).export({ format: 'der', type: 'pkcs8' })));
  const [zero, , ...numbers] = key ? children(readWhole(octetsOf(key))) : [];
  const whole = (...parts: (Element | undefined)[]) => parts.map((part) => part?.whole ?? Buffer.alloc(0));
  const rsa = sequence(...whole(zero), tlv(TAG.integer, Buffer.alloc(4_000, 0x7f)), ...whole(...numbers));
  const der = sequence(...whole(version, algorithm), octetString(rsa));
  const endless = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const own = { name: '', privateKey: endless, leaves: [readCertificate(read('other.pem'))], authorities: [] };
  expect(await code(pkcs12(own, compat('phrase')))).toBe('key-unsupported');
  const without = ['pkcs12', '-export', '-passout', 'pass:phrase', '-noiter', '-nomaciter'];
  openssl(...without, '-nocerts', '-inkey', 'other.key', '-out', 'bare.p12');
  expect(await code(read('bare.p12'))).toBe('certificate-missing');
  openssl(...without, '-nokeys', '-in', 'sign.pem', '-out', 'certificates.p12');
  expect(await take(read('certificates.p12'))).toEqual([]);
  const foreign = {
    name: '',
    privateKey: createPrivateKey(read('other.key')),
    leaves: [{ der: new X509Certificate(read('sign.pem')).raw }],
    authorities: [],
  };
  expect(await code(pkcs12(foreign, compat('phrase')))).toBe('key-foreign');
  expect(await imported()).toEqual(before);

  expect(await code(read('old.p12'), { owner: 'bob@corp.example' })).toBe('owner-other');
  expect(await take(other, { owner: bob.employee, dryRun: true })).toMatchObject([{ outcome: 'importable', employee: bob.employee }]);
  const weak = file('weak', { bits: 1024, address: 'bob@corp.example' });
  expect(await take(weak)).toMatchObject([{ outcome: 'imported', weak: true, employee: bob.employee }]);
  expect(await house.house.auditReader.latest(1)).toMatchObject([
    { body: { action: 'key.import', outcome: 'done', employee: bob.employee } },
  ]);
});

test('a file is opened once: what the token takes of it is wrapped then, becomes a key for reading only, and a signing key is not taken at all', async () => {
  const { token } = house.house;
  const look = async (name: string, take = true) => (await token.look(read(`${name}.p12`), 'phrase', take)).keys[0];
  expect((await look('old', false))?.found).toBeUndefined();
  expect(await look('sign')).toMatchObject({ problem: 'signing-only' });
  expect((await look('sign'))?.found).toBeUndefined();
  const unguarded = guardOff<typeof foreign>({
    file: 'src/tokens/foreign-keys.ts',
    guard: "return own.some(({ forEncryption }) => forEncryption) ? undefined : 'signing-only';",
    instead: 'return undefined;',
  });
  expect(unguarded.foreignKeys(read('sign.p12'), 'phrase', ({ keys }) => keys.map(({ problem }) => problem))).toEqual([undefined]);
  const { sealed } = (await look('old'))?.found ?? {};
  if (!sealed) throw new Error('nothing was taken');
  const to = { key: newId(), employee: alice.employee, mode: 'deliver' } as const;
  expect((await token.adopt(sealed, to)).record).toMatchObject({
    state: 'deactivated',
    origin: 'imported',
    wrapped: sealed.record.wrapped,
  });
  const bent = { ...sealed, record: { ...sealed.record, bits: 4096 } };
  await expect(token.adopt(bent, to)).rejects.toMatchObject({ code: 'record-forged' });
  // It is no pair of the pool, of which an active key would come, whatever it is called.
  for (const record of [sealed.record, { ...sealed.record, type: 'pool', n: 1_000 }])
    await expect(token.assign({ record, mac: sealed.mac } as never, to)).rejects.toMatchObject({
      code: expect.stringMatching(/^(record-forged|token-ask-malformed)$/),
    });
});

test('published samples (test/vectors/pkcs12) are imported, or refused by a name that says why', async () => {
  const told = await takeSamples(house, p12sIn(resolve(__dirname, '../vectors/pkcs12')), alice.employee);
  const by = (outcome: string) => [...told].filter(([, one]) => one === outcome).map(([name]) => name);
  expect(by('imported')).toEqual([
    'InvalidRFC822nameConstraintsTest22EE.p12',
    'ValidRFC822nameConstraintsTest21EE.p12',
    'ValidRFC822nameConstraintsTest23EE.p12',
    'rfc9579-a1.p12',
  ]);
  expect(by('signing-only')).toEqual(['nameConstraintsRFC822CA1Cert.p12']);
  // Keys on a curve, or of DSA; certificates without a key.
  expect(by('key-unsupported')).toHaveLength(21);
  expect(by('key-missing')).toHaveLength(11);
  expect(by('imported').length + by('signing-only').length + 21 + by('key-missing').length).toBe(told.size);
});

test('the command asks again for what its lost answers were about, and for all that a report which was cut off does not name; each key is there once', async () => {
  const files = join(folder, 'files');
  mkdirSync(files);
  const make = p12Maker();
  for (let n = 0; n < 6; n++) {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    writeFileSync(join(files, `${n}.p12`), (await make(alice.address, privateKey)).p12);
  }
  writeFileSync(join(files, 'a letter'), '');
  writeFileSync(join(folder, 'phrases.csv'), `*,${PHRASE}\n`);
  const report = join(folder, 'report');
  const run = async (ask: (act: ActName, args: object) => Promise<unknown>, from = files, ...more: string[]) => {
    const ekms = new Command().exitOverride();
    importCommands(ekms, { print: () => undefined, ask });
    const words = ['import', 'p12', from, '--passphrases', join(folder, 'phrases.csv'), '--report', report, ...more];
    await ekms.parseAsync(words, { from: 'user' });
  };
  const said = () =>
    readFileSync(report, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as ImportedKey).outcome);
  const lost = () => Promise.reject(new Fault('unavailable', 'answer-lost', 'killed'));
  const before = await imported();
  const progress = jest.spyOn(console, 'error').mockImplementation(() => undefined);

  await expect(run(() => Promise.reject(new Fault('unavailable', 'not-running', 'down')))).rejects.toMatchObject({ code: 'not-running' });
  expect(existsSync(report)).toBe(false);
  // What a dry run writes down is no reason to leave anything out: the second copy would be, when the first one is then refused.
  copyFileSync(join(files, '0.p12'), join(files, 'copy.p12'));
  await run((name, args) => (name === 'key.import' ? house.act(name, args) : Promise.resolve()), files, '--dry-run');
  expect(said().sort()).toEqual([...Array<string>(6).fill('importable'), 'there']);
  rmSync(join(files, 'copy.p12'));
  const dry = said().length;
  // Killed once before it did the act, and once after.
  const deaths = [lost, (args: object) => house.act('key.import', args).then(lost)];
  await run(async (name, args) => (name === 'key.import' ? (deaths.pop()?.(args) ?? house.act(name, args)) : undefined));
  expect(deaths).toEqual([]);
  expect(said().slice(dry).sort()).toEqual([...Array<string>(5).fill('imported'), 'there']);
  expect(await imported()).toHaveLength(before.length + 6);
  // As the command's own death leaves it: half a line, and lines that were never written.
  writeFileSync(
    report,
    readFileSync(report, 'utf8')
      .split('\n')
      .slice(0, dry + 3)
      .join('\n')
      .slice(0, -20),
  );
  let asked = 0;
  const counted = async (name: ActName, args: object) => {
    if (name === 'key.import') asked++;
    return name === 'key.import' ? house.act(name, args) : undefined;
  };
  await run(counted);
  expect(asked).toBe(4);
  // Every line is whole again, and another file of a name that was taken is another file.
  await run(counted);
  expect(asked).toBe(4);
  const elsewhere = join(folder, 'elsewhere');
  mkdirSync(elsewhere);
  copyFileSync(join(files, '1.p12'), join(elsewhere, '0.p12'));
  writeFileSync(join(elsewhere, '1.p12'), (await make(alice.address, generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey)).p12);
  symlinkSync('nowhere', join(elsewhere, '2.p12'));
  mkdirSync(join(elsewhere, '3.p12'));
  await run(counted, elsewhere);
  progress.mockRestore();
  expect(asked).toBe(5);
  expect(await imported()).toHaveLength(before.length + 7);
});

test('a file of which a report names fewer keys than it has, or one that was not taken, is opened again', async () => {
  const path = join(folder, 'lines');
  const file = Buffer.from('two keys');
  const here = [{ outcome: 'imported' }, { outcome: 'there' }];
  const isTaken = async (lines: object[], dryRun = false) => {
    rmSync(path, { force: true });
    for (const some of lines) {
      const report = await ImportReport.open(path);
      await report.tell(file, some as { outcome: string }[], dryRun);
      await report.close();
    }
    return (await ImportReport.open(path)).isTaken(file);
  };
  expect(await isTaken([here])).toBe(true);
  expect(await isTaken([here], true)).toBe(false);
  const text = await isTaken([here]).then(() => readFileSync(path, 'utf8').split('\n'));
  for (const lines of [text.slice(0, 1), text.slice(1), [text[1], text[0]], [text[0], '{', text[1]?.slice(1)], ['null', '7', text[1]]]) {
    writeFileSync(path, lines.join('\n'));
    expect((await ImportReport.open(path)).isTaken(file)).toBe(false);
  }
  expect(await isTaken([[{ outcome: 'refused' }, { outcome: 'there' }]])).toBe(false);
  expect(await isTaken([[{ outcome: 'there' }, { outcome: 'refused' }], here])).toBe(true);
  expect(await isTaken([here, [{ outcome: 'there' }, { outcome: 'refused' }]])).toBe(false);
});

test('of two files with one key for two people, at once, one is imported and the other refused by name', async () => {
  const both = file('both');
  const told = await Promise.all([alice, bob].map(({ address }) => take(both, { owner: address })));
  const [won, lost] = told.flat().sort((a, b) => a.outcome.localeCompare(b.outcome));
  expect(won).toMatchObject({ outcome: 'imported' });
  expect(lost).toMatchObject({ outcome: 'refused', code: 'owner-other' });
  expect(lost?.employee).toBeUndefined();
});

test('a key that is imported for a shared mailbox is its members’, on their devices', async () => {
  const SALES = 'sales@corp.example';
  await house.act('mailbox.create', { address: SALES });
  await house.act('mailbox.add', { mailbox: SALES, who: 'alice@corp.example' });
  expect(await take(file('sales', { address: SALES }))).toMatchObject([{ outcome: 'imported' }]);
  const keys = (await keysOf(house, alice)).filter((key) => (key as { mailbox?: string }).mailbox === SALES);
  const old = keys.find((key) => (key as { imported?: boolean }).imported);
  const pkcs8 = { format: 'der', type: 'pkcs8' } as const;
  expect(openKey(old?.delivery ?? null, alice.keys.delivery).export(pkcs8)).toEqual(createPrivateKey(read('sales.key')).export(pkcs8));
  // To somebody else's devices it goes no more than any other key.
  expect((await keysOf(house, bob)).map(({ id }) => id)).not.toContain(old?.id);
});

test('a certificate that has ended is told, and of several addresses that belong to several people none is chosen', async () => {
  const names = 'alice@corp.example,email:bob@corp.example';
  expect(await take(file('two', { address: names }), { dryRun: true })).toMatchObject([{ code: 'owner-ambiguous', expired: false }]);
  house.pass(3 * 86_400_000);
  expect(await take(read('two.p12'), { dryRun: true, owner: alice.employee })).toMatchObject([
    { outcome: 'importable', expired: true, words: expect.stringContaining('has expired') },
  ]);
});
