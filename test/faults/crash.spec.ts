import { expect, test } from '@jest/globals';
import { campaign } from './campaign.js';

/** `ekms campaign crash --seed S --count N` runs more of them. */
const RUNS = 12;

test('an appliance that is killed at any step loses, doubles and abandons nothing, and serves again within 30 s', async () => {
  const { status, said, result } = await campaign('crash', '--count', String(RUNS));
  if (status !== 0) throw new Error(said);
  // A fault that never fired is no run.
  expect(result).toMatchObject({ runs: RUNS, fired: RUNS, failed: 0 });
}, 600_000);

test('the campaign sees it when a start does not finish what a crash cut in half', async () => {
  const { status, said, result } = await campaign('crash', '--count', '1', '--only', 'token issueDevice after', '--without-reconcile');
  expect({ status, result }).toMatchObject({ status: 1, result: { runs: 1, fired: 1, failed: 1 } });
  expect(said).toMatch(/intent enrol [0-9a-f-]+ is still open/);
}, 120_000);
