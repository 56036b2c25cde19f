import 'reflect-metadata';
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals';
import { newAgeIdentity, openStanza } from '../../src/codec/age.js';
import { examineSpoilt } from '../../src/commands/doctor-custody.js';
import { Findings } from '../../src/commands/finding.js';
import * as backupChain from '../../src/custody/backup-chain.js';
import * as backupContent from '../../src/custody/backup-content.js';
import { type OpenBackup, writeBackupFile } from '../../src/custody/backup-file.js';
import { inPages } from '../../src/custody/backup-pages.js';
import * as backups from '../../src/custody/backups.js';
import { newId } from '../../src/foundation/index.js';
import { openSnapshot, type Snapshot, type StorageSettings, withFreshSchema } from '../../src/storage/index.js';
import { fillDatabase } from '../../src/storage/snapshot.js';
import { encodePackage } from '../../src/tokens/index.js';
import { eachDatabase, lastingDatabase } from '../support/database.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);
const BY = { kind: 'operator' } as const;
const FULL_EVERY = 4;

const named = ({ label, module, profile }: { label: string; module: string; profile: string }) => ({ label, module, profile });

/** Everything that a backup keeps, in an order of its own. */
async function everything(snapshot: Pick<Snapshot, 'rows'>): Promise<string[]> {
  const all: string[] = [];
  for await (const { table, columns, rows } of snapshot.rows())
    for (const row of rows) {
      const text = `${table} ${JSON.stringify(columns)} ${JSON.stringify(row.map((value) => (value instanceof Uint8Array ? Buffer.from(value) : value)))}`;
      if (!text.includes('"restore.filled"')) all.push(text);
    }
  return all.sort();
}

async function now(settings: StorageSettings): Promise<string[]> {
  const snapshot = await openSnapshot(settings);
  try {
    return await everything(snapshot);
  } finally {
    await snapshot.close();
  }
}

