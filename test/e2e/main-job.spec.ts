import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Appliance } from '../support/appliance.js';
import { type MailReader, openGpgsm, openNss } from '../support/mail-readers.js';
import { enrolDevice, fetchKeys, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);
const MAIL = resolve(__dirname, '../vectors/eml/nested.eml');
const OAEP = ['-keyopt', 'rsa_padding_mode:oaep'];
const OAEP_SHA256 = [...OAEP, '-keyopt', 'rsa_oaep_md:sha256'];

describe('the main job on SQLite', () => mainJob('sqlite'));
// A test that was left out must not look like one that passed: database.ts says so once for the whole run.
(process.env['EKMS_TEST_POSTGRES'] ? describe : describe.skip)('the main job on PostgreSQL', () => mainJob('postgres'));

function mainJob(database: 'sqlite' | 'postgres'): void {
  let ekms: Appliance;
  const openssl = (...words: string[]) =>
    execFileSync('openssl', words, { cwd: ekms.folder, stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 64 << 20 });
  const encrypt = (from: string, to: string, ...words: string[]) =>
    openssl('cms', '-encrypt', '-binary', '-in', from, '-out', to, ...words);
  const decrypt = async (device: string, mail: string, ...more: string[]) => {
    const { status, stderr } = await ekms.mesign(device, 'decrypt', ekms.beside(mail), '-o', ekms.beside('opened'), ...more);
    if (status !== 0) throw new Error(stderr);
    return readFileSync(ekms.beside('opened'));
  };

  beforeAll(async () => {
    ekms = await Appliance.open({ database });
    for (const [device, person] of [
      ['laptop', 'alice'],
      ['bobs', 'bob'],
    ] as const) {
      expect(await ekms.enroll(device, person)).toMatchObject({ status: 0 });
      const [key] = await ekms.listKeys(device);
      writeFileSync(ekms.beside(`${person}.pem`), key?.certificates[0] ?? '');
    }
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'eve.key', '-out', 'eve.pem', '-subj', '/CN=Eve');
  });
  afterAll(() => ekms?.close());

  test.each<[string, () => void]>([
    ['RSA PKCS#1 v1.5, AES-256-CBC', () => encrypt(MAIL, 'm', '-aes256', 'alice.pem')],
    ['RSA PKCS#1 v1.5, AES-128-CBC', () => encrypt(MAIL, 'm', '-aes128', 'alice.pem')],
    ['RSA-OAEP with SHA-1, AES-256-CBC', () => encrypt(MAIL, 'm', '-aes256', '-recip', 'alice.pem', ...OAEP)],
    ['RSA-OAEP with SHA-256, AES-256-CBC', () => encrypt(MAIL, 'm', '-aes256', '-recip', 'alice.pem', ...OAEP_SHA256)],
    ['RSA PKCS#1 v1.5, AES-256-GCM', () => encrypt(MAIL, 'm', '-aes-256-gcm', 'alice.pem')],
    ['RSA-OAEP, AES-128-GCM', () => encrypt(MAIL, 'm', '-aes-128-gcm', '-recip', 'alice.pem', ...OAEP)],
    ['two recipients, she is the second', () => encrypt(MAIL, 'm', '-aes256', 'bob.pem', 'alice.pem')],
    ['named by subject key identifier', () => encrypt(MAIL, 'm', '-aes256', '-keyid', 'alice.pem')],
    [
      'signed inside encrypted',
      () => {
        openssl('cms', '-sign', '-binary', '-nodetach', '-in', MAIL, '-out', 's', '-signer', 'eve.pem', '-inkey', 'eve.key');
        encrypt('s', 'm', '-aes256', 'alice.pem');
      },
    ],
    [
      'encrypted inside encrypted',
      () => {
        encrypt(MAIL, 'e', '-aes-256-gcm', 'alice.pem');
        encrypt('e', 'm', '-aes256', '-recip', 'alice.pem', ...OAEP_SHA256);
      },
    ],
  ])('a mail that openssl made for alice opens byte for byte: %s', async (_, make) => {
    make();
    expect((await decrypt('laptop', 'm')).equals(readFileSync(MAIL))).toBe(true);
  });

  test('every use of her keys is listed and proved, twice; a use that is another than the one seen before is an alarm', async () => {
    for (const again of [false, true]) {
      const { status, stdout, stderr } = await ekms.mesign('laptop', 'log', '--json');
      expect({ again, status, stderr }).toMatchObject({ status: 0, stderr: expect.stringContaining('proved in a log of') });
      const uses = JSON.parse(stdout) as { action: string }[];
      expect(uses.map(({ action }) => action)).toEqual(expect.arrayContaining(['key.deliver']));
    }
    const memory = join(ekms.folder, 'laptop', 'log.json');
    const known = JSON.parse(readFileSync(memory, 'utf8')) as { uses: Record<string, { leaf: string }> };
    for (const use of Object.values(known.uses)) use.leaf = 'A'.repeat(43);
    writeFileSync(memory, JSON.stringify(known));
    expect(await ekms.mesign('laptop', 'log')).toMatchObject({ status: 1, stderr: expect.stringContaining('ALARM') });
    rmSync(memory);
  });

  test('bob cannot open her mail, and no output is left', async () => {
    encrypt(MAIL, 'm', '-aes256', 'alice.pem');
    expect(await ekms.mesign('bobs', 'decrypt', ekms.beside('m'), '-o', ekms.beside('none'))).toMatchObject({ status: 3 });
    expect(() => readFileSync(ekms.beside('none'))).toThrow('ENOENT');
  });

  test.each<[string, 'modern' | 'compat', (folder: string) => MailReader]>([
    ['NSS cmsutil', 'modern', openNss],
    ['gpgsm', 'compat', openGpgsm],
  ])('%s reads the CBC mail after mesign export (%s)', async (_, profile, open) => {
    const [key] = await ekms.listKeys('laptop');
    const [p12, words] = [ekms.beside(`${profile}.p12`), ekms.beside('p12-words')];
    writeFileSync(words, 'a rather long pass phrase\n', { mode: 0o600 });
    expect(
      await ekms.mesign('laptop', 'export', '--key', key?.id ?? '', '--p12', p12, '--profile', profile, '--p12-passphrase-file', words),
    ).toMatchObject({ status: 0 });
    encrypt(MAIL, 'm.der', '-aes256', '-outform', 'DER', 'alice.pem');
    const reader = open(ekms.beside(`${profile}-reader`));
    try {
      reader.importKey(p12, 'a rather long pass phrase');
      expect(reader.decrypt(ekms.beside('m.der')).equals(readFileSync(MAIL))).toBe(true);
    } finally {
      reader.close();
    }
  });

  test('her second device, under a pass phrase, has the same key and opens the same mail', async () => {
    writeFileSync(ekms.beside('passphrase'), 'correct horse battery staple\n', { mode: 0o600 });
    const phrase = ['--passphrase-file', ekms.beside('passphrase')];
    expect(await ekms.enroll('phone', 'alice', ...phrase)).toMatchObject({ status: 0 });
    expect(await ekms.listKeys('phone', ...phrase)).toEqual(await ekms.listKeys('laptop'));
    encrypt(MAIL, 'm', '-aes256', 'alice.pem');
    expect((await decrypt('phone', 'm', ...phrase)).equals(readFileSync(MAIL))).toBe(true);
  });

  test('a key that was retired still comes along, with the new one, and still opens its mail', async () => {
    const [former] = await ekms.listKeys('laptop');
    encrypt(MAIL, 'm', '-aes256', 'alice.pem');
    expect(await ekms.ekms('key', 'set-state', former?.id ?? '', 'deactivated')).toMatchObject({ status: 0 });
    // A person without an active key is given one with the next device.
    expect(await ekms.enroll('tablet', 'alice')).toMatchObject({ status: 0 });
    const keys = await ekms.listKeys('tablet');
    expect(keys.map(({ state }) => state)).toEqual(['active', 'deactivated']);
    expect(keys[1]?.id).toBe(former?.id);
    expect((await decrypt('tablet', 'm')).equals(readFileSync(MAIL))).toBe(true);
    expect(await ekms.listKeys('laptop')).toEqual(keys);
  });

  test('every release is an entry of the log, and the counter of the key is without a gap', async () => {
    const [key] = await ekms.listKeys('bobs');
    const uses = (await ekms.log(200)).filter((entry) => entry.key === key?.id);
    expect(uses.length).toBeGreaterThan(1);
    expect(uses.map(({ use }) => Number(use))).toEqual(uses.map((_, at) => at + 1));
    expect(uses.every(({ action, outcome }) => action === 'key.deliver' && outcome === 'done')).toBe(true);
  });
}

