import 'reflect-metadata';
import { describe, expect, jest, test } from '@jest/globals';
import { dice } from '../faults/dice.js';
import { softHsmIsHere } from '../support/softhsm.js';
import { KillLab } from './kill-lab.js';
import { onNewPostgres } from './new-postgres.js';

// The fifty of `ekms campaign log-kills` in short. Wide: a node takes a second to start on a busy machine.
jest.setTimeout(180_000);
const SEED = 5;

async function campaign(count: number, url?: string, nodes: 1 | 2 = 1): Promise<void> {
  const lab = await KillLab.open(url, nodes);
  try {
    const roll = dice(SEED);
    let [fired, acknowledged] = [0, 0];
    for (let n = 0; n < count; n += 1) {
      const outcome = await lab.run(roll);
      expect({ run: n, problems: outcome.problems }).toEqual({ run: n, problems: [] });
      fired += Number(outcome.fired);
      acknowledged += outcome.acknowledged;
    }
    console.log(`log-kills seed ${SEED}: ${count} kills, ${fired} under writing, ${acknowledged} acts acknowledged before`);
    expect(fired).toBeGreaterThan(count / 2);
    expect(await lab.wholeLog()).toEqual([]);
    // With act and entry in two units of work a kill comes in between.
    const torn: string[] = [];
    for (let n = 0; n < 10 && torn.length === 0; n += 1) torn.push(...(await lab.run(roll, true)).problems);
    expect(torn).toContainEqual(expect.stringContaining('was done and has no entry'));
  } finally {
    await lab.close();
  }
}

(softHsmIsHere() ? describe : describe.skip)('a node that is killed while 64 write', () => {
  test('leaves a whole log: each acknowledged act has its entry, none has two, nothing is half done, and the token signs on', () =>
    campaign(8));

  (process.env['EKMS_TEST_POSTGRES'] ? test : test.skip)('two nodes on PostgreSQL, one is killed: the same, and the other goes on', () =>
    onNewPostgres((url) => campaign(4, url, 2)),
  );
});
