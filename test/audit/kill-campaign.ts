import 'reflect-metadata';
import { parseArgs } from 'node:util';
import { dice } from '../faults/dice.js';
import { KillLab, type KillOutcome } from './kill-lab.js';
import { onNewPostgres } from './new-postgres.js';

const { values } = parseArgs({
  options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '50' }, nodes: { type: 'string', default: '1' } },
});
const [seed, count] = [Number(values.seed), Number(values.count)];
const nodes = values.nodes === '2' ? 2 : 1;
const roll = dice(seed);
const began = Date.now();

async function campaign(url?: string): Promise<{ outcomes: KillOutcome[]; whole: string[] }> {
  const lab = await KillLab.open(url, nodes);
  const outcomes: KillOutcome[] = [];
  try {
    while (outcomes.length < count) outcomes.push(await lab.run(roll));
    return { outcomes, whole: await lab.wholeLog() };
  } finally {
    await lab.close();
  }
}

const { outcomes, whole } = nodes === 2 ? await onNewPostgres(campaign) : await campaign();
const problems = [...outcomes.flatMap((outcome, n) => outcome.problems.map((problem) => `run ${n + 1}: ${problem}`)), ...whole];
for (const problem of problems) console.error(problem);
console.log(
  JSON.stringify({
    seed,
    nodes,
    runs: outcomes.length,
    fired: outcomes.filter(({ fired }) => fired).length,
    acknowledged: outcomes.reduce((sum, { acknowledged }) => sum + acknowledged, 0),
    problems: problems.length,
    seconds: Math.round((Date.now() - began) / 1000),
  }),
);
process.exitCode = problems.length === 0 ? 0 : 1;
