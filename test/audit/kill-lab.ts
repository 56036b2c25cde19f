import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
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
import type { Place, Task } from './log-writer.js';

export interface KillOutcome {
  /** Acts that the killed node, and its neighbour, were told are durable. */
  acknowledged: number;
  /** Nodes that were killed, and of those, who was told of acts before: a write or a signature was under way when the signal came. */
  kills: number;
  fired: number;
  problems: string[];
}

/**
 * Acts that are acknowledged, and then milliseconds, before the signal: some group commits, and what lies between them. On PostgreSQL, where two nodes take
 * turns, a turn is as long as some dozen milliseconds.
 */
const BEFORE = { SQLite: { acts: 200, milliseconds: 12 }, PostgreSQL: { acts: 64, milliseconds: 100 } };

/**
 * One log in one database under one real token process, on SoftHSM, which outlive the nodes that are killed. Each run goes on where the last one was cut off, and
 * looks at what it added. The node's program is one file, made once: it starts in a fifth of a second.
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
    await joinWriter();
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
    const before = BEFORE[this.#database];
    // On SQLite opening mends what the last one left: it is part of what is shown.
    if (this.#database === 'SQLite') await Promise.all(writers.map((writer) => writer.open(this.#place)));
    await Promise.all(writers.map((writer, n) => writer.write({ node: `${this.#runs}.${n}`, torn })));
    // One after the other: whoever is left goes on alone.
    for (const writer of writers) {
      await writer.did(writer.acts.length + 1 + roll(before.acts));
      await sleep(roll(before.milliseconds));
      await writer.kill();
    }
    const said = writers.flatMap(({ lines }) => lines);
    const acknowledged = writers.flatMap(({ acts }) => acts);
    const problems = said.filter((line) => line.startsWith('breach')).concat(await this.#problems(acknowledged));
    const fired = writers.filter(({ acts }) => acts.length > 0).length;
    return { acknowledged: acknowledged.length, kills: writers.length, fired, problems };
  }

  /** The whole log, from its first entry. */
  async wholeLog(): Promise<string[]> {
    return (await checkLog(this.#storage)).problems.map((problem) => `the whole log: ${problem}`);
  }

  async #problems(acknowledged: readonly Act[]): Promise<string[]> {
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
    this.#next = Array.from({ length: this.#nodes }, async () => {
      const writer = await Writer.load();
      if (this.#database === 'PostgreSQL') await writer.open(this.#place);
      return writer;
    });
  }

  get #database(): 'SQLite' | 'PostgreSQL' {
    return this.#url.startsWith('sqlite:') ? 'SQLite' : 'PostgreSQL';
  }

  get #place(): Place {
    return { url: this.#url, home: this.#home.home, socket: this.#home.settings.socket };
  }
}

/** The node's program, with all it imports, as one file: beside the product's, so that it finds the native modules. */
const WRITER = resolve('dist/test/log-writer.js');
const joinWriter = () =>
  build({
    entryPoints: [resolve('test/audit/log-writer.ts')],
    outfile: WRITER,
    bundle: true,
    platform: 'node',
    format: 'esm',
    keepNames: true,
    banner: {
      js: [
        "import { createRequire as _createRequire } from 'node:module';",
        'const require = _createRequire(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;',
      ].join('\n'),
    },
    external: ['better-sqlite3', 'pg-native'],
    logLevel: 'error',
  });

/** What a node was told is durable: one line of it. */
interface Act {
  act: string;
  index: number;
  leaf: string;
}

class Writer {
  readonly lines: string[] = [];
  readonly acts: Act[] = [];
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
      for (const line of lines) {
        const [, act, index, leaf] = /^(\S+-\d+-\d+) (\d+) ([\w-]{43})$/.exec(line) ?? [];
        if (act && index && leaf) this.acts.push({ act, index: Number(index), leaf });
      }
    });
  }

  static async load(): Promise<Writer> {
    const writer = new Writer(spawn(process.execPath, [WRITER], { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env } }));
    await writer.#said('loaded');
    return writer;
  }

  /** Database and token process. */
  async open(place: Place): Promise<void> {
    this.#child.stdin?.write(`${JSON.stringify(place)}\n`);
    await this.#said('open');
  }

  async write(task: Task): Promise<void> {
    this.#child.stdin?.write(`${JSON.stringify(task)}\n`);
    await this.#said('writes');
  }

  /** Resolves when it was told of so many acts. */
  async did(acts: number): Promise<void> {
    while (this.acts.length < acts) {
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
