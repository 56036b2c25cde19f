import { execFileSync } from 'node:child_process';
import { constants, createPrivateKey, createPublicKey, privateDecrypt, X509Certificate } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { at } from '../../src/codec/cms/der.js';
import { PdfFile } from '../../src/codec/pdf/index.js';
import { isDict, type Value } from '../../src/codec/pdf/values.js';
import { base64url, sha256 } from '../../src/foundation/index.js';
import { sourceOf } from '../codec/pdf/documents.js';
import { PdfBox } from '../interop/pdfbox/pdfbox.js';
import { CustodyAppliance } from '../support/ceremony.js';
import { type Field, form } from '../support/form.js';
import { openGpgsm, openNss } from '../support/mail-readers.js';
import { TestAdministrator } from '../support/officers.js';
import { openDelivery, openKey } from '../support/open-delivery.js';
import { richPdf } from '../support/rich-pdf.js';
import { send } from '../support/wire.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(120_000);
/** The first list of recipients, DER. */
function envelopeOf(pdf: Buffer): Buffer {
  const of = (value: Value | undefined, name: string) => (isDict(value) ? value.get(name) : undefined);
  const filter = of(of(PdfFile.open(sourceOf(pdf)).encryptDict(), 'CF'), 'DefaultCryptFilter');
  const [first] = of(filter, 'Recipients') as Buffer[];
  return first ?? Buffer.alloc(0);
}

const MAIL = resolve(__dirname, '../vectors/eml/nested.eml');

