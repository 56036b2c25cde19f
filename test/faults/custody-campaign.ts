import 'reflect-metadata';
import { withoutGuards } from './custody-guards.js';
import { ACT_NAMES, type ActName, CustodyLab } from './custody-lab.js';
import { dice } from './dice.js';
import { RestoreLab } from './restore-lab.js';

/** Not in a short campaign. */
const LONG: readonly ActName[] = ['ceremony', 'reissue', 'pin'];

export interface CampaignOptions {
  seed: number;
  kills?: number;
  restores?: number;
  /** Only this act is killed, or only before this step. */
  only?: string | undefined;
  at?: number | undefined;
  /** The acts are not lived through first to count their steps, and neither ceremony, reissue nor PIN change is killed. */
  short?: boolean;
  /** So many guards of reissue and migration are taken away, one at a time; in a long campaign each is left on once, too. */
  guards?: number;
  /** Takes the guard away: what was cut in half is not told again. */
  withoutSecondTelling?: boolean;
  /** Takes the guard away: a folder is put back by hand instead of restored, which must be found. */
  byCopy?: boolean;
}

/** Fewer than the acts take: the last ones stay out of a short campaign. */
const AT_LEAST: Record<ActName, number> = {
  birth: 150,
  backup: 20,
  rotation: 120,
  keys: 60,
  authorities: 250,
  migrate: 60,
  import: 20,
  ceremony: 1_000,
  restore: 600,
  reissue: 60,
  pin: 40,
};

/** Kills and restores copies of one appliance. Ends with one line of JSON; exit status 0 only if every promise was kept. */
export async function campaign(options: CampaignOptions): Promise<void> {
  const began = Date.now();
  const { seed, kills = 0, restores = 0, guards = 0, byCopy = false, short = false } = options;
  const roll = dice(seed);
  const lab = await CustodyLab.open();
  const outcome: Record<string, unknown> = { seed };
  try {
    console.log(`seed ${seed}; the appliance is made in ${Math.round((Date.now() - began) / 1000)} s`);
    if (kills > 0) Object.assign(outcome, await kill(lab, roll, { ...options, kills }));
    if (guards > 0) Object.assign(outcome, await withoutGuards(lab, { count: guards, both: !short }));
    const restoring = new RestoreLab(lab, roll, short ? 2 : undefined);
    if (restores > 0) Object.assign(outcome, await restore(restoring, restores));
    if (byCopy) outcome['doublesByCopy'] = (await restoring.byCopy()).length;
  } finally {
    await lab.close();
  }
  const told = (name: string) => (outcome[name] as string[] | undefined)?.length ?? 0;
  const failed = Number(outcome['failed'] ?? 0) + Number(outcome['failedRestores'] ?? 0) + told('unseen') + told('guarded');
  console.log(JSON.stringify({ ...outcome, seconds: Math.round((Date.now() - began) / 1000) }));
  process.exitCode = failed === 0 && Number(outcome['fired'] ?? 0) === kills ? 0 : 1;
}

async function kill(lab: CustodyLab, roll: (sides: number) => number, options: CampaignOptions & { kills: number }) {
  const { kills, only, at, short = false, withoutSecondTelling = false } = options;
  const acts = ACT_NAMES.filter((name) => (only === undefined ? !short || !LONG.includes(name) : name === only));
  lab.again = !withoutSecondTelling;
  const perAct: Record<string, number> = {};
  let [fired, redrawn, failed] = [0, 0, 0];
  while (fired < kills && redrawn < kills + 10) {
    const act = acts[fired % acts.length] as ActName; // not empty
    const step = at ?? 1 + roll(short ? AT_LEAST[act] : await lab.count(act));
    const alone = roll(3) === 0;
    const { step: before, problems } = await lab.kill(act, step, alone);
    if (before === undefined && problems.length === 0) {
      redrawn += 1;
      continue;
    }
    fired += 1;
    perAct[act] = (perAct[act] ?? 0) + 1;
    tell(`${fired}/${kills} ${act} #${step}${alone ? ', one process' : ''}, before ${before}`, problems);
    if (problems.length > 0) failed++;
  }
  return { fired, redrawn, failed, perAct };
}

async function restore(lab: RestoreLab, restores: number) {
  const perWay: Record<string, number> = {};
  const seconds: number[] = [];
  let [failedRestores, refusals] = [0, 0];
  for (let n = 0; n < restores; n++) {
    const { way, refused, seconds: took, problems } = await lab.run(n);
    perWay[way] = (perWay[way] ?? 0) + 1;
    refusals += refused;
    seconds.push(took);
    tell(`${n + 1}/${restores} ${way}: ${refused} refused, restored in ${took} s`, problems);
    if (problems.length > 0) failedRestores++;
  }
  return { restores, failedRestores, refusals, perWay, medianRestore: seconds.toSorted((a, b) => a - b)[seconds.length >> 1] };
}

function tell(words: string, problems: readonly string[]): void {
  console.log(problems.length === 0 ? words : `${words} — ${problems.length} PROBLEMS`);
  for (const problem of problems) console.log(`    ${problem}`);
}
