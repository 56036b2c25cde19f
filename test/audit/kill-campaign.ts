import 'reflect-metadata';
import { parseArgs } from 'node:util';
import { dice } from '../faults/dice.js';
import { KillLab, type KillOutcome } from './kill-lab.js';
import { onNewPostgres } from './new-postgres.js';

const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '50' } } });
const [seed, count] = [Number(values.seed), Number(values.count)];

async function campaign(nodes: 1 | 2, url?: string): Promise<boolean> {
  const roll = dice(seed);
  const began = Date.now();
  const lab = await KillLab.open(url, nodes);
  const outcomes: KillOutcome[] = [];
  const sum = (of: 'kills' | 'fired' | 'acknowledged') => outcomes.reduce((all, outcome) => all + outcome[of], 0);
  try {
    while (sum('kills') < count) outcomes.push(await lab.run(roll));
    const problems = [
      ...outcomes.flatMap((outcome, n) => outcome.problems.map((problem) => `run ${n + 1}: ${problem}`)),
      ...(await lab.wholeLog()),
    ];
    for (const problem of problems) console.error(problem);
    console.log(
      JSON.stringify({
        ...{ seed, database: url ? 'PostgreSQL' : 'SQLite', nodes },
        ...{ kills: sum('kills'), fired: sum('fired'), acknowledged: sum('acknowledged') },
        ...{ problems: problems.length, seconds: Math.round((Date.now() - began) / 1000) },
      }),
    );
    return problems.length === 0;
  } finally {
    await lab.close();
  }
}

const held = [await campaign(1)];
if (process.env['EKMS_TEST_POSTGRES']) held.push(await onNewPostgres((url) => campaign(2, url)));
else console.error('two nodes on PostgreSQL: not run, EKMS_TEST_POSTGRES is not set');
process.exitCode = held.every(Boolean) ? 0 : 1;
