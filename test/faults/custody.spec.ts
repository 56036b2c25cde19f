import { expect, test } from '@jest/globals';
import { campaign } from './campaign.js';

/** `ekms campaign custody` and `ekms campaign restore --seed S --count N` run more of them. */
const KILLS = 4;
const RESTORES = 6;

test('killed between two steps of birth, backup, rotation or import it goes on, restored it is whole, and a pair never has two owners', async () => {
  const { status, said, result } = await campaign(
    'custody',
    '--count',
    String(KILLS),
    '--restores',
    String(RESTORES),
    '--short',
    '--by-copy',
  );
  if (status !== 0) throw new Error(said);
  // A fault that never fired is no run. A folder put back by hand instead of restored gives a pair twice, and the check sees it.
  expect(result).toMatchObject({ fired: KILLS, failed: 0, restores: RESTORES, failedRestores: 0, doublesByCopy: 1 });
  expect((result as { refusals: number }).refusals).toBeGreaterThan(8 * RESTORES);
}, 900_000);
