import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { exportFolder } from '../../src/audit/index.js';
import { verifyExport } from '../../src/codec/audit-log/index.js';
import { keysOfLog, parseNoteKey, verifyByWebCrypto } from '../../src/codec/merkle/index.js';
import { sha256 } from '../../src/foundation/index.js';
import { CustodyAppliance, exportedKeys } from '../support/ceremony.js';
import { guardOff } from '../support/guard-off.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(180_000);
const sha = (bytes: Uint8Array) => sha256(bytes);

interface KeyInfo {
  name: string;
  n: number;
  former: number[];
}

describe('the keys of the appliance itself', () => {
  let ekms: CustodyAppliance;
  let wire: WireDevice;
  let before: string[];
  const held = async (name: string) => ((await ekms.act('token.keys', {})) as KeyInfo[]).find((key) => key.name === name);
  const signer = async () => {
    await ekms.db.write((unit) => unit.run('DELETE FROM deliveries'));
    const [key] = await keysOf(ekms, wire);
    const [header = ''] = (key?.signature ?? '').split('.');
    return (JSON.parse(Buffer.from(header, 'base64url').toString()) as { x5c: string[] }).x5c[0];
  };
  /** As openssl reads what anybody may fetch. */
  const published = async (path: string) => {
    const list = Buffer.from(await (await fetch(`http://127.0.0.1:${ekms.ports.public}${path}`)).arrayBuffer());
    return execFileSync('openssl', ['crl', '-inform', 'DER', '-noout', '-text', '-nameopt', 'sep_multiline,sname,space_eq'], {
      input: list,
    }).toString();
  };
  const served = () =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ port: ekms.ports.staff, host: '127.0.0.1', servername: 'localhost', ca: ekms.root }, () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      });
      socket.once('error', reject);
    });
  beforeAll(async () => {
    ekms = await CustodyAppliance.hold();
    expect(await ekms.enroll('alice-1', 'alice')).toMatchObject({ status: 0 });
    wire = await enrolDevice(ekms, 'bob@corp.example');
    before = await exportedKeys(ekms, 'alice-1');
  });
  afterAll(() => ekms?.close());

  test('every listener has a new TLS key at once, and clients go on', async () => {
    const serial = await served();
    await ekms.act('tls.renew', {});
    expect(await served()).not.toBe(serial);
    expect(await ekms.listKeys('alice-1')).toHaveLength(1);
    expect(await ekms.log(5)).toContainEqual(expect.objectContaining({ action: 'tls.renew', outcome: 'done' }));
  });

  test.each(['delivery', 'mail'])(
    'the %s key is followed by another, the former one is destroyed, and every client goes on',
    async (name) => {
      const former = await signer();
      expect(await ekms.act('token.rotate', { name })).toEqual({ name, n: 2 });
      expect(await held(name)).toEqual({ name, n: 2, former: [1], since: expect.any(Number) });
      const { stdout } = await ekms.ekms('doctor');
      expect(stdout).toContain(
        `WARN  former keys: the former ${name} key (1) is still in the token, since less than a day: ekms token retire ${name}`,
      );
      expect(await ekms.act('health', {})).toMatchObject({ former: [{ kind: 'token-key', name }] });
      expect((await signer()) === former).toBe(name !== 'delivery');
      expect(await ekms.act('token.retire', { name })).toEqual({ destroyed: [1] });
      expect(await held(name)).toEqual({ name, n: 2, former: [], since: expect.any(Number) });
      // The client verifies delivery's signature, and the mail with half of its token.
      expect(await ekms.enroll(`carol-${name}`, `carol-${name}`)).toMatchObject({ status: 0 });
      expect(await exportedKeys(ekms, 'alice-1')).toEqual(before);
      const log = await ekms.log(60);
      for (const action of ['token-key.rotate', 'token-key.destroy'])
        expect(log).toContainEqual(expect.objectContaining({ action, outcome: 'done', facts: expect.objectContaining({ name }) }));
    },
  );

  test('the record and the sealing key are refused by name, with what to do instead', async () => {
    for (const name of ['records', 'seal']) {
      const refused = await ekms.ekms('token', 'rotate', name);
      expect(refused).toMatchObject({ status: 1, stderr: expect.stringMatching(/docs\/operations\/rotation\.md.*\(key-not-rotatable\)/) });
    }
  });

  test('the log’s key: announced in the log, signed by both; whoever trusts either accepts the log, and no other key', async () => {
    expect(await ekms.mesign('alice-1', 'log')).toMatchObject({ status: 0 });
    copyFileSync(ekms.file('audit.pub'), ekms.beside('former.pub'));
    const former = (await ekms.act('audit.head', {})) as { checkpoint: string };
    writeFileSync(ekms.beside('head'), former.checkpoint);
    expect(await ekms.act('audit.rotate-key', {})).toEqual({ name: 'audit', n: 2 });
    expect(readFileSync(ekms.file('audit.pub'), 'utf8')).not.toBe(readFileSync(ekms.beside('former.pub'), 'utf8'));
    expect(await ekms.act('token.retire', { name: 'audit' })).toEqual({ destroyed: [1] });
    expect(await ekms.ekms('audit', 'export', ekms.beside('log'))).toMatchObject({ status: 0 });
    const verdict = (key: string) =>
      ekms.ekms('audit', 'verify', '--export', ekms.beside('log'), '--key', key, '--head', ekms.beside('head'));
    for (const key of [ekms.beside('former.pub'), ekms.file('audit.pub')])
      expect(await verdict(key)).toMatchObject({ status: 0, stdout: expect.stringContaining('1 remembered heads fit') });
    // What the device remembers was signed by the former key.
    expect(await ekms.mesign('alice-1', 'log')).toMatchObject({ status: 0 });

    const trusted = parseNoteKey(sha, readFileSync(ekms.beside('former.pub'), 'utf8').trim());
    if (!trusted) throw new Error('no key');
    const judged = (dir: string) => verifyExport(exportFolder(ekms.beside(dir)), { sha256: sha, verify: verifyByWebCrypto, key: trusted });
    expect((await judged('log')).damages).toEqual([]);

    // Without what both signed, nobody who knows the former key takes the new one: nor where the new one says so alone.
    const note = readFileSync(ekms.beside('log', 'successions', '1'), 'utf8');
    const lines = note.trimEnd().split('\n');
    const forged = {
      without: undefined,
      'by the new alone': `${lines.toSpliced(-2, 1).join('\n')}\n`,
      'of another size': note.replace(/^\d+$/m, '7'),
    };
    for (const [way, text] of Object.entries(forged)) {
      const dir = `log-${way}`;
      cpSync(ekms.beside('log'), ekms.beside(dir), { recursive: true });
      rmSync(ekms.beside(dir, 'successions', '1'));
      if (text !== undefined) writeFileSync(ekms.beside(dir, 'successions', '1'), text);
      expect([way, (await judged(dir)).damages.map(({ kind }) => kind)]).toEqual([way, expect.arrayContaining(['checkpoint'])]);
    }
    const chain = guardOff<typeof import('../../src/codec/merkle/succession.js')>({
      file: 'src/codec/merkle/succession.ts',
      guard: 'for (const key of [former, successor]) {',
      instead: 'for (const key of [successor]) {',
    });
    expect(await keysOfLog(sha, verifyByWebCrypto, trusted, [forged['by the new alone']])).toHaveLength(1);
    expect(await chain.keysOfLog(sha, verifyByWebCrypto, trusted, [forged['by the new alone']])).toHaveLength(2);
  });

  test('the authorities: clients of both generations go on, also from a backup, until the former is retired', async () => {
    await ekms.act('backup.create', {});
    for (const name of ['people', 'devices', 'infrastructure']) {
      const { status, stdout } = await ekms.ekms('ca', 'rotate', name);
      expect([status, JSON.parse(stdout)]).toEqual([0, { name, n: 2 }]);
    }
    expect(await ekms.ekms('ca', 'rotate', 'root')).toMatchObject({ status: 1, stderr: expect.stringContaining('root-fixed') });
    await ekms.act('token.rotate', { name: 'delivery' });
    await ekms.act('token.retire', { name: 'delivery' });
    expect(await exportedKeys(ekms, 'alice-1')).toEqual(before);
    expect(await ekms.mesign('alice-1', 'log')).toMatchObject({ status: 0 });
    expect(await ekms.enroll('dan-1', 'dan')).toMatchObject({ status: 0 });
    const [dans] = await ekms.listKeys('dan-1');
    expect(new X509Certificate(dans?.certificates[0] ?? '').issuer).toMatch(/CN=EKMS People CA 2$/);
    for (const [id, issuer] of [
      ['people', 'EKMS People CA'],
      ['devices-2', 'EKMS Devices CA 2'],
    ])
      expect(await published(`/crl/${id}.crl`)).toContain(`CN = ${issuer}\n`);
    expect((await ekms.ekms('doctor')).stdout).toMatch(/WARN .*people-2.* newer than the last backup/);
    const { file } = (await ekms.act('backup.create', {})) as { file: string };
    mkdirSync(ekms.beside('scratch'));
    const drilled = await ekms.ekms('drill', file, '--scratch', ekms.beside('scratch'), '--share', ...ekms.shares.slice(0, 2));
    expect([drilled.status, drilled.stderr]).toEqual([0, expect.anything()]);

    expect(await ekms.ekms('ca', 'retire', 'devices')).toMatchObject({ status: 1, stderr: expect.stringContaining('authority-in-use') });
    expect(await ekms.ekms('ca', 'retire', 'devices', '--revoke')).toMatchObject({ status: 0 });
    expect(await ekms.mesign('alice-1', 'keys')).toMatchObject({ status: 1, stderr: expect.stringContaining('device-untrusted') });
    expect(await ekms.listKeys('dan-1')).toHaveLength(1);
    for (const id of ['people', 'infrastructure']) expect(await ekms.ekms('ca', 'retire', id, '--revoke')).toMatchObject({ status: 0 });
    wire = await enrolDevice(ekms, 'bob@corp.example');
    expect(await ekms.enroll('alice-2', 'alice')).toMatchObject({ status: 0 });
    expect(await exportedKeys(ekms, 'alice-2')).toEqual(before);
  });

  test('after a restart the new keys are those that serve', async () => {
    const now = await signer();
    await ekms.stop();
    await ekms.start();
    expect(await signer()).toBe(now);
    const { stdout } = await ekms.ekms('doctor');
    expect(stdout).toContain('good  former keys: nothing that was replaced still stands');
    expect(stdout).not.toMatch(/^BAD {3}(token|keys|pool|health|certificates)/m);
  });
});
