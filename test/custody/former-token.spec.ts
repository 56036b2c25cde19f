import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { RowSeal } from '../../src/access/index.js';
import { DurableAuditLog } from '../../src/audit/index.js';
import * as formerToken from '../../src/custody/former-token.js';
import { isInService, type Place, rememberSwitch } from '../../src/custody/former-token.js';
import { SystemClock } from '../../src/foundation/index.js';
import { eachDatabase, type TestDatabase } from '../support/database.js';
import { guardOff } from '../support/guard-off.js';

const OPERATOR = { kind: 'system' } as const;
const seal = new RowSeal(Buffer.alloc(32, 7));
let home: string;
let standard: Place;
let moved: Place;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'ekms-former-'));
  const place = (label: string, ...names: string[]) => ({
    label,
    module: '/m.so',
    profile: 'softhsm',
    paths: names.map((name) => join(home, name)),
  });
  standard = place('ekms', 'token-state', 'pin', 'token', 'softhsm2.conf');
  moved = place('other', 'token-other');
  for (const folder of ['token-state', 'token', 'token-other']) mkdirSync(join(home, folder));
  for (const file of ['pin', 'softhsm2.conf']) writeFileSync(join(home, file), '');
});
afterEach(() => rmSync(home, { recursive: true }));

eachDatabase((open) => {
  const noBackup = {
    guard: 'if (!backup || Date.parse(backup.created) < former.time)',
    instead: 'if (false)',
  };
  const file = 'src/custody/former-token.ts';
  const left = { to: 'other', keys: 1, pairs: 1, time: 1 };
  const destroy = (module: typeof formerToken, { storage }: TestDatabase, present: Place) =>
    module.destroyFormer(
      {
        storage,
        seal,
        present,
        audit: new DurableAuditLog(new SystemClock()),
        backups: {
          list: async () => [],
          verify: async () => {
            throw new Error('there is none');
          },
        },
      },
      OPERATOR,
    );
  const migrated = async (database: TestDatabase) => {
    await database.storage.write((unit) => rememberSwitch(unit, seal, { from: standard, ...left }));
    const log = { storage: database.storage, audit: new DurableAuditLog(new SystemClock()), seal };
    expect(await formerToken.settleMigration(log, 'other', OPERATOR)).toMatchObject({ from: standard });
  };
  const stands = () => standard.paths.map((path) => existsSync(path));

  test('a token whose files are in service is not destroyed, whatever was left there once', async () => {
    const database = await open();
    await migrated(database);
    // The old ekms.yaml was put back, or a restore made its token at the standard place.
    const unguarded = guardOff<typeof formerToken>({ file, ...noBackup });
    await expect(destroy(unguarded, database, standard)).rejects.toMatchObject({ code: 'former-in-service' });
    expect(stands()).toEqual([true, true, true, true]);
    await expect(destroy(formerToken, database, moved)).rejects.toMatchObject({ code: 'backup-older' });
    const off = guardOff<typeof formerToken>(
      { file, ...noBackup },
      { guard: 'if (isInService(former.from, present))', instead: 'if (false)' },
    );
    expect(await destroy(off, database, standard)).toEqual({ destroyed: 'ekms' });
    expect(stands()).toEqual([false, false, false, false]);
  });

  test('who writes the database names nothing that is deleted', async () => {
    const database = await open();
    await migrated(database);
    const victim = join(home, 'mail');
    mkdirSync(victim);
    const name = 'custody.former-token';
    const [row] = await database.storage.all<{ value: string }>('SELECT value FROM settings WHERE name = ?', [name]);
    const said = JSON.parse(row?.value ?? '') as { from: Place };
    const { mac: _, ...bare } = { mac: '', ...said };
    for (const forged of [{ ...said, from: { ...said.from, paths: [victim] } }, { ...said, time: 0 }, bare, {}, { ...said, mac: 7 }]) {
      await database.storage.write((unit) => unit.run('UPDATE settings SET value = ? WHERE name = ?', [JSON.stringify(forged), name]));
      await expect(destroy(guardOff({ file, ...noBackup }), database, moved)).rejects.toMatchObject({ code: 'former-token-forged' });
      await expect(formerToken.formerToken({ storage: database.storage, seal }, 'other')).rejects.toMatchObject({
        code: 'former-token-forged',
      });
    }
    const forged = JSON.stringify({ ...said, from: { ...said.from, paths: [victim] } });
    await database.storage.write((unit) => unit.run('UPDATE settings SET value = ? WHERE name = ?', [forged, name]));
    const off = guardOff<typeof formerToken>(
      { file, ...noBackup },
      { guard: "!seal.holds('former_token', done, fromBase64(String(mac), 'base64url') ?? Buffer.alloc(0))", instead: 'false' },
    );
    await destroy(off, database, moved);
    expect(existsSync(victim)).toBe(false);
  });

  test('what a restore finds of a token that was left is forgotten', async () => {
    const { storage } = await open();
    await storage.write((unit) => rememberSwitch(unit, seal, { from: standard, ...left }));
    expect(await formerToken.formerToken({ storage, seal }, 'other')).toMatchObject({ from: standard });
    await formerToken.forgetFormer(storage);
    expect(await formerToken.formerToken({ storage, seal }, 'other')).toBeUndefined();
  });
});

test('in service is what equals a path, lies in it or has it in it, by whatever name; and a device’s own slot', () => {
  const at = (...paths: string[]): Place => ({ ...standard, paths });
  expect(isInService(standard, moved)).toBe(false);
  expect(isInService(at(join(home, 'token')), at(join(home, 'token-other')))).toBe(false);
  expect(isInService(at(home), moved)).toBe(true);
  expect(isInService(at(join(home, 'token-other', 'state')), moved)).toBe(true);
  expect(isInService(at(join(home, 'token', '..', 'token-other')), moved)).toBe(true);
  renameSync(join(home, 'token-other'), join(home, 'elsewhere'));
  symlinkSync(join(home, 'elsewhere'), join(home, 'token-other'));
  expect(isInService(at(join(home, 'elsewhere')), moved)).toBe(true);
  expect(isInService(at(join(home, 'elsewhere', 'not-made-yet')), moved)).toBe(true);
  const device = { ...at(join(home, 'a')), profile: 'other-hsm' };
  expect(isInService(device, { ...device, paths: [join(home, 'b')] })).toBe(true);
  expect(isInService(device, { ...device, label: 'next', paths: [join(home, 'b')] })).toBe(false);
});