eachDatabase((open, kind) => {
  let house: HouseInProcess;
  let database: StorageSettings;
  let place: Awaited<ReturnType<typeof lastingDatabase>>;
  let identity: { secret: Buffer; recipient: string };
  /** Copies of these, where each test may spoil what it likes. */
  let folder: string;
  let made: (backups.MadeBackup & { rows: string[] })[];

  const create = (how?: { full?: boolean }) => house.house.backups.create(BY, how);
  const packageFor = (recipient: string) => {
    const bytes = Buffer.from('00', 'hex');
    const share = { name: 'Ada', recipient: 'paper', digest: bytes };
    const { root } = house.house.authorities;
    const envelope = { key: bytes };
    const certificates = { root, people: bytes, devices: bytes, infrastructure: bytes, delivery: bytes };
    return encodePackage({
      package: {
        ...{ type: 'ekms-custody', v: 1, ceremony: Buffer.alloc(16), created: '', threshold: 2, shares: [share, share] },
        ...{ custodyKey: { publicKey: bytes, wrapped: bytes }, backup: { recipient, envelope }, certificates },
        keys: [{ label: 'ekms/kek/1', kind: 'kek', envelope }],
      },
      mac: bytes,
    });
  };
  const custodians = (recipient: string, of = house) => {
    const text = packageFor(recipient);
    of.token.custody = async () => text;
  };
  /** Rows that come, change and go, and the log with them. */
  const live = async (from: number, to: number) => {
    const { audit, checkpoints } = house.house;
    await house.db.write(async (unit) => {
      for (let n = from; n < to; n++) {
        await unit.run('INSERT INTO settings (name, value) VALUES (?, ?)', [`test.${(n * 7_919) % 1_000}.${n}`, `"${'value'.repeat(60)}"`]);
        await audit.append(unit, { action: 'pool.fill', outcome: 'done', actor: BY, facts: { level: n } });
      }
      await unit.run('UPDATE settings SET value = ? WHERE name LIKE ?', [`"${from}"`, 'test.%.7']);
      await unit.run('DELETE FROM settings WHERE name LIKE ?', [`test.%.${from - 1}`]);
    });
    await checkpoints.publish();
  };
  const backup = async () => {
    const rows = await now(database);
    const one = await create();
    made.push({ ...one, rows });
  };

  beforeAll(async () => {
    place = await lastingDatabase(kind);
    house = await HouseInProcess.open({
      settings: { backup: { everyHours: 0, keep: 100, fullEvery: FULL_EVERY }, keys: { bits: 2048, pool: { target: 0 } } },
      database: kind === 'sqlite' ? `sqlite:${join(place.settings.home, 'ekms.db')}` : place.settings.url,
    });
    const { database: of, home } = house.house.configuration;
    database = { url: of.url, home };
    identity = newAgeIdentity();
    custodians(identity.recipient);
    made = [];
    await enrolDevice(house, 'alice@corp.example');
    await live(0, 1_500);
    await backup();
    await live(1_500, 1_510);
    await backup();
    await live(1_510, 1_520);
    await backup();
  });
  afterAll(async () => {
    await house?.close();
    await place?.remove();
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'ekms-chain-'));
    for (const { file } of made) copyFileSync(file, join(folder, basename(file)));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const at = (n: number) => join(folder, basename(made[n]?.file ?? ''));
  const contents = async (chain: readonly OpenBackup[], of = backupContent) => {
    const opened = [];
    for (const each of chain) opened.push(await of.decodeContent(each.content(openStanza(each.header.stanza, identity.secret))));
    return opened;
  };
  const put = async (path: string, of = backupContent, checked?: () => void) => {
    const chain = await backupChain.openChain(path, { root: house.house.authorities.root });
    try {
      checked?.();
      const all = await contents(chain, of);
      const { settings, storage } = await open();
      await storage.close();
      const { migrations = [] } = all.at(-1)?.manifest ?? {};
      await withFreshSchema(settings, migrations, async (runner) => {
        const before = await now(settings);
        await fillDatabase(runner, of.rowsOf(all), 'this').catch(async (error: unknown) => {
          expect(await now(settings)).toEqual(before);
          throw error;
        });
      });
      return await now(settings);
    } finally {
      for (const each of chain) await each.close();
    }
  };
  /** Signed by the appliance all the same. */
  const forged = async (
    base: backupContent.BackupBase,
    entries: number,
    how: { recipient?: string; origin?: string; stated?: object } = {},
  ): Promise<string> => {
    const path = join(folder, `forged-${newId()}.ekms-backup`);
    const file = await openFile(path, 'wx');
    const [id, created] = [`forged-${entries}`, new Date().toISOString()];
    const log = await house.token.auditHead();
    const head = {
      type: 'ekms-backup' as const,
      v: 2 as const,
      id,
      created,
      token: named(house.house.configuration.token),
      custody: packageFor(how.recipient ?? identity.recipient),
    };
    const about = { journal: '', configuration: '' };
    const content = backupContent.encodeContent(about, { migrations: ['none'], async *rows() {} }, { kept: () => undefined });
    await writeBackupFile(file, { head: { ...head, base }, recipient: identity.recipient, content }, (digest) =>
      house.token.attest('backup', {
        backup: id,
        created,
        digest,
        entries,
        base: { ...base },
        head: log && { ...log, ...(how.origin ? { origin: how.origin } : {}) },
        ...how.stated,
      }),
    );
    await file.close();
    return path;
  };
  /** The appliance’s backups once more, of this module. */
  const others = (of: typeof backups, more: Partial<backups.BackupSettings> = {}, log: backups.LogProofs = house.house.logBook.tiles) => {
    const { storage, audit, token, clock, authorities, configuration } = house.house;
    return new of.Backups(storage, audit, token, clock, authorities.root, log, {
      ...configuration.backup,
      ...{ database, token: named(configuration.token), configuration: () => '' },
      ...more,
    });
  };
  const codeOf = async (what: Promise<unknown>): Promise<string> =>
    what.then(
      () => 'accepted',
      (error: { code?: string }) => error.code ?? String(error),
    );
  const chained = (path: string, of = backupChain, bases: string[] = []) =>
    codeOf(of.openChain(path, { root: house.house.authorities.root, bases }).then((all) => Promise.all(all.map((each) => each.close()))));

  test('a full backup and two that build on it give back, each, every row of its own moment', async () => {
    expect(made.map(({ needs }) => needs.length)).toEqual([0, 1, 2]);
    for (const [n, { rows }] of made.entries()) expect(await put(at(n))).toEqual(rows);
    expect(await house.house.backups.list()).toMatchObject([{ needs: made[2]?.needs }, { needs: made[1]?.needs }, { needs: [] }]);
    expect(await house.house.backups.verify(made[2]?.file ?? '')).toMatchObject({ chain: made.map(({ id }) => ({ id })) });
  });

  test('what is bent after it was checked, in a link or what it builds on, is refused while it is read, and no row of it stays', async () => {
    for (const [n, part] of [
      [0, 0.98],
      [1, 0.98],
      [2, 0.5],
    ] as const) {
      const bytes = readFileSync(at(n));
      const [begin, end] = [bytes.indexOf('\n---') + 60, bytes.length - 7 - Number(bytes.subarray(-7).toString())];
      const bend = () => {
        const bent = Buffer.from(bytes);
        const place = begin + Math.floor(part * (end - begin));
        bent[place] = (bent[place] ?? 0) ^ 1;
        writeFileSync(at(n), bent);
      };
      expect([n, part, await codeOf(put(at(2), backupContent, bend))]).toEqual([n, part, 'age-damaged']);
      writeFileSync(at(n), bytes);
    }
  });

  // What is of files alone is the same with any database.
  const ofFiles = kind === 'sqlite' ? test : () => undefined;

  ofFiles('bent in any region, cut, missing, swapped or foreign, a link or what it builds on is refused by a name of its own', async () => {
    let fired = 0;
    for (const n of [0, 1, 2]) {
      const bytes = readFileSync(at(n));
      const lf = bytes.indexOf(0x0a);
      const end = bytes.length - 7 - Number(bytes.subarray(-7).toString());
      const header = bytes.indexOf('\n---', lf);
      // First line (its braces, its id, its package), age header, content, statement, length.
      const id = bytes.indexOf(made[n]?.id ?? '');
      for (const place of [
        0,
        id,
        lf >> 1,
        lf,
        lf + 30,
        header + 60,
        (header + end) >> 1,
        end - 1,
        end + 9,
        bytes.length - 20,
        bytes.length - 3,
      ]) {
        const bent = Buffer.from(bytes);
        bent[place] = (bent[place] ?? 0) ^ 4;
        writeFileSync(at(n), bent);
        expect([n, place, await chained(at(2))]).toEqual([n, place, expect.stringMatching(/^(backup-damaged|statement-invalid)$/)]);
        fired++;
      }
      writeFileSync(at(n), bytes.subarray(0, bytes.length >> 1));
      expect(await chained(at(2))).toBe('backup-damaged');
      writeFileSync(at(n), bytes);
    }
    expect(fired).toBe(33);
    expect(await chained(at(2))).toBe('accepted');

    renameSync(at(0), join(folder, 'elsewhere'));
    expect(await chained(at(2))).toBe('backup-base-missing');
    expect(await chained(at(2), backupChain, [join(folder, 'elsewhere')])).toBe('accepted');
    copyFileSync(at(1), at(0));
    expect(await chained(at(2))).toBe('backup-chain-broken');
    const elsewhere = await HouseInProcess.open({ settings: { backup: { everyHours: 0 } } });
    custodians(identity.recipient, elsewhere);
    const foreign = (await elsewhere.house.backups.create(BY)).file;
    copyFileSync(foreign, at(0));
    await elsewhere.close();
    expect(await chained(at(2))).toBe('statement-invalid');
  });

  ofFiles(
    'a link that is older than what it builds on, or was made on another file of that id, is refused; without those guards it is taken',
    async () => {
      const guarded = (guard: string) =>
        guardOff<typeof backupChain>({ file: 'src/custody/backup-chain.ts', guard, instead: 'if (false)' });
      const { id = '', file = '' } = made[2] ?? {};
      const { digest } = await house.house.backups.verify(file);
      const older = await forged({ id, digest }, 1);
      expect(await chained(older)).toBe('backup-chain-broken');
      expect(
        await chained(older, guarded('if (earlier.entries > later.entries || (earlier.head?.size ?? 0) > (later.head?.size ?? 0))')),
      ).toBe('accepted');
      for (const [how, guard] of [
        [
          { recipient: newAgeIdentity().recipient },
          'if (before.custody.package.backup.recipient !== link.custody.package.backup.recipient)',
        ],
        [{ origin: 'another' }, 'earlier.head?.origin === later.head?.origin ? undefined :'],
      ] as const) {
        const file = await forged({ id, digest }, 1_000_000, how);
        expect(await chained(file)).toBe('backup-chain-broken');
        const instead = guard.startsWith('if') ? 'if (false)' : 'true ? undefined :';
        expect(await chained(file, guardOff<typeof backupChain>({ file: 'src/custody/backup-chain.ts', guard, instead }))).toBe('accepted');
      }
      // The signature is over another backup than the first line says, or names another base.
      for (const stated of [{ backup: 'another' }, { base: { id, digest: 'another' } }, { base: { id: 'another', digest } }])
        expect(await chained(await forged({ id, digest }, 1_000_000, { stated }))).toBe('backup-damaged');
      const other = await forged({ id, digest: 'another' }, 1_000_000);
      expect(await chained(other)).toBe('backup-chain-broken');
      expect(await chained(other, guarded('if (before.head.id !== base.id || before.statement.digest !== base.digest)'))).toBe('accepted');
    },
  );

  test('a full one is made where the one before is gone, was for other custodians, or its pages are not those that were signed; without that guard a row is lost', async () => {
    const { home } = house.house.configuration;
    const kept = readFileSync(join(home, 'backup-pages'));
    const again = () => writeFileSync(join(home, 'backup-pages'), kept);
    const last = made[2]?.file ?? '';
    expect((await create({ full: true })).needs).toEqual([]);
    again();
    renameSync(last, join(folder, 'away'));
    expect((await create()).needs).toEqual([]);
    again();
    renameSync(join(folder, 'away'), last);
    custodians(newAgeIdentity().recipient);
    expect((await create()).needs).toEqual([]);
    again();
    custodians(identity.recipient);
    expect((await others(backups, {}, { consistency: async () => [] }).create(BY)).needs).toEqual([]);
    again();

    // As if it had been kept by a backup whose file another one took the place of: it knows of every page that there is now.
    await live(1_600, 1_800);
    const pages: Buffer[] = [];
    const snapshot = await openSnapshot(database);
    for await (const { digest } of inPages(snapshot.rows())) pages.push(digest);
    await snapshot.close();
    const wrong = () => writeFileSync(join(home, 'backup-pages'), Buffer.concat([kept, ...pages]));
    wrong();
    expect((await create()).needs).toEqual([]);
    wrong();
    const unguarded = guardOff<typeof backups>({ file: 'src/custody/backups.ts', guard: ' && statement.pages === pages', instead: '' });
    const { file, needs } = await others(unguarded).create(BY);
    expect(needs).toHaveLength(3);
    copyFileSync(file, join(folder, basename(file)));
    // Which is told by the restore at the latest, and without that guard by nobody.
    expect(await codeOf(put(join(folder, basename(file))))).toBe('backup-malformed');
    const blind = guardOff<typeof backupContent>(
      { file: 'src/custody/backup-content.ts', guard: 'if (wanted.size > 0)', instead: 'if (false)' },
      { guard: 'next.end !== count || ', instead: '' },
    );
    const rows = await put(join(folder, basename(file)), blind);
    expect(rows.length).toBeLessThan((await now(database)).length);
    again();
  });

  ofFiles('first lines that name one another in a circle, or are none, end no list', async () => {
    const kept = others(backups, { directory: folder });
    const bent = (n: number, base: number) => {
      const [line = '', ...rest] = readFileSync(at(n), 'latin1').split('\n');
      const head = { ...JSON.parse(line), v: 2, base: { id: made[base]?.id, digest: '' } };
      writeFileSync(at(n), [JSON.stringify(head), ...rest].join('\n'), 'latin1');
    };
    bent(0, 1);
    writeFileSync(join(folder, 'none.ekms-backup'), '');
    expect((await kept.list()).map(({ needs }) => needs)).toEqual([null, null, null, null]);
    expect(await codeOf(kept.verify(at(2)))).toBe('backup-damaged');
  });

  ofFiles(
    'what rotted is not built on: a full one is made, doctor names the file until it is whole again; without that guard nobody could restore the next one',
    async () => {
      const rotting = { keep: 100, everyHours: 24, directory: join(folder, 'rotting') };
      const kept = others(backups, rotting);
      const first = (await kept.create(BY)).file;
      expect((await kept.create(BY)).needs).toHaveLength(1);
      const whole = readFileSync(first);
      const bent = Buffer.from(whole);
      bent[bent.length >> 1] = (bent[bent.length >> 1] ?? 0) ^ 1;
      writeFileSync(first, bent);
      const told = async () => {
        const findings = new Findings('custody');
        examineSpoilt(await kept.list(), await backups.spoiltBackups(house.db), findings);
        return findings.end('whole').map(({ words }) => words)[0];
      };
      const home = join(house.house.configuration.home, 'backup-pages');
      const pages = readFileSync(home);
      const unguarded = guardOff<typeof backups>({
        file: 'src/custody/backups.ts',
        guard: 'await (await openBackupFile(file, this.root)).close();',
        instead: '',
      });
      const { file, needs } = await others(unguarded, rotting).create(BY);
      expect(needs).toHaveLength(2);
      expect(await codeOf(kept.verify(file))).toBe('backup-damaged');
      writeFileSync(home, pages);
      expect(await told()).toBe('whole');
      const full = await kept.create(BY);
      expect(full.needs).toEqual([]);
      expect(await told()).toMatch(new RegExp(`found damaged, ${first}: .* not what the appliance signed`));
      expect(await codeOf(kept.verify(first))).toBe('backup-damaged');
      writeFileSync(first, whole);
      await kept.verify(full.file);
      expect(await told()).toContain(first);
      await kept.verify(file);
      expect(await told()).toBe('whole');
    },
  );

  ofFiles('each of several that were found damaged is told of until it is whole itself, or was read whole by the next backup', async () => {
    const kept = others(backups, { keep: 100, directory: join(folder, 'several') });
    const told = async () => {
      const findings = new Findings('custody');
      examineSpoilt(await kept.list(), await backups.spoiltBackups(house.db), findings);
      return findings.end('whole').map(({ words }) => /damaged, (\S+):/.exec(words)?.[1] ?? words);
    };
    const rot = (file: string) => {
      const whole = readFileSync(file);
      truncateSync(file, 5_000);
      return () => writeFileSync(file, whole);
    };
    const one = (await kept.create(BY)).file;
    rot(one);
    const two = (await kept.create(BY)).file;
    const again = rot(two);
    const pages = readFileSync(join(house.house.configuration.home, 'backup-pages'));
    await kept.create(BY);
    expect(await told()).toEqual([one, two]);
    again();
    await kept.verify(two);
    expect(await told()).toEqual([one]);
    rmSync(one);
    expect(await told()).toEqual(['whole']);

    // A disk that did not give it back for a moment: the next one reads it whole and builds on it.
    writeFileSync(join(house.house.configuration.home, 'backup-pages'), pages);
    await house.db.write((unit) => backups.remember(unit, 'custody.backup-spoilt', { name: basename(two), words: 'EIO', time: 0 }));
    expect(await told()).toEqual([two]);
    expect((await kept.create(BY)).needs).toEqual([basename(two)]);
    expect(await told()).toEqual(['whole']);
  });

  ofFiles(
    'a newest backup whose ends are damaged is followed by a full one within the hour, once; one that was taken away is not',
    async () => {
      const kept = others(backups, { keep: 100, everyHours: 24, directory: join(folder, 'hourly') });
      const { file } = await kept.create(BY);
      const count = async () => {
        await kept.createDue();
        return (await kept.list()).length;
      };
      expect(await count()).toBe(1);
      renameSync(file, join(folder, 'taken'));
      expect(await count()).toBe(0);
      renameSync(join(folder, 'taken'), file);
      truncateSync(file, 5_000);
      expect(await count()).toBe(2);
      expect((await kept.list())[0]).toMatchObject({ needs: [] });
      truncateSync((await kept.list())[0]?.file ?? '', 5_000);
      expect(await count()).toBe(2);
      house.pass(24 * 3_600_000);
      expect(await count()).toBe(3);
      expect(await count()).toBe(3);
    },
  );

  test('every fourth is full, and what the three newest build on stays', async () => {
    const kept = others(backups, { keep: 3, directory: join(folder, 'kept') });
    const needs: number[] = [];
    for (let n = 0; n < 6; n++) {
      await live(2_000 + 10 * n, 2_003 + 10 * n);
      needs.push((await kept.create(BY)).needs.length);
      for (const { file } of await kept.list()) await kept.verify(file);
    }
    expect(needs).toEqual([0, 1, 2, 3, 0, 1]);
    expect((await kept.list()).map(({ needs }) => needs?.length)).toEqual([1, 0, 3, 2, 1, 0]);
  });
});
