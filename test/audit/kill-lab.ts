import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkLog } from '../../src/audit/check-log.js';
import { Checkpoints } from '../../src/audit/checkpoints.js';
import { LogTree } from '../../src/audit/log-tree.js';
import { LogStanding } from '../../src/audit/standing.js';
import { TileReader } from '../../src/audit/tile-reader.js';
import { type Storage, SystemClock } from '../../src/foundation/index.js';
import { openStorage } from '../../src/storage/index.js';
import { TokenProcess } from '../../src/tokens/token-client.js';
import type { dice } from '../faults/dice.js';
import { ENTRY, initialisedHome, type TokenHome } from '../tokens/process-house.js';

export interface KillOutcome {
  /** Acts that the killed node, and its neighbour, were told are durable. */
  acknowledged: number;
  /** Whether a write or a signature was under way when the signal came. */
  fired: boolean;
  problems: string[];
}

const WRITER = resolve('test/audit/log-writer.mjs');
/** Acts that are acknowledged, and then milliseconds, before the signal. */
const MOST = 400;
const LONGEST = 12;

/**
 * One log in one database under one real token process, on SoftHSM, which outlive the nodes that are killed. Each run goes on where the last one was cut off.
 */
export class KillLab {
  #next: Promise<Writer>[] = [];
  #runs = 0;
  #checked = 0;

  readonly #home: TokenHome;
  readonly #token: TokenProcess;
  readonly #storage: Storage & { close(): Promise<void> };
  readonly #url: string;
  readonly #nodes: 1 | 2;

  private constructor(home: TokenHome, token: TokenProcess, storage: Storage & { close(): Promise<void> }, url: string, nodes: 1 | 2) {
    [this.#home, this.#token, this.#storage, this.#url, this.#nodes] = [home, token, storage, url, nodes];
  }

  /** @param url of an empty database; SQLite by default. Two nodes only where it is PostgreSQL. */
  static async open(url = 'sqlite:kills.db', nodes: 1 | 2 = 1): Promise<KillLab> {
    const home = initialisedHome();
    const token = new TokenProcess({ entry: ENTRY, settings: home.settings });
    await token.start();
    const lab = new KillLab(home, token, await openStorage({ url, home: home.home }), url, nodes);
    lab.#prepare();
    return lab;
  }

  async close(): Promise<void> {
    for (const writer of await Promise.all(this.#next)) await writer.kill();
    await this.#storage.close();
    await this.#token.stop();
    this.#home.remove();
  }

  /**
   * Lets the nodes write, kills one, and looks for what does not hold.
   * @param torn act and entry are written in two units of work: what would happen without the guard
   */
  async run(roll: ReturnType<typeof dice>, torn = false): Promise<KillOutcome> {
    this.#runs += 1;
    const writers = await Promise.all(this.#next);
    this.#prepare();
    await Promise.all(
      writers.map((writer, n) =>
        writer.write({ url: this.#url, home: this.#home.home, socket: this.#home.settings.socket, node: `${this.#runs}.${n}`, torn }),
      ),
    );
    const [killed, ...others] = writers;
    await killed?.wrote(roll(MOST));
    await sleep(roll(LONGEST));
    await killed?.kill();
    for (const other of others) await other.wrote(other.lines.length + roll(MOST));
    for (const other of others) await other.kill();
    const said = writers.flatMap(({ lines }) => lines);
    const acknowledged = said.flatMap((line) => {
      const [, act, index, leaf] = /^(\S+-\d+-\d+) (\d+) ([\w-]{43})$/.exec(line) ?? [];
      return act && index && leaf ? [{ act, index: Number(index), leaf }] : [];
    });
    const problems = said.filter((line) => line.startsWith('breach')).concat(await this.#problems(acknowledged));
    return { acknowledged: acknowledged.length, fired: acknowledged.length > 0, problems };
  }

  /** The whole log, from its first entry. */
  async wholeLog(): Promise<string[]> {
    return (await checkLog(this.#storage)).problems.map((problem) => `the whole log: ${problem}`);
  }

  async #problems(acknowledged: readonly { act: string; index: number; leaf: string }[]): Promise<string[]> {
    const from = this.#checked;
    const entries = await this.#storage.all<{ idx: number; leaf: Buffer; subject: string }>(
      'SELECT idx, leaf, body AS subject FROM audit_entries WHERE idx >= ? ORDER BY idx',
      [from],
    );
    const acts = await this.#storage.all<{ name: string }>('SELECT name FROM settings WHERE name LIKE ?', [`act ${this.#runs}.%`]);
    const problems: string[] = [];
    const byAct = new Map<string, { idx: number; leaf: string }>();
    for (const [n, { idx, leaf, subject: body }] of entries.entries()) {
      const { subject } = JSON.parse(body) as { subject: string };
      if (idx !== from + n) problems.push(`entry ${from + n} is missing`);
      if (byAct.has(subject)) problems.push(`${subject} has two entries`);
      byAct.set(subject, { idx, leaf: leaf.toString('base64url') });
    }
    for (const { act, index, leaf } of acknowledged) {
      const entry = byAct.get(act);
      if (!entry) problems.push(`${act} was acknowledged and has no entry`);
      else if (entry.idx !== index || entry.leaf !== leaf) problems.push(`${act} has another entry than its receipt says`);
    }
    const done = new Set(acts.map(({ name }) => name.slice('act '.length)));
    for (const act of done) if (!byAct.has(act)) problems.push(`${act} was done and has no entry`);
    for (const act of byAct.keys()) if (!done.has(act)) problems.push(`${act} has an entry and was not done`);
    this.#checked = from + entries.length;
    return [...problems, ...(await this.#standing())];
  }

  /** As the next start would find it: what was signed is there, and the token signs on. */
  async #standing(): Promise<string[]> {
    const standing = new LogStanding();
    const tree = new LogTree(this.#storage);
    const parts = {
      tree,
      tiles: new TileReader(this.#storage),
      token: this.#token,
      standing,
      clock: new SystemClock(),
      origin: 'kills.example/v1/audit',
    };
    await new Checkpoints(parts).publish();
    const { size, signed } = await tree.state();
    if (standing.breach) return [standing.breach.words];
    return size === this.#checked && signed === size ? [] : [`${this.#checked} entries, of which ${signed} are signed`];
  }

  /** Node takes long to start; the next run's processes do that while this one is looked at. */
  #prepare(): void {
    this.#next = Array.from({ length: this.#nodes }, () => Writer.load());
  }
}

class Writer {
  readonly lines: string[] = [];
  #rest = '';
  #closed: Promise<unknown>;

  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#closed = once(child, 'close');
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      this.lines.push(...lines);
    });
  }

  static async load(): Promise<Writer> {
    const writer = new Writer(spawn(process.execPath, [WRITER], { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env } }));
    await writer.#said('loaded');
    return writer;
  }

  async write(task: object): Promise<void> {
    this.#child.stdin?.write(`${JSON.stringify(task)}\n`);
    await this.#said('writes');
  }

  /** Resolves when it has said so many lines. */
  async wrote(lines: number): Promise<void> {
    while (this.lines.length < lines) {
      if (this.#child.exitCode !== null) throw new Error(`the writer ended with status ${this.#child.exitCode}`);
      await sleep(1);
    }
  }

  /** By SIGKILL. What it had written to the pipe before is read to its end. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }

  async #said(word: string): Promise<void> {
    while (!this.lines.includes(word)) {
      if (this.#child.exitCode !== null) throw new Error(`the writer ended with status ${this.#child.exitCode}`);
      await sleep(2);
    }
  }
}
