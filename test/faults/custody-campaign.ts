import 'reflect-metadata';
import { parseArgs } from 'node:util';
import { ACT_NAMES, type ActName, CustodyLab } from './custody-lab.js';
import { dice } from './dice.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '50' },
    only: { type: 'string' },
    at: { type: 'string' },
    short: { type: 'boolean', default: false },
    'without-second-telling': { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const count = Number(values.count);
const acts = ACT_NAMES.filter((name) => (values.only === undefined ? !values.short || name !== 'ceremony' : name === values.only));
const roll = dice(seed);
const began = Date.now();
const perAct: Record<string, number> = {};
const failed: string[] = [];
let fired = 0;
let redrawn = 0;

/** With `--short` the acts are not lived through first to count their steps: fewer than they take, the last ones stay out. */
const AT_LEAST: Record<ActName, number> = { birth: 150, backup: 16, rotation: 120, ceremony: 1_000, restore: 600 };

const lab = await CustodyLab.open();
lab.again = !values['without-second-telling'];
try {
  console.log(`seed ${seed}; the appliance is made in ${Math.round((Date.now() - began) / 1000)} s`);
  while (fired < count && redrawn < count + 10) {
    const act = acts[(fired + redrawn) % acts.length] as ActName; // not empty
    const steps = values.at ? Number(values.at) : 1 + roll(values.short ? AT_LEAST[act] : await lab.count(act));
    const alone = roll(3) === 0;
    const { step, problems } = await lab.kill(act, steps, alone);
    if (step === undefined && problems.length === 0) {
      redrawn += 1;
      continue;
    }
    fired += 1;
    perAct[act] = (perAct[act] ?? 0) + 1;
    const words = `${fired}/${count} ${act} #${steps}${alone ? ', one process' : ''}, before ${step}`;
    console.log(problems.length === 0 ? words : `${words} — ${problems.length} PROBLEMS`);
    for (const problem of problems) console.log(`    ${problem}`);
    if (problems.length > 0) failed.push(words);
  }
} finally {
  await lab.close();
}
console.log(JSON.stringify({ seed, fired, redrawn, failed: failed.length, seconds: Math.round((Date.now() - began) / 1000), perAct }));
process.exitCode = failed.length === 0 && fired === count ? 0 : 1;
