import { cpSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { type Appliance, startAppliance } from '../../src/appliance.js';
import { ActDesk, operator } from '../../src/commands/act-desk.js';
import type { ActName } from '../../src/commands/acts.js';
import { exportLog } from '../../src/commands/audit-export.js';
import { reconcile } from '../../src/commands/reconcile.js';
import { type RestoreOptions, type RestoreReport, restore } from '../../src/commands/restore.js';
import { loadConfiguration } from '../../src/configuration/index.js';
import { isFault, newId, type Storage } from '../../src/foundation/index.js';
import { type House, openHouse } from '../../src/house.js';
import { formatShare, parseShare, splitKey } from '../../src/tokens/custody/shares.js';
import { enrolDevice } from '../support/wire-device.js';
import type { CustodyHome } from './custody-home.js';
import { type CustodyLab, nobodyWithout, veraKeys, wholeness } from './custody-lab.js';

const installation = { root: resolve(import.meta.dirname, '../..') };

/** What is known from outside when the home is gone. */
const WAYS = ['backup alone', 'nothing lost', 'with the head', 'with head and tail', 'with the second place'] as const;
type Way = (typeof WAYS)[number];

export interface Restoration {
  way: Way;
  /** Refusals that were asked for, each with its code. */
  refused: number;
  seconds: number;
  problems: string[];
}

/** Burns homes and brings them back from a backup, with all that must be refused on the way. */
export class RestoreLab {
  readonly #lab: CustodyLab;
  readonly #roll: (sides: number) => number;
  /** In how many runs bad shares are tried: each takes a token process, and how a home was lived in does not matter to them. */
  readonly #withShares: number;

  constructor(lab: CustodyLab, roll: (sides: number) => number, withShares = Number.POSITIVE_INFINITY) {
    this.#lab = lab;
    this.#roll = roll;
    this.#withShares = withShares;
  }

  async run(n: number): Promise<Restoration> {
    const way = WAYS[n % WAYS.length] as Way; // one of them
    const home = this.#lab.template.copy();
    const problems: string[] = [];
    try {
      const { backup, head, owners } = await this.#live(home, way);
      home.burn();
      const shares = home.shares.map((path) => /EKMS-SHARE-1:\S+/.exec(readFileSync(path, 'utf8'))?.[0] ?? '');
      const refused = await this.#refusals({ home, backup, shares, head, tryShares: n < this.#withShares }, problems);
      const options = this.#options(home, backup, way, head);
      const chosen = this.#roll(3);
      const report = await this.#restore(home, { ...options, shares: shares.filter((_, number) => number !== chosen) });
      await this.#examine(home, way, report, owners, problems);
      return { way, refused, seconds: report.seconds, problems };
    } catch (error) {
      problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
      return { way, refused: 0, seconds: 0, problems };
    } finally {
      await home.remove();
    }
  }

  /** The guard taken away: the folder put back by hand from a copy. Resolves with what the check finds: pairs that have two owners. */
  async byCopy(): Promise<string[]> {
    const home = this.#lab.template.copy();
    const problems: string[] = [];
    const named = home.named;
    try {
      const owners = await withHouse(home, async (house) => {
        await house.pool.fill(4);
        return {};
      }).then(() => {
        cpSync(home.path, home.beside('copy'), { recursive: true });
        return withHouse(home, (house) => this.#newcomer(home, house, 'later'));
      });
      rmSync(home.path, { recursive: true });
      cpSync(home.beside('copy'), home.path, { recursive: true });
      home.people(named); // or the first life's newcomer comes too, and may be the one who gets that pair
      await withHouse(home, async (house) => {
        await this.#newcomer(home, house, 'somebody.else');
        await twoOwners(house.storage, owners, problems);
      });
      return problems;
    } finally {
      await home.remove();
    }
  }

  /** Some life, a backup, and some life after it. */
  async #live(home: CustodyHome, way: Way) {
    return withHouse(home, async (house) => {
      home.people(Array.from({ length: 2 + this.#roll(3) }, (_, n) => `p${n + 1}`));
      await house.pool.fill(3 + this.#roll(3));
      await act(house, 'directory.sync', {});
      const { file, needs } = await act<{ file: string; needs: string[] }>(house, 'backup.create', {});
      if (needs.length === 0) throw new Error('this is to build on what the template has');
      cpSync(dirname(file), home.beside('kept'), { recursive: true });
      const backup = home.beside('kept', basename(file));
      let owners = await ownersOf(house.storage);
      if (way !== 'nothing lost') {
        owners = await this.#newcomer(home, house, 'later');
        if (way === 'with head and tail' || way === 'with the second place') await act(house, 'device.revoke', { id: this.#lab.vera.id });
      }
      await house.checkpoints.publish();
      const { checkpoint } = await act<{ checkpoint: string }>(house, 'audit.head', {});
      await house.logCopy?.follow();
      if (way === 'with head and tail') await exportLog(home.beside('tail'), (name, args) => act(house, name, args));
      return { backup, head: way === 'nothing lost' ? '' : checkpoint, owners };
    });
  }

  async #newcomer(home: CustodyHome, house: House, name: string): Promise<Record<string, string>> {
    home.people([...home.named, name]);
    await act(house, 'directory.sync', {});
    // Keys are made ahead only while half of the pool remains for those who come with a device.
    for (let n = 0; n < 10 && (await nobodyWithout(house.storage)) > 0; n++) {
      await house.pool.fill(5);
      await house.premade.serve();
    }
    const row = await house.storage.one('SELECT k.id FROM keys k JOIN bindings b ON b.employee = k.employee WHERE b.address = ?', [
      `${name}@corp.example`,
    ]);
    if (!row) throw new Error(`${name} has no key`);
    return ownersOf(house.storage);
  }

  async #refusals(
    { home, backup, shares, head, tryShares }: { home: CustodyHome; backup: string; shares: string[]; head: string; tryShares: boolean },
    problems: string[],
  ): Promise<number> {
    const [first = '', second = ''] = shares;
    const foreign = await foreignShare(first);
    const badShares: [string, RegExp, Partial<RestoreOptions>][] = [
      ['one share', /^shares-too-few$/, { shares: [first] }],
      ['a damaged share', /^share-damaged$/, { shares: [first.replace(/.$/, (letter) => (letter === 'A' ? 'B' : 'A')), second] }],
      ['one share twice', /^share-repeated$/, { shares: [second, second] }],
      ['another appliance’s share', /^share-foreign$/, { shares: [first, foreign] }],
    ];
    const cases: [string, RegExp, Partial<RestoreOptions>][] = [
      ...(tryShares ? badShares : []),
      ...(head === ''
        ? []
        : ([
            ['a head of another log', /^head-foreign$/, { heads: [head.replace(/^[^\n]+\n(\d+)/, 'elsewhere/v1/audit\n$1')] }],
            ['“nothing lost” against a newer head', /^entries-lost$/, { heads: [head], nothingLost: true }],
          ] as [string, RegExp, Partial<RestoreOptions>][])),
    ];
    let refused = 0;
    const must = async (what: string, code: RegExp, more: Partial<RestoreOptions>) => {
      try {
        await this.#restore(home, { backup, shares: [first, second], ...more });
        problems.push(`${what} was accepted`);
      } catch (error) {
        if (isFault(error) && code.test(error.code)) refused++;
        else problems.push(`${what}: ${String(error)}`);
      }
    };
    for (const [what, code, more] of cases) await must(what, code, more);
    const chain = readdirSync(dirname(backup)).map((name) => join(dirname(backup), name));
    // `run` holds the lock of whoever works on the home.
    const made = () => readdirSync(home.path).filter((name) => name !== 'run');
    const blank = made();
    for (const region of REGIONS) {
      // In the backup itself, or in one that it builds on.
      const file = chain[this.#roll(chain.length)] ?? backup;
      const bytes = readFileSync(file);
      const { from, to } = placeOf(bytes, region);
      const at = from + this.#roll(Math.max(1, to - from));
      const bent = Buffer.from(bytes);
      bent[at] = (bent[at] ?? 0) ^ (1 << this.#roll(8));
      writeFileSync(file, bent);
      await must(`a backup bent in its ${region} (byte ${at} of ${basename(file)})`, /^(backup-damaged|statement-invalid)$/, { backup });
      writeFileSync(file, bytes.subarray(0, this.#roll(bytes.length)));
      if (region === 'content') await must('a backup that was cut', /^backup-damaged$/, { backup });
      writeFileSync(file, bytes);
    }
    const before = chain.filter((file) => file !== backup);
    const gone = before[this.#roll(before.length)] ?? '';
    renameSync(gone, home.beside('away'));
    await must('a backup whose base is not there', /^backup-base-missing$/, { backup });
    const other = before.find((file) => file !== gone) ?? backup;
    cpSync(other, gone);
    await must('a backup with another in the place of its base', /^backup-chain-broken$/, { backup });
    renameSync(home.beside('away'), gone);
    if (made().join() !== blank.join()) problems.push(`what was refused left ${made()} where ${blank} was`);
    return refused;
  }

  #options(home: CustodyHome, backup: string, way: Way, head: string): Pick<RestoreOptions, 'backup'> & Partial<RestoreOptions> {
    switch (way) {
      case 'nothing lost':
        return { backup, nothingLost: true };
      case 'with the head':
        return { backup, heads: [head] };
      case 'with head and tail':
        return { backup, heads: [head], tail: home.beside('tail') };
      case 'with the second place':
        return { backup, escrow: home.beside('second') };
      default:
        return { backup };
    }
  }

  #restore(home: CustodyHome, options: Pick<RestoreOptions, 'backup' | 'shares'> & Partial<RestoreOptions>): Promise<RestoreReport> {
    return restore({ home: home.path, say: () => undefined, ...options }, installation);
  }

  async #examine(home: CustodyHome, way: Way, report: RestoreReport, owners: Record<string, string>, problems: string[]): Promise<void> {
    await withHouse(home, async (house) => {
      let appliance: Appliance | undefined;
      try {
        appliance = await startAppliance(house, (error) => problems.push(`a defect: ${String(error)}`));
        const door = home.door(this.#lab.app);
        const goesOn = way === 'nothing lost';
        // The one device that there was had been revoked after the backup, where somebody knows of it.
        if ((report.devicesEnded === 0) !== (goesOn || way === 'with head and tail' || way === 'with the second place'))
          problems.push(`${report.devicesEnded} devices were ended`);
        if ((way === 'with head and tail' || way === 'with the second place') && !report.fromTail?.reapplied)
          problems.push('the revocation after the backup was not made again');
        if ((way === 'with the head' || way === 'with head and tail') && report.lost === 0) problems.push('nothing was said to be lost');
        const vera = goesOn ? this.#lab.vera : await enrolDevice(door, this.#lab.vera.address);
        const old = await veraKeys(home, this.#lab.app, this.#lab.vera).catch(() => undefined);
        if ((old !== undefined) !== goesOn) problems.push('a device that must not go on does, or the other way round');
        const keys = await veraKeys(home, this.#lab.app, vera);
        if (keys.join() !== this.#lab.keys.join()) problems.push('the person’s keys are not the ones that they were');
      } finally {
        await appliance?.close();
      }
      await this.#newcomer(home, house, 'somebody.else');
      await twoOwners(house.storage, owners, problems);
      problems.push(...(await wholeness(house)));
    });
  }
}

async function withHouse<T>(home: CustodyHome, work: (house: House) => Promise<T>): Promise<T> {
  const house = await openHouse(loadConfiguration(home.path), installation);
  try {
    await reconcile(house);
    return await work(house);
  } finally {
    await house.close();
  }
}

async function act<T>(house: House, name: ActName, args: object): Promise<T> {
  const outcome = await new ActDesk(house).ask(name, args, operator());
  if ('request' in outcome) throw new Error('this took two persons');
  return outcome.value as T; // what the act's row gives
}

/** Who has which public key. */
async function ownersOf(storage: Pick<Storage, 'all'>): Promise<Record<string, string>> {
  const rows = await storage.all<{ public_key: Buffer; address: string }>(
    'SELECT k.public_key, b.address FROM keys k JOIN bindings b ON b.employee = k.employee',
  );
  return Object.fromEntries(rows.map(({ public_key, address }) => [Buffer.from(public_key).toString('base64'), address]));
}

async function twoOwners(storage: Pick<Storage, 'all'>, before: Record<string, string>, problems: string[]): Promise<void> {
  for (const [key, owner] of Object.entries(await ownersOf(storage)))
    if (before[key] !== undefined && before[key] !== owner) problems.push(`a pair has two owners: ${before[key]} and ${owner}`);
}

const REGIONS = ['first line', 'age header', 'content', 'statement', 'length'] as const;

function placeOf(bytes: Buffer, region: (typeof REGIONS)[number]): { from: number; to: number } {
  const lf = bytes.indexOf(0x0a);
  const end = bytes.length - 7 - Number(bytes.subarray(-7).toString());
  const header = bytes.indexOf('\n---', lf);
  const places = {
    'first line': [0, lf],
    'age header': [lf, header + 5],
    content: [header + 60, end],
    statement: [end, bytes.length - 7],
    length: [bytes.length - 7, bytes.length],
  } as const;
  const [from, to] = places[region];
  return { from, to };
}

/** Of a ceremony elsewhere with as many custodians. */
async function foreignShare(own: string): Promise<string> {
  const { threshold, total } = parseShare(own);
  const ceremony = Buffer.from(newId().replaceAll('-', ''), 'hex');
  const [share] = await splitKey(Buffer.alloc(32, 7), { ceremony, threshold, total });
  if (!share) throw new Error('a split has shares');
  return formatShare(share);
}