describe('with an empty pool', () => {
  let ekms: Appliance;
  beforeAll(async () => {
    ekms = await Appliance.open({ settings: { keys: { bits: 2048, pool: { target: 0 } } } });
  });
  afterAll(() => ekms?.close());

  test('a device is enrolled at once, its key is pending, and comes when the pool is filled', async () => {
    const enrolling = ekms.enroll('laptop', 'alice');
    await ekms.mailed('alice@corp.example', (mail) => /^Subject: (A new device can)/m.exec(mail)?.[1]);
    expect(await ekms.ekms('pool', 'fill', '--count', '1')).toMatchObject({ status: 0 });
    const { status, stderr } = await enrolling;
    expect({ status, stderr }).toMatchObject({ status: 0, stderr: expect.stringContaining('making your first key') });
    expect((await ekms.listKeys('laptop')).map(({ state }) => state)).toEqual(['active']);
    expect((await ekms.log()).map(({ action }) => action)).toEqual(
      expect.arrayContaining(['key.pending', 'key.birth', 'key.assign', 'key.deliver']),
    );
  });

  test('two devices of one person wait for the same key', async () => {
    const devices = [await enrolDevice(ekms, 'bob@corp.example'), await enrolDevice(ekms, 'bob@corp.example')] as const;
    for (const device of devices) {
      const { json, headers } = await fetchKeys(ekms, device);
      expect(json).toEqual([
        expect.objectContaining({ state: 'pending', delivery: null, signature: null, receipt: null, certificates: [] }),
      ]);
      expect(headers.map(([name]) => name.toLowerCase())).toContain('retry-after');
    }
    expect(await ekms.ekms('pool', 'fill', '--count', '1')).toMatchObject({ status: 0 });
    const [[one], [other]] = [await keysOf(ekms, devices[0]), await keysOf(ekms, devices[1])];
    expect(one?.state).toBe('active');
    expect(other?.id).toBe(one?.id);
  });
});
