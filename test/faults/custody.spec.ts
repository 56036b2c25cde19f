import { expect, test } from '@jest/globals';
import { campaign } from './campaign.js';

/** `ekms campaign custody` and `ekms campaign restore --seed S --count N` run more of them. */
const KILLS = 8;
/** `ekms campaign custody-guards --count 10` takes all of them away. */
const GUARDS = 2;
const RESTORES = 6;

test('killed between two steps of birth, backup, rotation, import, new keys, a new authority, a move to another token or a restore it goes on, restored it is whole, and a pair never has two owners', async () => {
  const { status, said, result } = await campaign(
    'custody',
    '--count',
    String(KILLS),
    '--restores',
    String(RESTORES),
    '--guards-off',
    String(GUARDS),
    '--short',
    '--by-copy',
  );
  if (status !== 0) throw new Error(said);
  // A fault that never fired is no run. A folder put back by hand instead of restored gives a pair twice, and the check sees it.
  const perAct = { birth: 1, backup: 1, rotation: 1, import: 1, keys: 1, authorities: 1, migrate: 1, restore: 1 };
  expect(result).toMatchObject({ guardsOff: GUARDS, unseen: [] });
  expect(result).toMatchObject({ fired: KILLS, perAct, failed: 0, restores: RESTORES, failedRestores: 0, doublesByCopy: 1 });
  expect((result as { refusals: number }).refusals).toBeGreaterThan(8 * RESTORES);
}, 900_000);
