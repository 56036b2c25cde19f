import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { SystemClock } from '../../src/foundation/index.js';
import { Journal } from '../../src/tokens/index.js';

const clock = new SystemClock();
const give = (n: number) => [{ kind: 'give', of: 'rsa-3072', n }] as const;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-journal-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Pair 1 is given, a backup is made, pairs 2 and 3 are made and 2 is given; then the disk is lost, and the backup's journal comes back. */
async function restored(guard: boolean): Promise<Journal> {
  const path = join(folder, 'journal');
  Journal.create(path);
  const journal = await Journal.open(path, clock);
  await journal.nextPair();
  await journal.admit(give(1));
  const copy = journal.copy();
  for (let n = 2; n <= 3; n++) await journal.nextPair();
  await journal.admit(give(2));
  await journal.block('9f1c1c1e-0000-4000-8000-000000000000');
  await journal.close();
  await Journal.restore(join(folder, 'restored'), copy, clock, { guard });
  return Journal.open(join(folder, 'restored'), clock);
}

test('after a restore no pair that was made or given since the backup is ever given again, and numbers do not come twice', async () => {
  const journal = await restored(true);
  for (const n of [1, 2, 3]) await expect(journal.admit(give(n))).rejects.toMatchObject({ code: 'pair-spent' });
  const next = await journal.nextPair();
  expect(next).toBeGreaterThan(2 ** 32);
  await journal.admit(give(next));
  await journal.close();
});

test('with the guard off, the pair given after the backup gets a second owner', async () => {
  const journal = await restored(false);
  await expect(journal.admit(give(1))).rejects.toMatchObject({ code: 'pair-spent' });
  await journal.admit(give(2));
  await journal.close();
});
