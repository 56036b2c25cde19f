import 'reflect-metadata';
import { type ChildProcess, spawn } from 'node:child_process';
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, createReadStream, existsSync, mkdirSync, openSync, readFileSync, readSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { base64url, sha256 } from '../../src/foundation/index.js';
import { openStorage } from '../../src/storage/index.js';
import { CustodyHome } from '../faults/custody-home.js';
import { dice } from '../faults/dice.js';
import { openKey } from '../support/open-delivery.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';
import { PHRASE, p12Maker } from './p12-maker.js';

const BITS = 2_048;
/** One file in so many has a copy under another name, whose key is there then. */
const COPY_EVERY = 250;
/** Keys whose owner's device opens them in the end. */
const OPENED = 25;
const VICTIMS = ['command', 'token', 'appliance'] as const;
type Victim = (typeof VICTIMS)[number];
/** MiB of memory of its own (caches of the database are 128 of the appliance's) that no number of files brings a process to. */
const MOST_MIB: Record<Victim, number> = { command: 256, token: 320, appliance: 640 };

/** Of each process, all its lives together. */
class Costs {
  readonly #ticks = new Map<number, { of: Victim; ticks: number }>();
  readonly peak: Record<Victim, number> = { command: 0, token: 0, appliance: 0 };

  look(of: Victim, pid: number | undefined): void {
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      // proc_pid_stat(5): utime and stime are the 14th and 15th; the second is a name in brackets.
      const [user = 0, system = 0] = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ')
        .slice(11, 13)
        .map(Number);
      this.peak[of] = Math.max(this.peak[of], Math.round(Number(/RssAnon:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024));
      this.#ticks.set(pid ?? 0, { of, ticks: user + system });
    } catch {
      // It has ended.
    }
  }

  /** Milliseconds of processor time; a tick is 10. */
  of(victim: Victim): number {
    return [...this.#ticks.values()].reduce((sum, { of, ticks }) => sum + (of === victim ? ticks * 10 : 0), 0);
  }
}

/** @param keys distinct RSA keys, quickly (products of a few hundred primes) */
export async function main(keys: (count: number, bits: number) => Iterable<KeyObject>): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      count: { type: 'string', default: '100000' },
      kills: { type: 'string', default: '6' },
    },
  });
  const [seed, count, kills] = [Number(values.seed), Number(values.count), Number(values.kills)];
  const home = await CustodyHome.make({ durability: 'one', keys: { bits: 2048, pool: { target: 4 } } });
  try {
    await home.must('init', '--domain', 'corp.example');
    await home.serve();
    const door = home.door(await home.issueApp());
    const people: WireDevice[] = [];
    for (const name of ['alice', 'bob', 'carol', 'dora']) people.push(await enrolDevice(door, `${name}@corp.example`));
    const { expected, files, sample } = await makeFiles(home, people, keys(count, BITS), count);
    const run = new Run(home, files, dice(seed), kills);
    const began = Date.now();
    const status = await run.toTheEnd();
    const seconds = (Date.now() - began) / 1000;
    const problems = [...(await missing(home, expected)), ...(await unopened(home, door, people, sample))];
    if (status !== 0) problems.push(`the command ended with status ${status}`);
    if (run.killed.length < kills) problems.push(`only ${run.killed.length} of ${kills} were killed`);
    for (const of of VICTIMS)
      if (run.costs.peak[of] > MOST_MIB[of]) problems.push(`the ${of} had ${run.costs.peak[of]} MiB, more than ${MOST_MIB[of]}`);
    for (const [words, times] of await refusalsIn(home.beside('report'))) problems.push(`${times} refused: ${words}`);
    for (const problem of problems) console.log(problem);
    const each = (of: Victim) => Math.round((run.costs.of(of) * 10) / files) / 10;
    const outcome = {
      ...{ seed, files, keys: expected.size, killed: run.killed.join(' '), status, opened: sample.size, problems: problems.length },
      ...{ perSecond: Math.round(files / seconds), msPerFile: Math.round((seconds * 10_000) / files) / 10 },
      cpuMsPerFile: { command: each('command'), token: each('token'), appliance: each('appliance') },
      ...{ peakMiB: run.costs.peak, reportBytes: statSync(home.beside('report')).size },
    };
    console.log(JSON.stringify(outcome));
    if (problems.length > 0) process.exitCode = 1;
  } finally {
    await home.stop();
    await home.remove();
  }
}

