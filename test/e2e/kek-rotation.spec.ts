import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { CustodyAppliance } from '../support/ceremony.js';
import { openDelivery } from '../support/open-delivery.js';
import { enrolDevice, fetchKeys, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(180_000);

describe('a new key-encryption key', () => {
  let ekms: CustodyAppliance;
  const devices: WireDevice[] = [];
  let before: string[];
  const opened = async (device: WireDevice) => {
    const [key] = await keysOf(ekms, device);
    return openDelivery(Buffer.from(key?.delivery ?? '', 'base64'), device.keys.delivery).toString('base64');
  };
  const all = async () => {
    await ekms.db.write((unit) => unit.run('DELETE FROM deliveries'));
    const found = [];
    for (const device of devices) found.push(await opened(device));
    return found;
  };
  const status = () => ekms.act('kek.status', {}) as Promise<{ state: string; left: number; to?: string }>;
  const finished = async () => {
    for (const until = Date.now() + 60_000; (await status()).state !== 'finished'; await sleep(100))
      if (Date.now() > until) throw new Error('the rotation does not end');
  };

  beforeAll(async () => {
    ekms = await CustodyAppliance.hold();
    for (const person of ['alice', 'bob', 'carol']) devices.push(await enrolDevice(ekms, `${person}@corp.example`));
    before = await all();
    await ekms.act('pool.fill', { count: 60 });
  });
  afterAll(() => ekms?.close());

  test('every key goes under it while retrievals go on without a refusal, and it goes on after it was killed', async () => {
    // The first in line is one that the token refuses: it keeps nothing else waiting, and the rotation from ending before it is killed.
    const [forged] = await ekms.db.all<{ n: number; mac: Buffer }>('SELECT n, mac FROM pool ORDER BY n LIMIT 1');
    const seal = (mac: Buffer) => ekms.db.write((unit) => unit.run('UPDATE pool SET mac = ? WHERE n = ?', [mac, forged?.n ?? 0]));
    await seal(Buffer.alloc(32));
    let asked = 0;
    let refused = 0;
    let on = true;
    const load = (async () => {
      for (let n = 0; on; n++) {
        await ekms.db.write((unit) => unit.run('DELETE FROM deliveries'));
        const { status: answer } = await fetchKeys(ekms, devices[n % devices.length] as WireDevice);
        asked++;
        if (answer !== 200) refused++;
      }
    })();
    expect(await ekms.act('kek.rotate', {})).toMatchObject({ state: 'running', to: '2' });
    await sleep(150);
    on = false;
    await load;
    expect({ refused, some: asked > 3 }).toEqual({ refused: 0, some: true });
    expect(await ekms.act('health', {})).toMatchObject({ kekRotation: { to: '2', left: expect.any(Number) } });
    process.stderr.write(`killed with ${(await status()).left} keys and pairs left\n`);
    process.kill(ekms.pid, 'SIGKILL');
    await sleep(300);
    await ekms.start();
    for (const until = Date.now() + 60_000; (await status()).left !== 1; await sleep(100))
      if (Date.now() > until) throw new Error(`${(await status()).left} wait behind a forged pair`);
    await seal(forged?.mac ?? Buffer.alloc(0));
    await finished();
    expect(await status()).toEqual({ state: 'finished', to: '2', left: 0, since: expect.any(Number) });
    expect(await all()).toEqual(before);
    expect((await ekms.db.all<{ kek: string }>('SELECT DISTINCT kek FROM keys')).map(({ kek }) => kek)).toEqual(['2']);
  });

  test('the former one goes only after a backup made since; then keys, doctor and a restore know the new one', async () => {
    await expect(ekms.act('kek.retire', {})).rejects.toMatchObject({ code: 'backup-older' });
    expect(await ekms.act('health', {})).toMatchObject({ former: [{ kind: 'kek', name: '2', since: expect.any(String) }] });
    const { file } = (await ekms.act('backup.create', {})) as { file: string };
    expect(await ekms.act('kek.retire', {})).toEqual({ destroyed: ['1'] });
    expect(await ekms.db.one("SELECT value FROM settings WHERE name = 'keys.oldest-kek'")).toEqual({ value: '2' });
    expect(await ekms.act('health', {})).not.toHaveProperty('former');
    expect(await all()).toEqual(before);
    await ekms.stop();
    await ekms.start();
    expect(await all()).toEqual(before);
    expect((await ekms.ekms('doctor')).stdout).not.toMatch(/^BAD {3}(token|keys|pool|health)/m);
    const shares = ekms.shareLines().map((line, n) => {
      writeFileSync(ekms.beside(`s${n}`), line);
      return ekms.beside(`s${n}`);
    });
    mkdirSync(ekms.beside('scratch'));
    const { status: exit, stderr } = await ekms.ekms('drill', file, '--scratch', ekms.beside('scratch'), '--share', ...shares.slice(0, 2));
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: expect.any(String) });
    rmSync(ekms.beside('scratch'), { recursive: true });
  });
});
