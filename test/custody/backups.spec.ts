import { expect, test } from '@jest/globals';
import { examineBackups } from '../../src/commands/doctor-custody.js';
import { Findings } from '../../src/commands/finding.js';
import * as backups from '../../src/custody/backups.js';
import type { Snapshot } from '../../src/storage/index.js';
import { guardOff } from '../support/guard-off.js';

/** A token whose key `n` comes into the package, then into the journal; the succession falls between the package that is read and the journal. */
function changing(times: number) {
  let n = 1;
  let open = 0;
  const token = {
    custody: async () => `package of 1 to ${n}`,
    journalCopy: async () => {
      if (n <= times) n++;
      return Buffer.from(`journal of ${n}`);
    },
  };
  const rows = async (): Promise<Snapshot> => {
    open++;
    return {
      migrations: [],
      tables: [],
      entries: 0,
      async *rows() {},
      close: async () => {
        open--;
      },
    };
  };
  return { token, rows, left: () => open };
}
const named = ({ custody, journal }: { custody: string; journal: Buffer }) => [custody, journal.toString()];

test('a key that succeeds while a backup is begun is in its package, as in its journal; without that guard it is not', async () => {
  const { token, rows, left } = changing(2);
  expect(named(await backups.takenTogether(token, rows))).toEqual(['package of 1 to 3', 'journal of 3']);
  expect(left()).toBe(1);
  const unguarded = guardOff<typeof backups>({ file: 'src/custody/backups.ts', guard: 'if (after === custody) return', instead: 'return' });
  const other = changing(2);
  expect(named(await unguarded.takenTogether(other.token, other.rows))).toEqual(['package of 1 to 1', 'journal of 2']);
});

test('keys that change without an end make no backup, and none is left open', async () => {
  const { token, rows, left } = changing(Number.POSITIVE_INFINITY);
  await expect(backups.takenTogether(token, rows)).rejects.toMatchObject({ code: 'backup-overtaken' });
  expect(left()).toBe(0);
});

test('the backup that was just made is kept, also where others bear a later date because the clock was ahead once; without that guard it is the first to go', () => {
  const listed = ['2031-b', '2031-a', '2026-now', '2026-old'].map((file) => ({
    ...{ file: `/backups/${file}`, bytes: 1, modified: '', id: file, needs: [] },
  }));
  expect(backups.outdated(listed, 2, '2026-now').map(({ file }) => file)).toEqual(['/backups/2026-old']);
  const unguarded = guardOff<typeof backups>({ file: 'src/custody/backups.ts', guard: ' || basename(file) === made', instead: '' });
  expect(unguarded.outdated(listed, 2, '2026-now').map(({ file }) => file)).toContain('/backups/2026-now');
});

test('what a kept backup builds on is kept with it, however old; without that guard it goes', () => {
  const listed = [
    { file: 'd', needs: ['b', 'c'] },
    { file: 'c', needs: ['b'] },
    { file: 'b', needs: [] },
    { file: 'a', needs: [] },
  ].map((each) => ({ ...each, id: each.file, bytes: 1, modified: '' }));
  expect(backups.outdated(listed, 1, 'd').map(({ file }) => file)).toEqual(['a']);
  const unguarded = guardOff<typeof backups>({ file: 'src/custody/backups.ts', guard: ', ...(needs ?? [])]', instead: ']' });
  expect(unguarded.outdated(listed, 1, 'd').map(({ file }) => file)).toEqual(['c', 'b', 'a']);
});

const unreadBase = [
  { file: 'L3', id: 'L3', needs: null }, // L1 builds on F, and cannot be read just now
  { file: 'L2', id: 'L2', needs: null },
  { file: 'L1', id: null, needs: null },
  { file: 'F', id: 'F', needs: [] },
  { file: 'E', id: 'E', needs: [] },
].map((each) => ({ ...each, bytes: 1, modified: '' }));

test('while a first line cannot be read nothing is removed; without that guard the base of a kept backup goes', () => {
  expect(backups.outdated(unreadBase, 3, 'L3')).toEqual([]);
  const unguarded = guardOff<typeof backups>({
    file: 'src/custody/backups.ts',
    guard: 'if (listed.some(({ id, needs }) => id === null || needs === null)) return [];',
    instead: '',
  });
  expect(unguarded.outdated(unreadBase, 3, 'L3').map(({ file }) => file)).toContain('F');
});

test('doctor names each backup of which a restore would not find all, also an older one', () => {
  const told = (listed: typeof unreadBase) => {
    const findings = new Findings('custody');
    examineBackups(listed, findings);
    return findings.end('').map(({ verdict, words }) => `${verdict} ${words.replace(/:.*/, '')}`);
  };
  expect(told(unreadBase)).toEqual([
    'bad the newest backup, L3, builds on one that is not beside it, or cannot be read',
    'warn a backup, L2, builds on one that is not beside it, or cannot be read',
    'warn a backup, L1, has no first line that can be read',
  ]);
  expect(told(unreadBase.slice(3))).toEqual(['good ']);
});