/** Alice has left. Three recovery agents were named at the ceremony, each with a key of their own; two of them are needed. Bob's device is to read her mail. */
describe('recovery by several people', () => {
  let ekms: CustodyAppliance;
  let box: PdfBox;
  let bob: WireDevice;
  /** A device of Rita's, by the reference client. */
  let rita: string;
  const agents: TestAdministrator[] = [];
  const openssl = (...words: string[]) =>
    execFileSync('openssl', words, { cwd: ekms.folder, stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 64 << 20 });
  const sign = (agent: string, file: string) => {
    if (agent === 'Oscar') openssl('pkeyutl', '-sign', '-rawin', '-inkey', 'Oscar.key', '-in', file, '-out', 'signature');
    else openssl('dgst', '-sha256', '-sign', `${agent}.key`, '-out', 'signature', file);
    return readFileSync(ekms.beside('signature')).toString('base64');
  };
  const file = async (more: object = {}) => {
    const ask = { address: 'alice@corp.example', device: bob.id, reason: 'departed', reference: 'HR 12', days: 7, ...more };
    const filed = (await ekms.act('recovery.file', ask)) as { case: string; sign: string };
    writeFileSync(ekms.beside(filed.case), Buffer.from(filed.sign, 'base64'));
    return filed.case;
  };
  const approve = (of: string, agent: string, signature = sign(agent, of)) =>
    ekms.act('recovery.approve', { case: of, by: { agent, signature } });
  const release = (of: string, more: object = {}) =>
    ekms.act('recovery.release', { case: of, ...more }) as Promise<{ key: string; delivery: string }[]>;

  beforeAll(async () => {
    const names = ['Mona', 'Nils', 'Oscar'];
    ekms = await CustodyAppliance.hold({}, async (home) => {
      const make = (...words: string[]) => execFileSync('openssl', ['genpkey', ...words], { cwd: home.folder, stdio: 'ignore' });
      make('-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', 'Mona.key');
      make('-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', 'Nils.key');
      make('-algorithm', 'ED25519', '-out', 'Oscar.key');
      for (const agent of names)
        execFileSync('openssl', ['pkey', '-in', `${agent}.key`, '-pubout', '-out', `${agent}.pem`], { cwd: home.folder });
      home.ceremonyOptions = ['--recovery-agent', ...names.map((agent) => `${agent}=${home.beside(agent)}.pem`), '--recovery-quorum', '2'];
    });
    box = PdfBox.start(ekms.folder);
    expect(await ekms.enroll('alice-1', 'alice')).toMatchObject({ status: 0 });
    const [key] = await ekms.listKeys('alice-1');
    writeFileSync(ekms.beside('alice.pem'), key?.certificates[0] ?? '');
    for (const name of ['m1', 'm2'])
      openssl('cms', '-encrypt', '-binary', '-aes256', '-outform', 'DER', '-in', MAIL, '-out', name, 'alice.pem');
    await ekms.act('employee.stop', { address: 'alice@corp.example' });
    bob = await enrolDevice(ekms, 'bob@corp.example');
    expect(await ekms.enroll('rita-1', 'rita')).toMatchObject({ status: 0 });
    rita = ((await ekms.act('device.list', { address: 'rita@corp.example' })) as { id: string }[])[0]?.id ?? '';
  });
  afterAll(async () => {
    await box?.stop();
    await ekms?.close();
  });

  test('two agents: her keys are sealed to that device, and openssl opens her mail with them', async () => {
    const of = await file();
    await expect(release(of)).rejects.toMatchObject({ code: 'recovery-not-approved' });
    await approve(of, 'Mona');
    await approve(of, 'Mona');
    await expect(release(of)).rejects.toMatchObject({ code: 'recovery-not-approved' });
    await approve(of, 'Oscar');
    const [one] = await release(of);
    const pkcs8 = openDelivery(Buffer.from(one?.delivery ?? '', 'base64'), bob.keys.delivery);
    writeFileSync(ekms.beside('alice.key'), pkcs8);
    openssl('cms', '-decrypt', '-binary', '-inform', 'DER', '-in', 'm1', '-inkey', 'alice.key', '-keyform', 'DER', '-out', 'opened');
    expect(readFileSync(ekms.beside('opened')).equals(readFileSync(MAIL))).toBe(true);
    const log = await ekms.log(60);
    for (const action of ['recovery.file', 'recovery.approve', 'recovery.release'])
      expect(log).toContainEqual(expect.objectContaining({ action, outcome: 'done' }));
    expect(log).toContainEqual(
      expect.objectContaining({ action: 'recovery.release', outcome: 'refused', reason: 'recovery-not-approved' }),
    );
    expect(await ekms.mailed('alice@corp.example', (mail) => (mail.includes(`Case: ${of}`) ? mail : undefined))).toContain('recovered');
  });

  test('by command line, the same', async () => {
    mkdirSync(ekms.beside('out'));
    const filed = await ekms.ekms(
      'recovery',
      'file',
      'alice@corp.example',
      '--device',
      bob.id,
      '--reason',
      'legal',
      '-o',
      ekms.beside('to-sign'),
    );
    const of = (JSON.parse(filed.stdout) as { case: string }).case;
    for (const agent of ['Nils', 'Mona']) {
      sign(agent, 'to-sign');
      expect(await ekms.ekms('recovery', 'approve', of, '--agent', agent, '--signature', ekms.beside('signature'))).toMatchObject({
        status: 0,
      });
    }
    expect(await ekms.ekms('recovery', 'release', of, '-o', ekms.beside('out'))).toMatchObject({ status: 0 });
    const [name = ''] = readdirSync(ekms.beside('out'));
    expect(openDelivery(readFileSync(ekms.beside('out', name)), bob.keys.delivery).equals(readFileSync(ekms.beside('alice.key')))).toBe(
      true,
    );
  });

  test('one mail, by the client: the case opens exactly that one on the device that asked; the person hears of it on the day that the agents signed', async () => {
    const described = await ekms.mesign('rita-1', 'recover', 'message', ekms.beside('m2'));
    expect(described).toMatchObject({ status: 0 });
    writeFileSync(ekms.beside('m2.json'), described.stdout);
    const quietUntil = Date.now() + 40 * 86_400_000;
    const of = await file({ device: rita, message: JSON.parse(described.stdout), quietUntil });
    await approve(of, 'Mona');
    const tooFew = await ekms.mesign('rita-1', 'recover', 'open', of, ekms.beside('m2'));
    expect(tooFew.status).toBe(1);
    expect(tooFew.stderr).toContain('recovery-not-approved');
    await approve(of, 'Oscar');
    const opened = await ekms.mesign('rita-1', 'recover', 'open', of, ekms.beside('m2'), '-o', ekms.beside('m2.eml'));
    expect(opened).toMatchObject({ status: 0 });
    expect(readFileSync(ekms.beside('m2.eml')).equals(readFileSync(MAIL))).toBe(true);
    const other = await ekms.mesign('rita-1', 'recover', 'open', of, ekms.beside('m1'));
    expect(other.status).toBe(1);
    expect(other.stderr).toContain('recovery-foreign');
    // Nothing of it is among her keys, and the notice waits for its day.
    expect((await ekms.listKeys('rita-1')).length).toBe(1);
    expect(ekms.mails('alice@corp.example').filter((mail) => mail.includes(of))).toEqual([]);
    const waiting = await ekms.db.all<{ next_try: number }>(
      "SELECT next_try FROM mails WHERE recipient = 'alice@corp.example' AND state = 'queued'",
    );
    expect(waiting.map(({ next_try }) => Number(next_try))).toEqual([quietUntil]);
  });

  test('one message: the device gets that content key and no other; the very same approvals do not open another message', async () => {
    const parts = (name: string) => {
      const envelope = at(readFileSync(ekms.beside(name)), 0, 1, 0)?.content ?? Buffer.alloc(0);
      return {
        encryptedKey: at(envelope, 1, 0, 3)?.content ?? Buffer.alloc(0),
        iv: at(envelope, 2, 1, 1)?.content,
        content: at(envelope, 2, 2)?.content,
      };
    };
    const [m1, m2] = [parts('m1'), parts('m2')];
    const ask = (mail: { encryptedKey: Buffer }) => ({
      mail: { scheme: 'rsa-pkcs1', encryptedKey: mail.encryptedKey.toString('base64'), length: 32 },
    });
    const serial = new X509Certificate(readFileSync(ekms.beside('alice.pem'))).serialNumber.toLowerCase();
    const of = await file({ message: [{ serial, digest: base64url(sha256(m1.encryptedKey)) }] });
    await approve(of, 'Nils');
    await approve(of, 'Oscar');
    await expect(release(of)).rejects.toMatchObject({ code: 'recovery-foreign' });
    await expect(release(of, ask(m2))).rejects.toMatchObject({ code: 'recovery-foreign' });
    const [one] = await release(of, ask(m1));
    const cek = privateDecrypt(
      { key: bob.keys.delivery, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha1' },
      Buffer.from(one?.delivery ?? '', 'base64'),
    );
    const opened = (mail: typeof m1) => {
      writeFileSync(ekms.beside('c'), mail.content ?? '');
      return openssl('enc', '-d', '-aes-256-cbc', '-K', cek.toString('hex'), '-iv', mail.iv?.toString('hex') ?? '', '-in', 'c');
    };
    expect(opened(m1).equals(readFileSync(MAIL))).toBe(true);
    // One wrong key in 256 leaves, by chance, a padding that openssl takes: what comes out is still no mail.
    const other = () => {
      try {
        return opened(m2);
      } catch {
        return Buffer.alloc(0);
      }
    };
    expect(other().equals(readFileSync(MAIL))).toBe(false);
  });

  test('the leaver’s mailbox: two agents let Rita read Alice’s mail for four weeks. Her laptop opens whatever comes, one message at a time; no key leaves; each is in the log by Rita’s name; taken back, nothing opens', async () => {
    await expect(file({ device: rita, reading: true, days: 400 })).rejects.toMatchObject({ code: 'recovery-malformed' });
    const of = await file({ device: rita, reading: true, days: 28 });
    const reads = (name: string) => ekms.mesign('rita-1', 'decrypt', ekms.beside(name), '-o', ekms.beside('read.eml'));
    await approve(of, 'Mona');
    expect(await reads('m1')).toMatchObject({ status: 3, stderr: expect.stringContaining('no key of this device') });
    await approve(of, 'Nils');
    for (const name of ['m1', 'm2']) {
      expect(await reads(name)).toMatchObject({ status: 0 });
      expect(readFileSync(ekms.beside('read.eml')).equals(readFileSync(MAIL))).toBe(true);
    }
    await expect(release(of)).rejects.toMatchObject({ code: 'recovery-foreign' });
    expect((await ekms.listKeys('rita-1')).length).toBe(1);
    const read = (await ekms.log(30)).filter(({ action, outcome }) => action === 'key.read' && outcome === 'done');
    expect(read.map(({ device, subject, personal }) => [device, subject, personal?.['reader']])).toEqual([
      [rita, of, 'rita@corp.example'],
      [rita, of, 'rita@corp.example'],
    ]);
    expect(await ekms.mailed('alice@corp.example', (mail) => (mail.includes(`Case: ${of}`) ? mail : undefined))).toContain(
      'rita@corp.example',
    );
    expect(await ekms.ekms('recovery', 'end', of)).toMatchObject({ status: 0 });
    expect((await reads('m1')).status).toBe(3);
    // Who writes the database takes the end away: the token process remembers it.
    await ekms.db.write((unit) => unit.run('UPDATE recovery_cases SET ended = NULL WHERE id = ?', [of]));
    expect(await reads('m1')).toMatchObject({ status: 1, stderr: expect.stringContaining('recovery-ended') });
    await ekms.db.write((unit) => unit.run('UPDATE recovery_cases SET ended = 1 WHERE id = ?', [of]));
  });

  test('Alice is taken back: her log shows who read her mail and what was recovered; what two agents sealed stands there until its date, and then says what it was', async () => {
    await ekms.act('employee.resume', { address: 'alice@corp.example' });
    const told = async () => {
      const { status, stdout, stderr } = await ekms.mesign('alice-1', 'log');
      expect({ status, stderr }).toMatchObject({ status: 0, stderr: expect.stringContaining('counted without a gap') });
      return stdout.split('\n');
    };
    const before = await told();
    expect(before.filter((line) => line.includes('key.read  done') && line.includes('read by rita@corp.example'))).toHaveLength(2);
    const sealed = before.filter((line) => line.includes('sealed until'));
    // The one mail of the case above that was to be kept quiet, opened once.
    expect(sealed).toHaveLength(1);
    expect(sealed[0]).not.toMatch(/recovery|rita/);
    // Its day comes; the appliance looks each hour.
    await ekms.db.write((unit) => unit.run('UPDATE audit_sealed SET until = 1'));
    await ekms.stop();
    await ekms.start();
    const after = (await told()).filter((line) => line.includes('was sealed until'));
    expect(after).toEqual([expect.stringContaining('recovery.release  done')]);
    await ekms.act('employee.stop', { address: 'alice@corp.example' });
  });

  test('a changed request, a foreign signature, an expired case and a device that ended get nothing', async () => {
    const of = await file();
    await expect(approve(of, 'Mona', sign('Nils', of))).rejects.toMatchObject({ code: 'approval-invalid' });
    await expect(approve(of, 'Eve', sign('Nils', of))).rejects.toMatchObject({ code: 'approval-invalid' });
    await approve(of, 'Mona');
    await approve(of, 'Nils');
    const eve = await enrolDevice(ekms, 'eve@corp.example');
    const row = await ekms.db.one<{ request: string }>('SELECT request FROM recovery_cases WHERE id = ?', [of]);
    const attempt = async (change: (request: Record<string, unknown>) => object) => {
      const changed = JSON.stringify(change(JSON.parse(row?.request ?? '{}') as Record<string, unknown>));
      await ekms.db.write((unit) => unit.run('UPDATE recovery_cases SET request = ? WHERE id = ?', [changed, of]));
      return release(of).then(
        () => 'released',
        (error: { code: string }) => error.code,
      );
    };
    expect(await attempt((request) => ({ ...request, device: eve.id }))).toBe('recovery-not-approved');
    expect(await attempt((request) => ({ ...request, expires: Number(request['expires']) + 1 }))).toBe('recovery-not-approved');
    expect(await attempt((request) => ({ ...request, keys: [...(request['keys'] as string[]), of] }))).toBe('recovery-not-approved');
    // What nobody changed still opens, until its device ends.
    expect(await attempt((request) => request)).toBe('released');
    await ekms.act('device.revoke', { id: bob.id });
    expect(await attempt((request) => request)).toBe('device-unknown');
    await ekms.db.write((unit) => unit.run("UPDATE devices SET state = 'active' WHERE id = ?", [bob.id]));
    expect(await attempt((request) => request)).toBe('device-blocked');
  });

  test('everybody’s keys move to another appliance, sealed to a key in its token; or to a key of one’s own, as PKCS#12 that other programs open', async () => {
    const settings = { domains: ['corp.example'], keys: { bits: 2048, pool: { target: 1 } } };
    const other = await CustodyAppliance.hold({ settings }, async (home) => {
      // The same persons, as agents of the other one.
      home.ceremonyOptions = ['--recovery-agent', ...['Mona', 'Nils'].map((agent) => `${agent}=${ekms.beside(agent)}.pem`)];
      home.ceremonyOptions.push('--recovery-quorum', '2');
    });
    try {
      const there = await enrolDevice(other, 'alice@corp.example');
      expect(await other.ekms('transfer', 'key', '-o', ekms.beside('card.json'))).toMatchObject({ status: 0 });
      const filed = async (...words: string[]) => {
        rmSync(ekms.beside('to-sign'), { force: true });
        const said = await ekms.ekms('transfer', 'file', ...words, '--reason', 'migration', '-o', ekms.beside('to-sign'));
        if (said.status !== 0) throw new Error(said.stderr);
        return (JSON.parse(said.stdout) as { transfer: string }).transfer;
      };
      const approved = (of: string, agent: string) =>
        ekms.act('transfer.approve', { transfer: of, by: { agent, signature: sign(agent, 'to-sign') } });
      const of = await filed('--to', ekms.beside('card.json'), '--everybody');
      await approved(of, 'Mona');
      const send = () => ekms.ekms('transfer', 'send', of, '-o', ekms.beside('package'));
      expect((await send()).stderr).toContain('recovery-not-approved');
      await approved(of, 'Nils');
      expect((await send()).stdout).toContain('4 keys are in');
      // Cut off in the middle of a line, it goes on behind the last whole one.
      const whole = readFileSync(ekms.beside('package'), 'utf8');
      const lines = whole.split('\n');
      writeFileSync(ekms.beside('package'), `${lines.slice(0, 2).join('\n')}\n${lines[2]?.slice(0, 500)}`);
      const from = ['--from', ekms.file('ca.pem')];
      const take = (...words: string[]) => other.ekms('transfer', 'take', ekms.beside('package'), ...words);
      expect((await take(...from)).stderr).toContain('transfer-file-malformed');
      expect(await send()).toMatchObject({ status: 0 });
      const exports = (await ekms.log(60)).filter(({ action, outcome }) => action === 'key.export' && outcome === 'done');
      expect(exports).toHaveLength(4 + 3);
      expect(readFileSync(ekms.beside('package'), 'utf8').split('\n').slice(0, 2)).toEqual(lines.slice(0, 2));
      expect(await ekms.mailed('bob@corp.example', (mail) => (mail.includes(of) ? mail : undefined))).toContain('another place');

      expect((await take('--from', other.file('ca.pem'))).stderr).toContain('statement-invalid');
      expect((await take(...from, '--dry-run')).stdout).toContain('importable 1');
      const accepted = async (...words: string[]) => {
        const { status, stderr } = await take(...from, ...words, '-o', ekms.beside('to-accept'));
        expect([status, stderr]).toEqual([1, expect.stringContaining('0 have')]);
        const [, id = ''] = /ekms transfer approve (\S+)/.exec(stderr) ?? [];
        for (const agent of ['Mona', 'Nils']) {
          sign(agent, 'to-accept');
          const said = await other.ekms('transfer', 'approve', id, '--agent', agent, '--signature', ekms.beside('signature'));
          expect(said).toMatchObject({ status: 0 });
        }
      };
      await accepted();
      const taken = await take(...from);
      expect([taken.status, taken.stdout]).toEqual([1, expect.stringContaining('imported 1')]); // the others are not there
      expect((await take(...from)).stdout).toContain('there 1');
      writeFileSync(
        ekms.beside('owners.csv'),
        'bob@corp.example,alice@corp.example\nrita@corp.example,alice@corp.example\neve@corp.example,alice@corp.example\n',
      );
      await accepted('--owners', ekms.beside('owners.csv'));
      expect((await take(...from, '--owners', ekms.beside('owners.csv'))).stdout).toContain('imported 3');
      const pkcs8 = { format: 'der', type: 'pkcs8' } as const;
      const opened = (await keysOf(other, there))
        .filter((key) => (key as { imported?: boolean }).imported)
        .map(({ delivery }) => openKey(delivery, there.keys.delivery).export(pkcs8));
      expect(opened).toHaveLength(4);
      expect(opened).toContainEqual(createPrivateKey({ key: readFileSync(ekms.beside('alice.key')), ...pkcs8 }).export(pkcs8));

      // Whoever writes the database widens nothing and puts no other recipient in: the token looks at what the agents signed.
      const attempt = async (sql: string, value: unknown) => {
        const [before] = await ekms.db.all<{ request: string; recipient: Buffer }>('SELECT * FROM transfers WHERE id = ?', [of]);
        await ekms.db.write((unit) => unit.run(`UPDATE transfers SET ${sql} = ? WHERE id = ?`, [value as string, of]));
        const refused = await ekms.act('transfer.page', { transfer: of }).catch(({ code }: { code: string }) => code);
        await ekms.db.write((unit) =>
          unit.run('UPDATE transfers SET request = ?, recipient = ? WHERE id = ?', [before?.request ?? '', before?.recipient ?? null, of]),
        );
        return refused;
      };
      openssl('genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:3072', '-out', 'own.key');
      openssl('pkey', '-in', 'own.key', '-pubout', '-out', 'own.pem');
      expect(
        await attempt('recipient', createPublicKey(readFileSync(ekms.beside('own.pem'))).export({ format: 'der', type: 'spki' })),
      ).toBe('transfer-foreign');
      const { request } = JSON.parse(lines[0] ?? '') as { request: object };
      expect(await attempt('request', JSON.stringify({ ...request, reference: 'other' }))).toBe('recovery-not-approved');

      const own = await filed('--to', ekms.beside('own.pem'), '--person', 'alice@corp.example');
      await approved(own, 'Oscar');
      await approved(own, 'Nils');
      expect((await ekms.ekms('transfer', 'send', own, '-o', ekms.beside('own'))).stdout).toContain('1 keys');
      writeFileSync(ekms.beside('words'), 'for the way\n');
      const open = (folder: string, ...words: string[]) =>
        ekms.ekms(
          'transfer',
          'open',
          ekms.beside('own'),
          ...from,
          '--p12',
          ekms.beside(folder),
          '--p12-passphrase-file',
          ekms.beside('words'),
          ...words,
        );
      expect(await open('p12', '--key', ekms.beside('own.key'), '--profile', 'compat')).toMatchObject({ status: 0 });
      expect((await open('none', '--key', ekms.beside('Nils.key'))).stderr).toContain('transfer-key-unknown');
      const [file = ''] = readdirSync(ekms.beside('p12'));
      for (const reader of [openNss(ekms.beside('nss')), openGpgsm(ekms.beside('gpgsm'))])
        try {
          reader.importKey(ekms.beside('p12', file), 'for the way');
          expect(reader.decrypt(ekms.beside('m1')).equals(readFileSync(MAIL))).toBe(true);
        } finally {
          reader.close();
        }
    } finally {
      await other.close();
    }
  });

  describe('documents: the organisation is a reader of each, and opens one by a case only', () => {
    const all = 'documents@corp.example';
    const mesign = (...words: string[]) => ekms.mesign('rita-1', ...words);

    test('its key is made in the token, for an address with which nobody enrols', async () => {
      expect(await ekms.act('documents.recovery', {})).toEqual({ state: 'off' });
      await expect(ekms.act('documents.recovery-on', { address: 'rita@corp.example' })).rejects.toMatchObject({ code: 'address-bound' });
      const made = (await ekms.act('documents.recovery-on', { address: all })) as { state: string; employee: string };
      expect(made).toMatchObject({ state: 'on', certificate: expect.stringContaining('BEGIN CERTIFICATE') });
      await expect(ekms.act('documents.recovery-on', { address: 'd2@corp.example' })).rejects.toMatchObject({
        code: 'document-recovery-on',
      });
      await expect(enrolDevice(ekms, all)).rejects.toThrow('address-reserved');
      for (const mode of ['deliver', 'remote'])
        await expect(ekms.act('employee.mode', { address: all, mode })).rejects.toMatchObject({ code: 'key-mode' });
      expect(await ekms.log(20)).toContainEqual(
        expect.objectContaining({ action: 'pdf.recovery', outcome: 'done', facts: { state: 'on' } }),
      );
    });

    test('what a device encrypts, and what the appliance does, names it, and the list of readers says so', async () => {
      writeFileSync(ekms.beside('plain.pdf'), await richPdf());
      const sealed = await mesign(
        'pdf',
        'encrypt',
        ekms.beside('plain.pdf'),
        '--to',
        'rita@corp.example',
        '-o',
        ekms.beside('by-device.pdf'),
      );
      expect(sealed).toMatchObject({ status: 0, stderr: expect.stringContaining('your organisation, by recovery cases') });
      // Without the appliance what it last said counts.
      expect(
        await mesign(
          'pdf',
          'encrypt',
          ekms.beside('plain.pdf'),
          '--certificate',
          ekms.beside('alice.pem'),
          '-o',
          ekms.beside('offline.pdf'),
        ),
      ).toMatchObject({ status: 0, stderr: expect.stringContaining('your organisation, by recovery cases') });
      const dave = await enrolDevice(ekms, 'dave@corp.example');
      await keysOf(ekms, dave);
      const post = (path: string, ...fields: Field[]) =>
        send({
          ...{ port: ekms.port, root: ekms.root, method: 'POST', path },
          ...form(fields),
          identity: { certificates: dave.certificates, key: dave.keys.identity },
        });
      const file = (bytes: Buffer): Field => ['file', { file: 'x.pdf', bytes }];
      const made = await post('/v1/pdf/encryptions', ['recipients', 'rita@corp.example'], file(readFileSync(ekms.beside('plain.pdf'))));
      writeFileSync(ekms.beside('by-appliance.pdf'), made.body);
      const { readers } = (await post('/v1/pdf/readers', file(made.body))).json as { readers: { is: string | null }[] };
      expect(new Set(readers.map(({ is }) => is))).toEqual(new Set(['you', 'recovery', null]));
      for (const name of ['by-device.pdf', 'offline.pdf', 'by-appliance.pdf'])
        expect((await mesign('pdf', 'readers', ekms.beside(name))).stdout).toContain(
          '(your organisation, by recovery cases: documents@corp.example)',
        );
      // Who changes the readers keeps it.
      expect(
        await mesign('pdf', 'recipients', 'add', ekms.beside('by-device.pdf'), 'dave@corp.example', '-o', ekms.beside('added.pdf')),
      ).toMatchObject({ status: 0 });
      expect((await mesign('pdf', 'readers', ekms.beside('added.pdf'))).stdout).toContain('recovery cases');
    });

    test('a case about one document opens that one, with the signatures of two agents', async () => {
      const [one, other] = [ekms.beside('by-appliance.pdf'), ekms.beside('by-device.pdf')];
      const described = await mesign('recover', 'message', one);
      const of = await file({ address: all, device: rita, reason: 'continuity', message: JSON.parse(described.stdout) as object });
      const open = (path: string) => mesign('recover', 'open', of, path, '-o', ekms.beside('recovered.pdf'));
      await approve(of, 'Mona');
      expect(await open(one)).toMatchObject({ status: 1, stderr: expect.stringContaining('recovery-not-approved') });
      await approve(of, 'Oscar');
      expect(await open(one)).toMatchObject({ status: 0 });
      expect(await box.look(ekms.beside('recovered.pdf'))).toEqual(await box.look(ekms.beside('plain.pdf')));
      expect((await open(other)).stderr).toContain('recovery-foreign');
      expect(await ekms.log(30)).toContainEqual(
        expect.objectContaining({ action: 'recovery.release', outcome: 'done', facts: expect.objectContaining({ message: true }) }),
      );
      expect(await ekms.mailed(all, (mail) => (mail.includes(`Case: ${of}`) ? mail : undefined))).toContain('recovered');
    });

    test('a case about all opens each, openssl and PDFBox too; it ends with the policy, and former documents stay open to cases', async () => {
      const { employee } = (await ekms.act('documents.recovery', {})) as { employee: string };
      await ekms.act('documents.recovery-off', {});
      expect(
        await mesign('pdf', 'encrypt', ekms.beside('plain.pdf'), '--to', 'rita@corp.example', '-o', ekms.beside('later.pdf')),
      ).toMatchObject({
        status: 0,
      });
      expect((await mesign('pdf', 'readers', ekms.beside('later.pdf'))).stdout).not.toContain('recovery cases');
      const of = await file({ address: employee, device: rita, reason: 'continuity' });
      for (const agent of ['Nils', 'Oscar']) await approve(of, agent);
      const opened = ['recover', 'open', of, ekms.beside('by-device.pdf'), '-o', ekms.beside('recovered.pdf')];
      expect(await mesign(...opened)).toMatchObject({ status: 0 });
      expect(await box.look(ekms.beside('recovered.pdf'))).toEqual(await box.look(ekms.beside('plain.pdf')));
      writeFileSync(ekms.beside('word'), 'opensesame\n');
      const how = ['--p12', ekms.beside('all'), '--p12-passphrase-file', ekms.beside('word'), '--profile', 'compat'];
      expect(await mesign('recover', 'export', of, ...how)).toMatchObject({ status: 0 });
      const p12 = ekms.beside('all', readdirSync(ekms.beside('all'))[0] ?? '');
      expect(await box.look(ekms.beside('by-appliance.pdf'), { p12, password: 'opensesame' })).toEqual({
        ...(await box.look(ekms.beside('plain.pdf'))),
        encrypted: 'true',
      });
      openssl('pkcs12', '-legacy', '-in', p12, '-passin', 'pass:opensesame', '-nodes', '-nocerts', '-out', 'all.key');
      writeFileSync(ekms.beside('envelope'), envelopeOf(readFileSync(ekms.beside('by-device.pdf'))));
      expect(openssl('cms', '-decrypt', '-binary', '-inform', 'DER', '-in', 'envelope', '-inkey', 'all.key').length).toBe(24);
    });
  });

  test('agents sign with passkeys once a quorum of the former ones has signed that list; the former ones then approve nothing', async () => {
    for (const name of ['mona', 'nils', 'oscar']) agents.push(await TestAdministrator.register(ekms, name, 'recovery-agent'));
    const [mona, nils] = agents as [TestAdministrator, TestAdministrator, TestAdministrator];
    const listed = ['Mona', 'Nils', 'Oscar'].map((name) => ({ name, administrator: `${name.toLowerCase()}@corp.example` }));
    const filed = (await ekms.act('agents.file', { quorum: 2, agents: listed })) as { appointment: string; sign: string };
    writeFileSync(ekms.beside('list'), Buffer.from(filed.sign, 'base64'));
    const appoint = (agent: string) =>
      ekms.act('agents.approve', { list: filed.appointment, by: { agent, signature: sign(agent, 'list') } });
    expect(await appoint('Oscar')).toMatchObject({ inForce: false });
    expect(await appoint('Mona')).toMatchObject({ inForce: true });

    const of = await file({ device: rita });
    await expect(approve(of, 'Mona')).rejects.toMatchObject({ code: 'approval-invalid' });
    const challengeOf = async (agent: TestAdministrator) => {
      const seen = (await agent.act('recovery.list', {})).json as { value: { cases: { case: string; challenge: string }[] } };
      return seen.value.cases.find((one) => one.case === of)?.challenge;
    };
    const byPasskey = async (agent: TestAdministrator, challenge: string | undefined) =>
      agent.act('recovery.approve', { case: of, by: { response: agent.passkey.get({ challenge }) } });
    expect((await byPasskey(mona, 'A'.repeat(43))).json).toMatchObject({ code: 'approval-invalid' });
    expect((await byPasskey(mona, await challengeOf(mona))).status).toBe(200);
    expect((await ekms.mesign('rita-1', 'recover', 'open', of, ekms.beside('m1'))).stderr).toContain('recovery-not-approved');
    expect((await byPasskey(nils, await challengeOf(nils))).status).toBe(200);
    for (const name of ['m1', 'm2']) {
      const opened = await ekms.mesign('rita-1', 'recover', 'open', of, ekms.beside(name), '-o', ekms.beside('opened'));
      expect(opened).toMatchObject({ status: 0 });
      expect(readFileSync(ekms.beside('opened')).equals(readFileSync(MAIL))).toBe(true);
    }
    // Her keys leave for another system, and come into one: here, as former keys of Rita's.
    writeFileSync(ekms.beside('p12-phrase'), 'for the way\n');
    const how = ['--p12', ekms.beside('leaving'), '--p12-passphrase-file', ekms.beside('p12-phrase'), '--profile', 'compat'];
    expect(await ekms.mesign('rita-1', 'recover', 'export', of, ...how)).toMatchObject({ status: 0 });
    expect(await ekms.mesign('rita-1', 'recover', 'export', of, ...how)).toMatchObject({ status: 0, stderr: '' });
    const [name = ''] = readdirSync(ekms.beside('leaving'));
    const shown = openssl('pkcs12', '-legacy', '-in', `leaving/${name}`, '-passin', 'file:p12-phrase', '-nodes').toString();
    expect(shown).toContain('BEGIN PRIVATE KEY');
    openssl(
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'old.key',
      '-out',
      'old.pem',
      '-days',
      '2',
      '-subj',
      '/CN=R/emailAddress=rita@corp.example',
    );
    openssl('pkcs12', '-export', '-legacy', '-inkey', 'old.key', '-in', 'old.pem', '-passout', 'pass:a,b', '-out', 'leaving/old.pfx');
    writeFileSync(ekms.beside('phrases.csv'), `old.pfx,"a,b"\n${name},for the way\n`);
    const take = (...more: string[]) =>
      ekms.ekms('import', 'p12', ekms.beside('leaving'), '--passphrases', ekms.beside('phrases.csv'), ...more);
    const dry = await take('--dry-run');
    expect([dry.status, dry.stdout]).toEqual([0, expect.stringContaining('old.pfx: importable')]);
    // Alice's own key is here already; whose it is has not changed by its leaving.
    expect(dry.stdout).toContain(`${name}: there`);
    expect((await take()).stdout).toContain('imported 1');
    openssl('cms', '-encrypt', '-binary', '-aes256', '-outform', 'DER', '-in', MAIL, '-out', 'm-old', 'old.pem');
    expect(await ekms.mesign('rita-1', 'keys')).toMatchObject({ status: 0 });
    expect(await ekms.mesign('rita-1', 'decrypt', ekms.beside('m-old'), '-o', ekms.beside('opened'))).toMatchObject({ status: 0 });
    expect(readFileSync(ekms.beside('opened')).equals(readFileSync(MAIL))).toBe(true);
    // Who writes the database puts the ceremony's agents back: the token process remembers that there is a later list.
    const rows = await ekms.db.all<{ version: number; list: string; mac: Buffer; created: number }>('SELECT * FROM recovery_agents');
    await ekms.db.write((unit) => unit.run('DELETE FROM recovery_agents', []));
    const old = await file({ device: rita });
    await approve(old, 'Mona');
    await approve(old, 'Nils');
    expect((await ekms.mesign('rita-1', 'recover', 'open', old, ekms.beside('m1'))).stderr).toContain('record-stale');
    for (const { version, list, mac, created } of rows)
      await ekms.db.write((unit) =>
        unit.run('INSERT INTO recovery_agents (version, list, mac, created) VALUES (?, ?, ?, ?)', [version, list, mac, created]),
      );
  });
});
