import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { CustodyAppliance, exportedKeys } from '../support/ceremony.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(180_000);
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
  const served = () =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ port: ekms.ports.staff, host: '127.0.0.1', servername: 'localhost', ca: ekms.root }, () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      });
      socket.once('error', reject);
    });
  const shares = () =>
    ekms.shareLines().map((line, n) => {
      writeFileSync(ekms.beside(`s${n}`), line);
      return ekms.beside(`s${n}`);
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
      expect(await held(name)).toEqual({ name, n: 2, former: [1] });
      expect((await signer()) === former).toBe(name !== 'delivery');
      expect(await ekms.act('token.retire', { name })).toEqual({ destroyed: [1] });
      expect(await held(name)).toEqual({ name, n: 2, former: [] });
      // The client verifies delivery's signature, and the mail with half of its token.
      expect(await ekms.enroll(`carol-${name}`, `carol-${name}`)).toMatchObject({ status: 0 });
      expect(await exportedKeys(ekms, 'alice-1')).toEqual(before);
      const log = await ekms.log(60);
      for (const action of ['token-key.rotate', 'token-key.destroy'])
        expect(log).toContainEqual(expect.objectContaining({ action, outcome: 'done', facts: expect.objectContaining({ name }) }));
    },
  );

  test('after a restart, and in what the custodians hold, the new keys are those that serve', async () => {
    const now = await signer();
    await ekms.stop();
    await ekms.start();
    expect(await signer()).toBe(now);
    const { stdout } = await ekms.ekms('doctor');
    expect(stdout).not.toMatch(/^BAD {3}(token|keys|pool|health|certificates)/m);
    const { file } = (await ekms.act('backup.create', {})) as { file: string };
    mkdirSync(ekms.beside('scratch'));
    const drill = await ekms.ekms('drill', file, '--scratch', ekms.beside('scratch'), '--share', ...shares().slice(1));
    expect(drill).toMatchObject({ status: 0 });
    rmSync(ekms.beside('scratch'), { recursive: true });
  });
});
