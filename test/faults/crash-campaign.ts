import 'reflect-metadata';
import { parseArgs } from 'node:util';
import type { Plan } from '../support/crashing-parts.js';
import { CrashLab, type Outcome } from './crash-lab.js';
import { dice } from './dice.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '50' },
    only: { type: 'string' },
    'without-reconcile': { type: 'boolean', default: false },
    'guard-off': { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const count = Number(values.count);

/** Taken in turn, so that a short campaign has some of each. */
const KINDS = [
  /^token .* before$/,
  /^unit end$/,
  /^mail/,
  /^token .* sent$/,
  /^audit/,
  /^commit/,
  /^token .* after$/,
  /^time$/,
  /^unit begin$/,
];

/** What is cut there is finished by the next start, and by nothing else. */
const CUT = 'token issueDevice after';

const roll = dice(seed);
const began = Date.now();
const engines = process.env['EKMS_TEST_POSTGRES'] ? (['sqlite', 'sqlite', 'postgres', 'sqlite', 'sqlite'] as const) : (['sqlite'] as const);
const lab = await CrashLab.open([...new Set(engines.slice(0, count))]);
lab.reconciles = !values['without-reconcile'];
const outcomes: { plan: Plan; outcome: Outcome }[] = [];
let redrawn = 0;
let unreconciled: string[] | undefined;
try {
  const steps = await lab.profile();
  const names = [...steps.keys(), 'time'].filter((name) => values.only === undefined || name.startsWith(values.only)).toSorted();
  const kinds = KINDS.map((kind) => names.filter((name) => kind.test(name))).filter((some) => some.length > 0);
  console.log(
    `seed ${seed}; ${names.length} steps, with how often a life goes through them: ${names.map((name) => `${name} ${steps.get(name) ?? '(any ms)'}`).join(', ')}`,
  );
  while (outcomes.length < count && redrawn < 3 * count + 10) {
    const kind = kinds[(outcomes.length + redrawn) % kinds.length] ?? names;
    const step = kind[roll(kind.length)] ?? 'time';
    const plan = { step, k: step === 'time' ? 20 + roll(lab.span) : 1 + roll(steps.get(step) ?? 1) };
    const engine = engines[outcomes.length % engines.length] ?? 'sqlite';
    const outcome = await lab.run(engine, plan);
    if (!outcome.fired && outcome.problems.length === 0) {
      redrawn += 1;
      continue;
    }
    outcomes.push({ plan, outcome });
    const { problems, acknowledged, readyAgain } = outcome;
    console.log(
      `${outcomes.length}/${count} ${engine} ${plan.step} #${plan.k}: ${acknowledged} acknowledged before, serving again in ${readyAgain} ms${problems.length === 0 ? '' : ` — ${problems.length} PROBLEMS`}`,
    );
    for (const problem of problems) console.log(`    ${problem}`);
  }
  if (values['guard-off']) {
    lab.reconciles = false;
    for (let tries = 0; unreconciled === undefined && tries < 5; tries++) {
      const { fired, problems } = await lab.run('sqlite', { step: CUT, k: 1 + roll(steps.get(CUT) ?? 1) });
      if (fired) unreconciled = problems;
    }
  }
} finally {
  await lab.close();
}
const perStep: Record<string, number> = {};
for (const { plan } of outcomes) perStep[plan.step] = (perStep[plan.step] ?? 0) + 1;
const failed = outcomes.filter(({ outcome }) => outcome.problems.length > 0);
console.log(
  JSON.stringify({
    seed,
    runs: outcomes.length,
    fired: outcomes.filter(({ outcome }) => outcome.fired).length,
    redrawn,
    failed: failed.length,
    acknowledged: outcomes.reduce((sum, { outcome }) => sum + outcome.acknowledged, 0),
    slowestReady: Math.max(0, ...outcomes.map(({ outcome }) => outcome.readyAgain)),
    seconds: Math.round((Date.now() - began) / 1000),
    perStep,
    ...(unreconciled ? { unreconciled } : {}),
  }),
);
process.exitCode = failed.length === 0 && outcomes.length === count ? 0 : 1;
