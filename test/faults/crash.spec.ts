import { beforeAll, expect, test } from '@jest/globals';
import { campaign } from './campaign.js';

/** `ekms campaign crash --seed S --count N` runs more of them. */
const RUNS = 12;

let ran: Awaited<ReturnType<typeof campaign>>;
beforeAll(async () => {
  ran = await campaign('crash', '--count', String(RUNS), '--guard-off');
}, 600_000);

test('an appliance that is killed at any step loses, doubles and abandons nothing, and serves again within 30 s', () => {
  const { status, said, result } = ran;
  if (status !== 0) throw new Error(said);
  // A fault that never fired is no run.
  expect(result).toMatchObject({ runs: RUNS, fired: RUNS, failed: 0 });
});

test('the campaign sees it when a start does not finish what a crash cut in half', () => {
  expect(ran.result).toMatchObject({
    unreconciled: expect.arrayContaining([expect.stringMatching(/^intent enrol [0-9a-f-]+ is still open/)]),
  });
});
