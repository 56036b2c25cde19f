import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { reconcile } from '../../src/commands/reconcile.js';
import { loadConfiguration } from '../../src/configuration/index.js';
import { openHouse } from '../../src/house.js';
import type { CustodyHome, Ended } from './custody-home.js';
import { type CustodyLab, wholeness } from './custody-lab.js';
import { type Change, changedBuild, deathBefore } from './guardless-build.js';

const installation = { root: resolve(import.meta.dirname, '../..') };
const PATIENCE_MS = 20_000;

/** One guard of a command that changes keys at rest, and the way in which it is needed. */
interface Case {
  title: string;
  act: 'reissue' | 'migrate';
  guard: readonly Change[];
  /** Without the guard already when it is told first; else when it is told again. */
  atFirst?: true;
  /** Where the first telling dies. Without one it is told once. */
  dies?: string;
  /** What else is wrong with the program. */
  fault?: Change;
  before?: (home: CustodyHome) => unknown;
  /** Label of the token that is moved to. */
  to?: string;
  /** The appliance's life between the two tellings. */
  between?: (home: CustodyHome) => Promise<unknown>;
  /** What is wrong afterwards; `told` is how the last telling ended. Without one: it must have ended well, and everything be whole. */
  look?: (home: CustodyHome, told: Ended) => Promise<string[]> | string[];
}

const OPENS = 'const { seal, ...counted } = await proved(then, said, installation);';
const CARRIES =
  'Journal.carry(join(placesOf(now, installation).tokenState, "journal"), join(placesOf(then, installation).tokenState, "journal"));';
const switched = (home: CustodyHome) => readFileSync(join(home.path, 'ekms.yaml'), 'utf8').includes('other');
const stranger = (home: CustodyHome) => home.beside('new-shares', 'share-1-Somebody.txt');

/** Those that a short campaign takes come first. */
const CASES: readonly Case[] = [
  {
    title: 'a reissue that died after the new package took its place is finished, not begun anew with shares that are void',
    act: 'reissue',
    guard: [
      { text: 'if (begun === base64url(before.ceremony)) {', instead: 'if (false) {' },
      { text: 'if (known.former === known.now) {', instead: 'if (true) {' },
    ],
    dies: 'for (const secret of [ceremonyKey, made.ceremonyKey, handed.recombined, identity.secret])',
    // What it leaves is the mark: it dies one step before that goes.
    fault: { text: 'rmSync(mark);\n      for', instead: 'for' },
  },
  {
    title: 'a migration switches nothing while a pair does not open under the new token',
    act: 'migrate',
    guard: [{ text: 'pairs: await openPairs(storage, token)', instead: 'pairs: 0' }],
    atFirst: true,
    before: (home) => {
      const database = new Database(join(home.path, 'ekms.db'));
      const row = database.prepare('SELECT n, wrapped FROM pool').get() as { n: number; wrapped: Buffer };
      row.wrapped[40] = (row.wrapped[40] ?? 0) ^ 1;
      database.prepare('UPDATE pool SET wrapped = ? WHERE n = ?').run(row.wrapped, row.n);
      database.close();
    },
    look: (home) => (switched(home) ? ['it was switched to a token under which a pair does not open'] : []),
  },
  {
    title: 'a reissue begins anew where it died among the shares',
    act: 'reissue',
    guard: [{ text: 'rmSync(join(out, name));', instead: ';' }],
    dies: 'replaceState(token.state, CUSTODY_FILE, Buffer.from(encodePackage({ package: handed.package, mac: hsm.mac(packageMacInput(handed.package)) })));',
  },
  {
    title: 'a reissue knows its own shares when it is told again, by the mark that it wrote before them',
    act: 'reissue',
    guard: [{ text: 'writeDurably(mark,', instead: 'void (' }],
    atFirst: true,
    dies: 'replaceState(token.state, CUSTODY_FILE, Buffer.from(encodePackage({ package: handed.package, mac: hsm.mac(packageMacInput(handed.package)) })));',
  },
  {
    title: 'a reissue deletes no share that another one wrote',
    act: 'reissue',
    guard: [{ text: 'if (begun === void 0 && readdirSync(out).length > 0)', instead: 'if (false)' }],
    atFirst: true,
    before: (home) => {
      mkdirSync(home.beside('new-shares'));
      writeFileSync(stranger(home), 'the only one');
    },
    look: (home) => (existsSync(stranger(home)) ? [] : ['a share of somebody else is gone']),
  },
  {
    title: 'a package whose copies open nothing never takes the place of one whose copies do',
    act: 'reissue',
    guard: [{ text: 'opening.close();\n      proveCustody(', instead: 'opening.close();\n      void (' }],
    atFirst: true,
    fault: { text: 'seal.reseal(opening, entry)', instead: 'entry' },
    look: async (home, { status }) => {
      const shares = status === 0 ? home.sharesIn('new-shares') : home.shares;
      return drilled(home, shares);
    },
  },
  {
    title: 'a migration takes over what the journal says now, not what it said at a try before',
    act: 'migrate',
    guard: [
      { text: CARRIES, instead: '' },
      { text: 'head !== before.head', instead: 'false' },
    ],
    dies: OPENS,
    between: async (home) => {
      await home.serve();
      await home.act('employee.stop', { address: 'p1@corp.example' });
      await home.stop();
    },
  },
  {
    title: 'a new token that another package made is not taken for the one that is wanted',
    act: 'migrate',
    guard: [{ text: 'readFileSync(join(tokenState, "custody.json"), "utf8") === custody', instead: 'true' }],
    dies: CARRIES,
    between: async (home) => {
      await home.serve();
      await home.act('kek.rotate', {});
      const status = () => home.act<{ state: string }>('kek.status', {});
      for (const end = Date.now() + PATIENCE_MS; (await status()).state !== 'finished' && Date.now() < end; ) await sleep(50);
      await home.stop();
    },
  },
  {
    title: 'a switch is remembered before it is made, or nobody knows of the token that was left',
    act: 'migrate',
    guard: [{ text: 'await withStorage(now, (storage) => storage.write((unit) => rememberSwitch(unit, seal, done)));', instead: '' }],
    atFirst: true,
  },
  {
    title: 'no second migration begins while the token that the first one left still stands',
    act: 'migrate',
    guard: [{ text: 'requireNoFormer(await formerToken({ storage, seal }, now.token.label), now);', instead: '' }],
    atFirst: true,
    before: (home) => tell(home, 'migrate'),
    to: 'third',
    look: (_, { status }) => (status === 0 ? ['the first token is forgotten, with every key in it'] : []),
  },
];

