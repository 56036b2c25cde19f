import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { run } from '../../src/demo/programs.js';
import { CustodyAppliance, exportedKeys } from '../support/ceremony.js';

jest.setTimeout(180_000);
/** The built product, or another build by EKMS_DIST. */
const MAIN = resolve(process.env['EKMS_DIST'] ?? 'dist', 'programs/main.js');

describe('from one token to another', () => {
  let ekms: CustodyAppliance;
  let before: string[];
  const share = (n: number) => {
    writeFileSync(ekms.beside(`s${n}`), ekms.shareLines()[n - 1] ?? '');
    return ekms.beside(`s${n}`);
  };
  const migrate = (...more: string[]) => ekms.ekms('token', 'migrate', '--label', 'other', '--share', share(1), share(3), ...more);
  const seen = () => (readdirSync(ekms.file('token'), { recursive: true }) as string[]).sort().map((name) => [name, fileOf(name)]);
  // SoftHSM counts generations in token.object; the keys' own files are never written.
  const fileOf = (name: string) =>
    name.endsWith('.object') && !name.endsWith('token.object') ? readFileSync(ekms.file('token', name)).toString('base64') : '';

  beforeAll(async () => {
    ekms = await CustodyAppliance.hold();
    expect(await ekms.enroll('alice-1', 'alice')).toMatchObject({ status: 0 });
    // What must come over besides the keys of the ceremony: a later key, a later KEK, and what the journal remembers.
    await ekms.act('token.rotate', { name: 'delivery' });
    await ekms.act('kek.rotate', {});
    before = await exportedKeys(ekms, 'alice-1');
  });
  afterAll(() => ekms?.close());

  test('the plan is told first; without a yes, with shares too few, or beside a running appliance nothing changes', async () => {
    expect(await migrate('--yes')).toMatchObject({ status: 1, stderr: expect.stringContaining('home-in-use') });
    await ekms.stop();
    const there = readdirSync(ekms.path).sort();
    const asked = await migrate();
    expect(asked).toMatchObject({ status: 1, stderr: expect.stringContaining('migration-unconfirmed') });
    expect(asked.stderr).toMatch(/by the custodians’ copies and 2 shares: 2 key-encryption keys and 10 others/);
    expect(asked.stderr).toMatch(/every key is opened under the new token before anything is switched: 1 keys and \d+ pairs, about \d+ s/);
    const few = await ekms.ekms('token', 'migrate', '--label', 'other', '--share', share(1), '--yes');
    expect(few).toMatchObject({ status: 1, stderr: expect.stringContaining('shares-too-few') });
    expect(readdirSync(ekms.path).sort()).toEqual(there);
  });

  test('every key is opened under the other token before one renaming switches; where one does not open, nothing is switched', async () => {
    const untouched = seen();
    // The new token is made, and then a pair of the database does not open.
    const [key] = await ekms.db.all<{ n: number; wrapped: Buffer }>('SELECT n, wrapped FROM pool ORDER BY n DESC');
    const wrong = Buffer.from(key?.wrapped ?? '');
    wrong[40] = (wrong[40] ?? 0) ^ 1;
    await ekms.db.write((unit) => unit.run('UPDATE pool SET wrapped = ? WHERE n = ?', [wrong, key?.n ?? 0]));
    expect(await migrate('--yes')).toMatchObject({ status: 1, stderr: expect.stringContaining('record-forged') });
    await ekms.db.write((unit) => unit.run('UPDATE pool SET wrapped = ? WHERE n = ?', [key?.wrapped ?? null, key?.n ?? 0]));
    expect(readFileSync(ekms.file('ekms.yaml'), 'utf8')).not.toContain('other');
    expect(existsSync(ekms.file('token-other', 'state', 'journal'))).toBe(true);
    expect(await migrate('--yes')).toMatchObject({ status: 0, stdout: expect.stringContaining('1 keys and') });
    expect(seen()).toEqual(untouched);
  });

  test('with the former token out of the way all keys deliver byte-equal; two persons destroy it after a backup, and a restore is whole', async () => {
    for (const name of ['token', 'token-state', 'pin', 'softhsm2.conf']) renameSync(ekms.file(name), ekms.beside(`away-${name}`));
    await ekms.start();
    await ekms.db.write((unit) => unit.run('DELETE FROM deliveries'));
    expect(await exportedKeys(ekms, 'alice-1')).toEqual(before);
    expect(await ekms.enroll('bob-1', 'bob')).toMatchObject({ status: 0 });
    expect(await ekms.mesign('alice-1', 'log')).toMatchObject({ status: 0 });
    expect(await ekms.ekms('audit', 'verify')).toMatchObject({ status: 0 });
    expect(await ekms.log(60)).toContainEqual(
      expect.objectContaining({ action: 'token.migrate', facts: expect.objectContaining({ from: 'ekms', to: 'other', keys: 1 }) }),
    );
    for (const name of ['token', 'token-state', 'pin', 'softhsm2.conf']) renameSync(ekms.beside(`away-${name}`), ekms.file(name));
    await expect(ekms.act('token.destroy-former', {})).rejects.toMatchObject({ code: 'backup-older' });
    expect(await ekms.act('health', {})).toMatchObject({
      former: expect.arrayContaining([expect.objectContaining({ kind: 'token', name: 'ekms' })]),
    });
    const { stdout: doctor } = await ekms.ekms('doctor');
    expect(doctor).toMatch(
      /^WARN {2}former keys: the token ekms, which a migration left, still holds every key.*ekms token destroy-former$/m,
    );
    const { file } = (await ekms.act('backup.create', {})) as { file: string };
    // The backup tells of the token that was left; whoever restores it has the new one at that very place.
    mkdirSync(ekms.beside('restored'));
    const restored = await run(process.execPath, [MAIN, 'restore', file, '--share', share(1), share(2)], {
      EKMS_HOME: ekms.beside('restored'),
    });
    expect(restored).toMatchObject({ status: 0 });
    const database = new Database(join(ekms.beside('restored'), 'ekms.db'), { readonly: true });
    const told = `SELECT name FROM settings WHERE name IN ('custody.former-token', 'custody.token-migration')`;
    expect(database.prepare(told).all()).toEqual([]);
    database.close();
    rmSync(ekms.beside('restored'), { recursive: true });
    // Only one is remembered.
    await ekms.stop();
    const again = await ekms.ekms('token', 'migrate', '--label', 'third', '--share', share(1), share(3), '--yes');
    expect(again).toMatchObject({ status: 1, stderr: expect.stringContaining('former-token-stands') });
    await ekms.start();
    expect(await ekms.db.all(told)).toEqual([{ name: 'custody.former-token' }]);
    expect(await ekms.act('token.destroy-former', {})).toEqual({ destroyed: 'ekms' });
    for (const name of ['token', 'token-state', 'pin', 'softhsm2.conf']) expect([name, existsSync(ekms.file(name))]).toEqual([name, false]);
    mkdirSync(ekms.beside('scratch'));
    const drill = await ekms.ekms('drill', file, '--scratch', ekms.beside('scratch'), '--share', share(2), share(3));
    expect(drill).toMatchObject({ status: 0 });
    rmSync(ekms.beside('scratch'), { recursive: true });
  });
});