interface Made {
  /** Employee by digest of the public key. */
  expected: Map<string, string>;
  files: number;
  /** Of the last person. */
  sample: Map<string, KeyObject>;
}

async function makeFiles(home: CustodyHome, people: readonly WireDevice[], keys: Iterable<KeyObject>, count: number): Promise<Made> {
  const began = Date.now();
  const folder = home.beside('files');
  mkdirSync(folder);
  writeFileSync(home.beside('phrases.csv'), `*,${PHRASE}\n`);
  const make = p12Maker();
  const made: Made = { expected: new Map(), files: 0, sample: new Map() };
  const write = (name: string, p12: Buffer) => {
    writeFileSync(join(folder, name), p12);
    made.files++;
  };
  const [last, others] = [people.at(-1), people.slice(0, -1)];
  const apart = Math.ceil(count / OPENED);
  let n = 0;
  for (const key of keys) {
    const isSample = n % apart === 0;
    const owner = isSample ? last : others[n % others.length];
    if (!owner) throw new Error('there are several people');
    const { p12, publicKey } = await make(owner.address, key);
    const digest = base64url(sha256(publicKey));
    made.expected.set(digest, owner.employee);
    if (isSample) made.sample.set(digest, key);
    write(`${n}.p12`, p12);
    if (n % COPY_EVERY === 0) write(`copy-of-${n}.p12`, p12);
    n++;
  }
  console.log(`${made.files} files of ${made.expected.size} keys are made in ${Math.round((Date.now() - began) / 1000)} s`);
  return made;
}

/** The command until it ends by itself, with all that is killed meanwhile. */
class Run {
  readonly costs = new Costs();
  readonly killed: string[] = [];
  readonly #home: CustodyHome;
  readonly #report: string;
  /** Lines of the report after which something is killed. */
  readonly #marks: number[];

  constructor(home: CustodyHome, files: number, throwDice: (sides: number) => number, kills: number) {
    this.#home = home;
    this.#report = home.beside('report');
    this.#marks = Array.from({ length: kills }, () => throwDice(Math.floor(files * 0.9))).sort((a, b) => a - b);
  }