export interface GuardsOutcome {
  /** Guards that were taken away. */
  guardsOff: number;
  /** Deaths that happened on the way. */
  died: number;
  /** Of them, those that nothing came of: the guard is none, or this does not see what it is for. */
  unseen: string[];
  /** With the guard where it belongs, what was wrong all the same. */
  guarded: string[];
}

/** Takes one guard of reissue and migration away at a time, and looks whether what it is for comes about; with the guard on it must not. */
export async function withoutGuards(lab: CustodyLab, { count, both }: { count: number; both: boolean }): Promise<GuardsOutcome> {
  const outcome: GuardsOutcome = { guardsOff: 0, died: 0, unseen: [], guarded: [] };
  for (const each of CASES.slice(0, count)) {
    const off = await live(lab, each, false);
    outcome.guardsOff += 1;
    outcome.died += off.died;
    console.log(`guard off: ${each.title} — ${off.problems[0]?.trimEnd().split('\n').at(-1) ?? 'NOTHING WAS SEEN'}`);
    if (off.problems.length === 0) outcome.unseen.push(each.title);
    if (!both) continue;
    const on = await live(lab, each, true);
    outcome.died += on.died;
    console.log(`guard on: ${each.title}${on.problems.length === 0 ? '' : ` — ${on.problems.join('; ')}`}`);
    if (on.problems.length > 0) outcome.guarded.push(each.title);
  }
  return outcome;
}

async function live(lab: CustodyLab, of: Case, guarded: boolean): Promise<{ problems: string[]; died: number }> {
  const home = lab.template.copy();
  const builds = mkdtempSync(join(tmpdir(), 'ekms-guardless-'));
  const ours = home.program;
  const guard = guarded ? [] : of.guard;
  let died = 0;
  try {
    if (of.act === 'reissue') await home.custodians('permit');
    await of.before?.(home);
    const first = [...(of.atFirst ? guard : []), ...(of.fault ? [of.fault] : []), ...(of.dies ? [deathBefore(of.dies)] : [])];
    home.program = changedBuild(join(builds, 'first'), first);
    let told = await tell(home, of.act, of.to);
    if (of.dies) {
      if (told.status !== null && !told.said.includes('status null')) throw new Error(`it did not die: ${told.said}`);
      died = 1;
      home.program = ours;
      await of.between?.(home);
      if (!of.atFirst && guard.length > 0) home.program = changedBuild(join(builds, 'again'), guard);
      // What died may have left a process that sees its end only now.
      for (const end = Date.now() + PATIENCE_MS; ; await sleep(200)) {
        told = await tell(home, of.act, of.to);
        if (!/in-use/.test(told.said) || Date.now() > end) break;
      }
    }
    home.program = ours;
    return { died, problems: await (of.look ?? LOOKS[of.act])(home, told) };
  } finally {
    home.program = ours;
    await home.remove();
    rmSync(builds, { recursive: true });
  }
}

const tell = (home: CustodyHome, act: Case['act'], to = 'other'): Promise<Ended> =>
  act === 'reissue'
    ? home.custodians('reissue', '--share', ...home.shares.slice(1), '--shares', home.beside('new-shares'))
    : home.ekms('token', 'migrate', '--label', to, '--yes', '--share', ...home.shares.slice(1));

const LOOKS = {
  reissue: async (home: CustodyHome, { status, said }: Ended) => (status === 0 ? drilled(home, home.sharesIn('new-shares')) : [said]),
  migrate: async (home: CustodyHome, { status, said }: Ended) => {
    if (status !== 0) return [said];
    const left = journal(home.beside('home', 'token-state', 'journal'));
    const now = new Set(journal(home.beside('home', 'token-other', 'state', 'journal')));
    const problems = left.filter((line) => !now.has(line)).map((line) => `the journal has forgotten ${line}`);
    const house = await openHouse(loadConfiguration(home.path), installation);
    try {
      await reconcile(house);
      const row = await house.storage.one("SELECT 1 FROM audit_entries WHERE action = 'token.migrate'");
      return [...problems, ...(row ? [] : ['the log does not tell of it']), ...(await wholeness(house))];
    } finally {
      await house.close();
    }
  },
};

/** What its lines say, without their checksums; of heads only the last counts, and that one is compared by the command itself. */
const journal = (path: string): string[] =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => line.slice(33))
    .filter((line) => !line.startsWith('{"t":"head"'));

async function drilled(home: CustodyHome, shares: readonly string[]): Promise<string[]> {
  await home.must('backup', 'create');
  const { status, said } = await home.ekms('drill', '--scratch', home.folder, '--share', ...shares.slice(0, 2));
  return status === 0 ? [] : [said];
}
