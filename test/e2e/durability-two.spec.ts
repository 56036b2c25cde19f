import { appendFileSync, copyFileSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { CustodyAppliance, exportedKeys } from '../support/ceremony.js';

jest.setTimeout(120_000);

/** Born twice or not at all. The second place is a folder here; pulling its plug is taking the folder away. */
describe('durability: two', () => {
  let ekms: CustodyAppliance;
  const away = () => renameSync(ekms.beside('second'), ekms.beside('unplugged'));
  const back = () => renameSync(ekms.beside('unplugged'), ekms.beside('second'));
  /** How many certificates by this generation count. */
  const countingOf = async (id: string) =>
    ((await ekms.act('ca.list', {})) as { id: string; inUse: number }[]).find((each) => each.id === id)?.inUse;
  const counted = async (table: string) => (await ekms.db.one<{ n: number }>(`SELECT COUNT(*) AS "n" FROM ${table}`))?.n;

  beforeAll(async () => {
    ekms = await CustodyAppliance.hold({ settings: { durability: 'two', escrow: { directory: '../second' } } }, async (home) => {
      expect(await home.ekms('escrow', 'prepare', home.beside('second'))).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('escrow-same-disk'),
      });
      expect(await home.ekms('escrow', 'prepare', '--same-disk', home.beside('second'))).toMatchObject({ status: 0 });
    });
    copyFileSync(ekms.file('ca.pem'), ekms.beside('ca.pem'));
  });
  afterAll(() => ekms?.close());

  test('unplugged, no key is born, none is given and no certificate issued, and health and doctor say so; plugged in, it goes on', async () => {
    expect(await ekms.enroll('alice-1', 'alice')).toMatchObject({ status: 0 });
    await ekms.act('pool.fill', { count: 4 });
    away();
    const before = [
      await counted('pool'),
      await counted('keys'),
      await counted("certificates WHERE profile = 'person' AND LENGTH(der) > 0"),
    ];
    await expect(ekms.act('pool.fill', { count: 9 })).rejects.toMatchObject({ code: 'second-place-away' });
    expect((await ekms.enroll('bob-1', 'bob')).status).not.toBe(0);
    expect([
      await counted('pool'),
      await counted('keys'),
      await counted("certificates WHERE profile = 'person' AND LENGTH(der) > 0"),
    ]).toEqual(before);
    expect(await ekms.act('health', {})).toMatchObject({ secondPlace: { state: 'down' } });
    expect((await ekms.ekms('doctor')).stdout).toMatch(/^BAD {3}custody: the second place is away/m);
    expect(await ekms.listKeys('alice-1')).toHaveLength(1);
    // Nor does an authority take over: nobody would know it after a fire.
    await expect(ekms.act('ca.rotate', { name: 'devices' })).rejects.toMatchObject({ code: 'second-place-away' });
    expect(await ekms.act('ca.list', {})).not.toContainEqual(expect.objectContaining({ id: 'devices-2' }));
    back();
    expect(await ekms.enroll('bob-1', 'bob')).toMatchObject({ status: 0 });
    expect(await ekms.act('health', {})).not.toHaveProperty('secondPlace');
  });

  test('what was given and changed after the last backup comes back from the second place, byte for byte', async () => {
    const { file } = (await ekms.act('backup.create', {})) as { file: string };
    copyFileSync(file, ekms.beside('old.ekms-backup'));
    expect(await ekms.enroll('carol-1', 'carol')).toMatchObject({ status: 0 });
    await ekms.act('key.replace', { address: 'alice@corp.example', because: 'superseded' });
    // Every key goes under a KEK that the backup does not know, and dan's was never under another.
    await ekms.act('kek.rotate', {});
    const rotation = () => ekms.act('kek.status', {}) as Promise<{ state: string }>;
    for (const until = Date.now() + 60_000; (await rotation()).state !== 'finished'; await sleep(100))
      if (Date.now() > until) throw new Error('the rotation does not end');
    // Then an authority that it does not know takes over: dan's certificate is by no other.
    await ekms.act('ca.rotate', { name: 'people' });
    expect(await ekms.enroll('dan-1', 'dan')).toMatchObject({ status: 0 });
    // Keys that the backup's journal has in service are destroyed, and what the second place holds of them goes with the next authority.
    await ekms.act('audit.rotate-key', {});
    await ekms.act('token.retire', { name: 'audit' });
    await ekms.act('ca.retire', { id: 'people', revoke: true });
    await ekms.act('ca.rotate', { name: 'infrastructure' });
    const signed = await countingOf('people-2');
    expect(signed).toBeGreaterThan(0);
    const people = ['alice', 'bob', 'carol', 'dan'];
    const before = [];
    for (const person of people) before.push(await exportedKeys(ekms, `${person}-1`));
    expect(before.map((keys) => keys.length)).toEqual([2, 1, 1, 1]);
    await ekms.db.close();
    await ekms.stop();
    // Half a line of a writer that was killed, and a line that is not ours.
    appendFileSync(ekms.beside('second', 'escrow.journal'), 'bm90IG91cnM=\nAAAA');
    rmSync(ekms.path, { recursive: true });
    mkdirSync(ekms.path, { mode: 0o700 });
    const shares = ekms.shareLines().map((line, n) => {
      writeFileSync(ekms.beside(`s${n}`), line);
      return ekms.beside(`s${n}`);
    });
    const lost = await ekms.ekms('restore', ekms.beside('old.ekms-backup'), '--nothing-lost', '--escrow', ekms.beside('second'));
    expect(lost.stderr).toContain('entries-lost');
    const { status, stdout, stderr } = await ekms.ekms(
      'restore',
      ekms.beside('old.ekms-backup'),
      '--ca',
      ekms.beside('ca.pem'),
      '--escrow',
      ekms.beside('second'),
      '--share',
      ...shares.slice(1),
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: status === 0 ? expect.any(String) : '' });
    expect(JSON.parse(stdout)).toMatchObject({
      keys: 5,
      authorities: ['devices-2', 'people-2', 'infrastructure-2'],
      fromEscrow: { keys: 3, unreadable: 2, unopenable: 0 },
    });
    await ekms.start();
    expect(await countingOf('people-2')).toBeGreaterThanOrEqual(signed ?? 1);
    const standing = (await ekms.act('ca.list', {})) as { id: string; state: string }[];
    expect(standing.filter(({ id }) => /people/.test(id))).toMatchObject([{ state: 'retired' }, { state: 'serving' }]);
    const after = [];
    for (const person of people) {
      expect(await ekms.enroll(`${person}-2`, person)).toMatchObject({ status: 0 });
      after.push(await exportedKeys(ekms, `${person}-2`));
    }
    expect(after).toEqual(before);
    expect((await ekms.ekms('doctor', '--data')).stdout).not.toMatch(/^BAD/m);
    // A disk rots while nothing runs.
    await ekms.stop();
    const tiles = ekms.beside('second', 'log', 'tile');
    for (const name of readdirSync(tiles, { recursive: true, encoding: 'utf8' }))
      if (/^entries\/.*\d$/.test(name) && statSync(join(tiles, name)).isFile()) writeFileSync(join(tiles, name), 'x');
    expect((await ekms.ekms('doctor')).stdout).toMatch(/^BAD {3}custody: \d files of the copy of the log .* \(tile\/entries\//m);
  });
});