  async toTheEnd(): Promise<number | null> {
    for (;;) {
      const command = this.#begin();
      const ended = once(command, 'close') as Promise<[number | null, string | null]>;
      const lines = new LineCount(this.#report);
      while (command.exitCode === null && command.signalCode === null) {
        this.#look(command);
        const mark = this.#marks[this.killed.length];
        if (mark !== undefined && lines.now() > mark) await this.#kill(command);
        await sleep(50);
      }
      const [status, signal] = await ended;
      if (signal === null) return status;
    }
  }

  #begin(): ChildProcess {
    const words = [
      'import',
      'p12',
      this.#home.beside('files'),
      '--passphrases',
      this.#home.beside('phrases.csv'),
      '--report',
      this.#report,
    ];
    const env = { ...process.env, EKMS_HOME: this.#home.path };
    return spawn(process.execPath, [this.#home.program, ...words], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  }

  #look(command: ChildProcess): void {
    this.costs.look('command', command.pid);
    this.costs.look('appliance', this.#home.pid);
    this.costs.look('token', this.#home.tokenPid);
  }

  async #kill(command: ChildProcess): Promise<void> {
    const victim = VICTIMS[this.killed.length % VICTIMS.length] ?? 'command';
    this.killed.push(victim);
    if (victim === 'command') command.kill('SIGKILL');
    const token = this.#home.tokenPid;
    if (victim === 'token' && token !== undefined) process.kill(token, 'SIGKILL');
    if (victim !== 'appliance') return;
    await this.#home.kill();
    await this.#home.serve();
  }
}

/** Lines of a file that grows, each byte read once. */
class LineCount {
  readonly #path: string;
  readonly #part = Buffer.alloc(2 ** 16);
  #from = 0;
  #lines = 0;

  constructor(path: string) {
    this.#path = path;
  }

  now(): number {
    if (!existsSync(this.#path)) return 0;
    const file = openSync(this.#path, 'r');
    try {
      for (let length = this.#part.length; length === this.#part.length; this.#from += length) {
        length = readSync(file, this.#part, 0, this.#part.length, this.#from);
        for (const byte of this.#part.subarray(0, length)) if (byte === 0x0a) this.#lines++;
      }
    } finally {
      closeSync(file);
    }
    return this.#lines;
  }
}

/** What is wrong with the imported keys in the database and the log. */
async function missing(home: CustodyHome, expected: ReadonlyMap<string, string>): Promise<string[]> {
  const storage = await openStorage({ url: 'sqlite:ekms.db', home: home.path });
  try {
    const rows = await storage.all<{ digest: Buffer; employee: string }>(
      `SELECT public_key_digest AS "digest", employee FROM keys WHERE origin = 'imported'`,
    );
    const found = new Map(rows.map(({ digest, employee }) => [base64url(digest), employee]));
    const problems = [];
    const lost = [...expected.keys()].filter((digest) => !found.has(digest)).length;
    const foreign = [...found].filter(([digest, employee]) => expected.get(digest) !== employee).length;
    if (lost > 0) problems.push(`${lost} keys were lost`);
    if (foreign > 0) problems.push(`${foreign} keys are somebody else’s`);
    if (rows.length !== found.size) problems.push(`${rows.length - found.size} keys are there twice`);
    const [entries] = await storage.all<{ all: number; subjects: number }>(
      `SELECT COUNT(*) AS "all", COUNT(DISTINCT key) AS "subjects" FROM audit_entries WHERE action = 'key.import'`,
    );
    if (entries?.all !== expected.size || entries.subjects !== expected.size)
      problems.push(`the log has ${entries?.all} entries of ${entries?.subjects} keys`);
    return problems;
  } finally {
    await storage.close();
  }
}

/** That the last person's device gets every key that is theirs, byte for byte. */
async function unopened(
  home: CustodyHome,
  door: Parameters<typeof keysOf>[0],
  people: readonly WireDevice[],
  sample: ReadonlyMap<string, KeyObject>,
): Promise<string[]> {
  const person = people.at(-1);
  if (!person || !home.serves) return ['nobody serves'];
  const pkcs8 = { format: 'der', type: 'pkcs8' } as const;
  const given = new Set<string>();
  for (const key of await keysOf(door, person)) {
    if (!(key as { imported?: boolean }).imported) continue;
    given.add(openKey(key.delivery, person.keys.delivery).export(pkcs8).toString('hex'));
  }
  const wrong = [...sample.values()].filter(
    (key) =>
      !given.has(
        createPrivateKey({ key: key.export(pkcs8), ...pkcs8 })
          .export(pkcs8)
          .toString('hex'),
      ),
  );
  return wrong.length > 0 ? [`${wrong.length} of ${sample.size} keys do not open`] : [];
}

/** What the report says in the end of files that were not taken, and how often. */
async function refusalsIn(report: string): Promise<Map<string, number>> {
  const last = new Map<string, { outcome: string; words: string }>();
  for await (const text of createInterface({ input: createReadStream(report) }))
    try {
      const line = JSON.parse(text) as { file: string; outcome: string; words: string };
      last.set(line.file, line);
    } catch {
      // the end of a command that was killed
    }
  const found = new Map<string, number>();
  for (const { outcome, words } of last.values()) if (outcome === 'refused') found.set(words, (found.get(words) ?? 0) + 1);
  return found;
}
