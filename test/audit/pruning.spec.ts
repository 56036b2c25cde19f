import 'reflect-metadata';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { CHECKS, type Evidence, type ProvedUse } from '../../client/src/log/index.js';
import { checkLog, DurableAuditLog, exportFolder } from '../../src/audit/index.js';
import { decodeRow } from '../../src/audit/search/posting-row.js';
import { type ExportSource, verifyExport } from '../../src/codec/audit-log/index.js';
import { parseNoteKey, pureSha256, verifyByWebCrypto } from '../../src/codec/merkle/index.js';
import { exportLog } from '../../src/commands/audit-export.js';
import { checkBirths } from '../../src/commands/births.js';
import { SystemClock } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);
const READER = resolve(__dirname, '../interop/read_audit_log.py');
const YEAR = 366 * 86_400_000;

describe('retention', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-pruning-'));
  let house: HouseInProcess;
  let alice: WireDevice;
  const says = (count: number) =>
    house.db.write(async (unit) => {
      for (let n = 0; n < count; n += 1)
        await house.house.audit.append(unit, {
          action: 'pool.fill',
          outcome: 'done',
          actor: { kind: 'operator', id: 'root' },
          facts: { level: n },
        });
    });
  const sourceWithout = (name: string, ...paths: string[]): ExportSource => {
    const whole = exportFolder(join(folder, name));
    return {
      read: async (path) => (paths.includes(path) ? undefined : whole.read(path)),
      paths: async () => (await whole.paths()).filter((path) => !paths.includes(path)),
    };
  };
  const verdict = (source: ExportSource) => {
    const key = parseNoteKey(pureSha256, readFileSync(join(house.house.configuration.home, 'audit.pub'), 'utf8').trim());
    if (!key) throw new Error('no key');
    return verifyExport(source, { sha256: pureSha256, verify: verifyByWebCrypto, key });
  };
  const written = async (name: string) => {
    await exportLog(join(folder, name), (act, args) => house.act(act, args));
    return exportFolder(join(folder, name));
  };

  beforeAll(async () => {
    house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 1 } }, retention: { auditYears: 2 } } });
    alice = await enrolDevice(house, 'alice@corp.example');
    await keysOf(house, alice);
    await says(600);
    await keysOf(house, alice);
  });
  afterAll(async () => {
    await house?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('nothing goes before its time, and without an entry that says so a missing bundle is missing', async () => {
    await house.house.searchIndex.catchUp();
    await expect(house.act('audit.prune', {})).rejects.toMatchObject({ code: 'nothing-old' });
    await written('whole');
    expect(await verdict(exportFolder(join(folder, 'whole')))).toMatchObject({ damages: [] });
    const { damages } = await verdict(sourceWithout('whole', 'tile/entries/000'));
    expect(damages[0]).toMatchObject({ kind: 'missing', index: 0 });
    await expect(house.db.write((unit) => unit.run('DELETE FROM audit_entries WHERE idx = 0'))).rejects.toThrow();
  });

  test('what is old goes in whole bundles; the rest, and all hashes, verify; export, verdict, search and doctor say it', async () => {
    house.pass(3 * YEAR);
    await says(300);
    await house.house.searchIndex.catchUp();
    expect(await house.act('audit.prune', {})).toEqual({ until: 512, entries: 512 });
    await expect(house.act('audit.prune', {})).rejects.toMatchObject({ code: 'nothing-old' });
    const rows = await house.db.one<{ first: number; values: number }>(
      'SELECT (SELECT min(idx) FROM audit_entries) AS first, (SELECT count(*) FROM audit_values WHERE idx < 512) AS "values"',
    );
    expect(rows).toEqual({ first: 512, values: 0 });
    const postings = await house.db.all<{ found: Buffer }>('SELECT found FROM audit_postings WHERE segment = 0');
    const said = postings.flatMap(({ found }) => [...decodeRow(found).values()].flat());
    expect(Math.min(...said)).toBe(512);

    const source = await written('pruned');
    expect(await verdict(source)).toMatchObject({ damages: [], pruned: 512 });
    const reader = (name: string) =>
      spawnSync('python3', [READER, join(folder, name), join(house.house.configuration.home, 'audit.pub')], { encoding: 'utf8' });
    expect(reader('pruned').stdout).toMatch(/^whole: \d+ entries, of which those before 512 were pruned/);
    rmSync(join(folder, 'whole/tile/entries/000'));
    expect(reader('whole').stderr).toContain('entry 0 is not there');
    expect(await source.read('tile/entries/000')).toBeUndefined();
    expect((await source.read('tile/0/000'))?.length).toBe(8_192);
    // One bundle more than the entry says, or a hash, is found.
    expect((await verdict(sourceWithout('pruned', 'tile/entries/002'))).damages[0]).toMatchObject({ kind: 'missing', index: 512 });
    const tile = Buffer.from((await source.read('tile/0/001')) ?? []);
    tile[40] = (tile[40] ?? 0) ^ 1;
    const bent: ExportSource = { ...source, read: async (path) => (path === 'tile/0/001' ? tile : source.read(path)) };
    expect((await verdict(bent)).damages).not.toEqual([]);

    expect((await checkLog(house.db)).problems).toEqual([]);
    expect((await checkBirths(house.db)).map(({ verdict: is, words }) => [is, /pruned/.test(words)])).toEqual([['good', true]]);
    await expect(house.house.logBook.bundle({ index: 0, width: 256 }, { actor: { kind: 'operator' } })).rejects.toMatchObject({
      code: 'entries-pruned',
    });
    // Whoever looks at the uses of their keys is shown why the first ones are not there, with its proof.
    const { id, employee } = (await house.db.one<{ id: string; employee: string }>('SELECT id, employee FROM devices')) ?? {
      id: '',
      employee: '',
    };
    const actor = { kind: 'device', id, employee, app: 'app1', request: { id: 'r', network: '127.0.0.1' } } as unknown as Parameters<
      typeof house.house.keyUses.of
    >[0]; // its certificate ended
    const { pruned, uses } = await house.house.keyUses.of(actor, { from: 0, since: 0, nonce: 'n'.repeat(43) });
    expect(JSON.parse(pruned?.entry ?? '{}')).toMatchObject({ action: 'audit.prune', facts: { until: 512 } });
    const shown = uses.map(({ index, entry }) => ({
      ...(JSON.parse(entry) as { key: string; use: string; previous?: string; action: string }),
      index,
    }));
    expect(Number(shown[0]?.use)).toBeGreaterThan(1);
    const evidence = {
      uses: shown.map(({ use, ...rest }, n) => ({
        ...rest,
        use: Number(use),
        leaf: shown[n + 1]?.previous ?? '',
      })) as unknown as ProvedUse[],
      ...{ held: [shown[0]?.key ?? ''], receipts: [{ key: shown[0]?.key ?? '', act: 'deliver', index: 20, leaf: 'x', at: '' }], nonce: '' },
      known: undefined,
    } as unknown as Evidence; // as far as these two look
    const findings = (until: number) =>
      [CHECKS['counters'], CHECKS['receipts']].flatMap((check) => check?.({ ...evidence, pruned: until }) ?? []);
    expect(findings(512)).toEqual([]);
    expect(findings(0).map(({ kind }) => kind)).toEqual(['omitted', 'omitted']);
    const { entries, next } = await house.house.auditSearch.look({}, { count: 500 });
    expect([entries.at(-1)?.index, next]).toEqual([512, undefined]);
    expect(house.defects).toEqual([]);
  });

  test('whoever deletes rows without that entry is found by doctor', async () => {
    await house.db.write(async (unit) => {
      await unit.run('UPDATE audit_pruned SET until = 520 WHERE id = 1');
      await unit.run('DELETE FROM audit_entries WHERE idx < 520');
    });
    expect((await checkLog(house.db)).problems).toContain('entries before 520 were pruned, and the log says 512');
  });
});

eachDatabase((open) => {
  test('entries that are kept can be neither changed nor deleted; those before the point can', async () => {
    const { storage } = await open();
    const log = new DurableAuditLog(new SystemClock());
    await storage.write(async (unit) => {
      for (let n = 0; n < 3; n += 1) await log.append(unit, { action: 'appliance.start', outcome: 'done', actor: { kind: 'system' } });
    });
    const deleting = (index: number) => storage.write((unit) => unit.run('DELETE FROM audit_entries WHERE idx = ?', [index]));
    await expect(deleting(0)).rejects.toThrow();
    await storage.write((unit) => unit.run('INSERT INTO audit_pruned (id, until) VALUES (1, 2)'));
    expect([await deleting(0), await deleting(1)]).toEqual([1, 1]);
    await expect(deleting(2)).rejects.toThrow();
    await expect(storage.write((unit) => unit.run("UPDATE audit_entries SET outcome = 'x'"))).rejects.toThrow();
  });
});
