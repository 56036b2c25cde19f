import 'reflect-metadata';
import { describe, expect, jest, test } from '@jest/globals';
import { dice } from '../faults/dice.js';
import { softHsmIsHere } from '../support/softhsm.js';
import { KillLab } from './kill-lab.js';
import { onNewPostgres } from './new-postgres.js';

// Wide: a node takes a second to start on a busy machine.
jest.setTimeout(300_000);
const SEED = 5;

async function campaign(count: number, url?: string, nodes: 1 | 2 = 1): Promise<void> {
  const lab = await KillLab.open(url, nodes);
  try {
    const roll = dice(SEED);
    let [kills, fired, acknowledged] = [0, 0, 0];
    while (kills < count) {
      const outcome = await lab.run(roll);
      expect({ kills, problems: outcome.problems }).toEqual({ kills, problems: [] });
      kills += outcome.kills;
      fired += outcome.fired;
      acknowledged += outcome.acknowledged;
    }
    console.log(`log-kills seed ${SEED}: ${kills} kills, ${fired} under writing, ${acknowledged} acts acknowledged before`);
    expect(fired).toBe(kills);
    expect(await lab.wholeLog()).toEqual([]);
    if (nodes === 2) return; // the guard is the same
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
    campaign(50));

  (process.env['EKMS_TEST_POSTGRES'] ? test : test.skip)(
    'two nodes on PostgreSQL, one is killed: the same, and the other goes on until it is killed too',
    () => onNewPostgres((url) => campaign(50, url, 2)),
  );
});
