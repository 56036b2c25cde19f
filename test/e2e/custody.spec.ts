import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { CustodyAppliance, exportedKeys as exported } from '../support/ceremony.js';

jest.setTimeout(120_000);
const MAIL = resolve(__dirname, '../vectors/eml/nested.eml');

describe('ceremony, backup, the home gone, restore', () => {
  let ekms: CustodyAppliance;
  let backup: string;
  let lines: string[];
  const share = (n: number) => {
    writeFileSync(ekms.beside(`s${n}`), `${lines[n - 1]}\n`);
    return ekms.beside(`s${n}`);
  };
  const restore = (...more: string[]) => ekms.ekms('restore', backup, '--ca', ekms.beside('ca.pem'), ...more);

  beforeAll(async () => {
    ekms = await CustodyAppliance.hold({}, async (home) => {
      const witnesses = { readable: [{ name: 'vault', folder: home.beside('vault') }], everySeconds: 1 };
      home.configure({
        domains: ['corp.example'],
        keys: { bits: 2048, pool: { target: 4 } },
        database: { url: home.databaseUrl },
        witnesses,
      });
    });
    copyFileSync(ekms.file('ca.pem'), ekms.beside('ca.pem'));
    lines = ekms.shareLines();
    for (const person of ['alice', 'bob']) expect(await ekms.enroll(`${person}-1`, person)).toMatchObject({ status: 0 });
  });
  afterAll(() => ekms?.close());

  test('the ceremony leaves three shares, minutes in PDF and a signed statement of them, and its entry', async () => {
    expect(readdirSync(ekms.beside('shares')).sort()).toEqual([
      'minutes.jws',
      'minutes.pdf',
      'share-1-Ada.txt',
      'share-2-Ben.txt',
      'share-3-Cleo.txt',
    ]);
    expect(readFileSync(ekms.beside('shares', 'minutes.pdf')).subarray(0, 5).toString()).toBe('%PDF-');
    expect(await ekms.log(100)).toContainEqual(expect.objectContaining({ action: 'custody.ceremony', outcome: 'done' }));
    expect(existsSync(ekms.file('ceremony.json'))).toBe(false);
  });

  test('a backup is made while it serves, holds no PIN, no kept delivery and no share, and is known as whole', async () => {
    const made = (await ekms.act('backup.create', {})) as { file: string };
    backup = ekms.beside('kept.ekms-backup');
    copyFileSync(made.file, backup);
    expect((await ekms.act('backup.list', {})) as unknown[]).toHaveLength(1);
    expect(await ekms.ekms('backup', 'verify', backup)).toMatchObject({ status: 0 });
  });

  test('with two of three shares a blank home becomes the appliance: keys byte-equal, old mail opens, the log whole', async () => {
    const before = [await exported(ekms, 'alice-1'), await exported(ekms, 'bob-1')];
    const [key] = await ekms.listKeys('alice-1');
    writeFileSync(ekms.beside('alice.pem'), key?.certificates[0] ?? '');
    execFileSync('openssl', [
      'cms',
      '-encrypt',
      '-binary',
      '-aes256',
      '-in',
      MAIL,
      '-out',
      ekms.beside('old-mail'),
      ekms.beside('alice.pem'),
    ]);
    await ekms.db.close();
    await ekms.stop();
    rmSync(ekms.path, { recursive: true });
    mkdirSync(ekms.path, { mode: 0o700 });

    expect(await restore('--share', share(1))).toMatchObject({ status: 1, stderr: expect.stringContaining('shares-too-few') });
    const [first = ''] = lines;
    writeFileSync(
      ekms.beside('bad'),
      first.replace(/.$/, (letter) => (letter === 'A' ? 'B' : 'A')),
    );
    expect(await restore('--share', ekms.beside('bad'), share(2))).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('share-damaged'),
    });
    expect(existsSync(ekms.file('ca.pem'))).toBe(false);

    const { status, stdout, stderr } = await restore('--share', share(3), share(1));
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringContaining('must enrol anew') });
    expect(JSON.parse(stdout)).toMatchObject({ keys: 2, devicesEnded: 2 });
    expect(readFileSync(ekms.file('ca.pem'), 'utf8')).toBe(ekms.root);

    await ekms.start();
    // Its witness has seen more than the backup has: the log goes on under another name, by the word of those whose shares these are.
    const ready = await fetch(`http://127.0.0.1:${ekms.ports.operation}/health/ready`);
    expect(await ready.json()).toMatchObject({ log: { state: 'whole' }, witnesses: [{ state: 'agrees' }] });
    expect(readFileSync(ekms.file('audit.pub'), 'utf8')).toMatch(/^localhost\/v1\/audit\/20/);
    const accepted = (await ekms.log(400)).find(({ action }) => action === 'audit.accept');
    expect(accepted).toMatchObject({ facts: { from: 'localhost/v1/audit', origin: expect.stringContaining('localhost/v1/audit/20') } });
    expect(await ekms.ekms('audit', 'verify')).toMatchObject({ status: 0 });
    expect(await ekms.mesign('alice-1', 'keys')).not.toMatchObject({ status: 0 });
    for (const person of ['alice', 'bob']) expect(await ekms.enroll(`${person}-2`, person)).toMatchObject({ status: 0 });
    expect([await exported(ekms, 'alice-2'), await exported(ekms, 'bob-2')]).toEqual(before);
    expect(await ekms.mesign('alice-2', 'decrypt', ekms.beside('old-mail'), '-o', ekms.beside('opened'))).toMatchObject({ status: 0 });
    expect(readFileSync(ekms.beside('opened')).equals(readFileSync(MAIL))).toBe(true);
    const { stdout: doctor } = await ekms.ekms('doctor', '--data');
    expect(doctor).not.toMatch(/^BAD/m);
    expect(await ekms.log(200)).toContainEqual(expect.objectContaining({ action: 'appliance.restore', outcome: 'done' }));
  });

  test('a restore over an appliance, and a backup that was cut, are refused and change nothing', async () => {
    await ekms.stop();
    const size = statSync(ekms.file('ekms.db')).size;
    expect(await restore('--share', share(1), share(2))).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('already-initialised'),
    });
    expect(statSync(ekms.file('ekms.db')).size).toBe(size);
    await ekms.start();
    const whole = readFileSync(backup);
    writeFileSync(ekms.beside('damaged'), whole.subarray(0, whole.length - 1));
    expect(await ekms.ekms('backup', 'verify', ekms.beside('damaged'))).toMatchObject({ status: 1 });
  });

  test('other custodians get shares without touching anybody’s keys; it takes the decision and two who are custodians now', async () => {
    const who = ['--custodian', 'Ada=paper', 'Dora=paper', 'Emil=paper'];
    const reissue = (...shares: string[]) =>
      ekms.ekms('custody', 'reissue', ...who, '--share', ...shares, '--shares', ekms.beside('new-shares'));
    await ekms.stop();
    expect(await reissue(share(1), share(2))).toMatchObject({ status: 1, stderr: expect.stringContaining('reissue-not-permitted') });
    expect(await ekms.ekms('custody', 'permit', ...who)).toMatchObject({ status: 0 });
    expect(await reissue(share(1))).toMatchObject({ status: 1, stderr: expect.stringContaining('shares-too-few') });
    const { status, stderr } = await reissue(share(3), share(1));
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringContaining('former shares') });
    await ekms.start();
    expect(await ekms.listKeys('alice-2')).toHaveLength(1);
    expect(await ekms.log(20)).toContainEqual(expect.objectContaining({ action: 'custody.reissue', outcome: 'done' }));
  });

  test('a drill restores the newest backup into a scratch place and leaves nothing there; doctor asks for it until then', async () => {
    await ekms.act('backup.create', {});
    expect((await ekms.ekms('doctor')).stdout).toMatch(/^BAD {3}custody: .*drill/m);
    mkdirSync(ekms.beside('scratch'));
    const drill = (...shares: string[]) => ekms.ekms('drill', '--scratch', ekms.beside('scratch'), '--share', ...shares);
    // The former custodians' shares are void for what is backed up from now on.
    expect(await drill(share(2), share(3))).toMatchObject({ status: 1, stderr: expect.stringContaining('share-foreign') });
    const { status, stderr, stdout } = await drill(
      ...['share-1-Ada.txt', 'share-3-Emil.txt'].map((name) => ekms.beside('new-shares', name)),
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.any(String) });
    expect(JSON.parse(stdout)).toMatchObject({
      keys: 2,
      problems: [],
      recoveryPoint: expect.any(Number),
      recoveryTime: expect.any(Number),
    });
    expect(readdirSync(ekms.beside('scratch'))).toEqual([]);
    expect((await ekms.ekms('doctor')).stdout).not.toMatch(/^BAD {3}custody/m);
  });
});
