import { execFileSync } from 'node:child_process';
import { constants, privateDecrypt } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { at } from '../../src/codec/cms/der.js';
import { base64url, sha256 } from '../../src/foundation/index.js';
import { CustodyAppliance } from '../support/ceremony.js';
import { openDelivery } from '../support/open-delivery.js';
import { enrolDevice, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(120_000);
const MAIL = resolve(__dirname, '../vectors/eml/nested.eml');

/** Alice has left. Three recovery agents were named at the ceremony, each with a key of their own; two of them are needed. Bob's device is to read her mail. */
describe('recovery by several people', () => {
  let ekms: CustodyAppliance;
  let bob: WireDevice;
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
  const approve = (of: string, agent: string, signature = sign(agent, of)) => ekms.act('recovery.approve', { case: of, agent, signature });
  const release = (of: string, more: object = {}) =>
    ekms.act('recovery.release', { case: of, ...more }) as Promise<{ key: string; delivery: string }[]>;

  beforeAll(async () => {
    const agents = ['Mona', 'Nils', 'Oscar'];
    ekms = await CustodyAppliance.hold({}, async (home) => {
      const make = (...words: string[]) => execFileSync('openssl', ['genpkey', ...words], { cwd: home.folder, stdio: 'ignore' });
      make('-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', 'Mona.key');
      make('-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', 'Nils.key');
      make('-algorithm', 'ED25519', '-out', 'Oscar.key');
      for (const agent of agents)
        execFileSync('openssl', ['pkey', '-in', `${agent}.key`, '-pubout', '-out', `${agent}.pem`], { cwd: home.folder });
      home.ceremonyOptions = ['--recovery-agent', ...agents.map((agent) => `${agent}=${home.beside(agent)}.pem`), '--recovery-quorum', '2'];
    });
    expect(await ekms.enroll('alice-1', 'alice')).toMatchObject({ status: 0 });
    const [key] = await ekms.listKeys('alice-1');
    writeFileSync(ekms.beside('alice.pem'), key?.certificates[0] ?? '');
    for (const name of ['m1', 'm2'])
      openssl('cms', '-encrypt', '-binary', '-aes256', '-outform', 'DER', '-in', MAIL, '-out', name, 'alice.pem');
    await ekms.act('employee.stop', { address: 'alice@corp.example' });
    bob = await enrolDevice(ekms, 'bob@corp.example');
  });
  afterAll(() => ekms?.close());

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
    const of = await file({ message: base64url(sha256(m1.encryptedKey)) });
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
    expect(() => opened(m2)).toThrow();
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
});
