import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { type AppCredential, readAppCredential } from '../../client/src/sdk/index.js';
import type { EntryBody } from '../../src/audit/index.js';
import type { ActName } from '../../src/commands/acts.js';
import { askAppliance } from '../../src/commands/ask-appliance.js';
import { freePorts, type Outcome, run } from '../../src/demo/programs.js';
import { openStorage, type SqlStorage } from '../../src/storage/index.js';
import type { Door } from './wire-device.js';

const ROOT = resolve(__dirname, '../..');
/** Where the built programs are; another build by EKMS_DIST. */
const DIST = resolve(process.env['EKMS_DIST'] ?? join(ROOT, 'dist'));
const EKMS = join(DIST, 'programs/main.js');
const MESIGN = join(DIST, 'programs/mesign.js');
export const DOMAIN = 'corp.example';

export interface ApplianceOptions {
  /** Into ekms.yaml, over what openAppliance writes. */
  settings?: Record<string, unknown>;
  database?: 'sqlite' | 'postgres';
}

/** A key as `mesign keys --json` lists it. */
export interface ListedKey {
  id: string;
  suite: string;
  state: string;
  mode: string;
  certificates: string[];
}

export type LogEntry = EntryBody & { personal: Record<string, string> };

/** A home in a folder of its own; nothing runs in it yet. */
export class Home {
  readonly folder = mkdtempSync(join(tmpdir(), 'ekms-e2e-'));
  readonly path = join(this.folder, 'home');
  /** Undone at the end, last first. */
  protected readonly undo: (() => Promise<void>)[] = [];
  ports = { client: 0, administration: 0, staff: 0, public: 0, operation: 0 };
  databaseUrl = 'sqlite:ekms.db';

  static async prepare<H extends Home>(this: new () => H, { settings = {}, database = 'sqlite' }: ApplianceOptions = {}): Promise<H> {
    const home = new this();
    mkdirSync(home.path, { mode: 0o700 });
    const [client = 0, administration = 0, staff = 0, open = 0, operation = 0] = await freePorts(5);
    home.ports = { client, administration, staff, public: open, operation };
    if (database === 'postgres') home.databaseUrl = await home.#newPostgres();
    home.configure({ domains: [DOMAIN], keys: { bits: 2048, pool: { target: 4 } }, database: { url: home.databaseUrl }, ...settings });
    return home;
  }

  configure(settings: Record<string, unknown>): void {
    const listen = Object.fromEntries(Object.entries(this.ports).map(([name, port]) => [name, `127.0.0.1:${port}`]));
    writeFileSync(this.file('ekms.yaml'), JSON.stringify({ listen, ...settings }, undefined, 1), { mode: 0o600 }); // JSON is YAML
  }

  /** A file of the home. */
  file(...names: string[]): string {
    return join(this.path, ...names);
  }

  /** A file beside the home. */
  beside(...names: string[]): string {
    return join(this.folder, ...names);
  }

  /** One command line of the real program. */
  ekms(...args: string[]): Promise<Outcome> {
    return run(process.execPath, [EKMS, ...args], { EKMS_HOME: this.path });
  }

  /** Resolves when it serves; rejects with what it said when it ends instead. */
  async spawnServe(): Promise<{ child: ChildProcess; said: () => string }> {
    const child = spawn(process.execPath, [EKMS, 'serve'], {
      env: { ...process.env, EKMS_HOME: this.path },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
    const ended = once(child, 'exit');
    for (const until = Date.now() + 30_000; !/^ready/m.test(said); ) {
      if (child.exitCode !== null || child.signalCode !== null || Date.now() > until) {
        child.kill('SIGKILL');
        await ended;
        throw new Error(`ekms serve ended with status ${child.exitCode}: ${said}`);
      }
      await sleep(10);
    }
    return { child, said: () => said };
  }

  /** A way into the database beside the appliance, as whoever owns the database has. */
  async openDatabase(): Promise<SqlStorage> {
    const storage = await openStorage({ url: this.databaseUrl, home: this.path });
    this.undo.push(() => storage.close());
    return storage;
  }

  /** Address of another empty database of the same PostgreSQL. */
  newDatabase(): Promise<string> {
    return this.#newPostgres();
  }

  async remove(): Promise<void> {
    for (const undo of this.undo.splice(0).reverse()) await undo();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #newPostgres(): Promise<string> {
    const cluster = process.env['EKMS_TEST_POSTGRES'] ?? '';
    const name = `ekms_e2e_${randomBytes(6).toString('hex')}`;
    await sql(cluster, `CREATE DATABASE ${name}`);
    this.undo.push(() => sql(cluster, `DROP DATABASE ${name} WITH (FORCE)`));
    const url = new URL(cluster);
    url.pathname = `/${name}`;
    return url.href;
  }
}

/** A real appliance: initialised, serving in processes of its own, with an app credential. */
export class Appliance extends Home implements Door {
  root = '';
  app!: AppCredential; // read by open(), the only way to get an Appliance
  /** The database, beside the appliance. */
  db!: SqlStorage; // as above
  #server: { child: ChildProcess; said: () => string } | undefined;

  static async open(options: ApplianceOptions = {}): Promise<Appliance> {
    const appliance: Appliance = await Appliance.prepare(options);
    try {
      const { status, stderr } = await appliance.ekms('init');
      if (status !== 0) throw new Error(`ekms init: ${stderr}`);
      await appliance.serve();
      return appliance;
    } catch (error) {
      await appliance.close();
      throw error;
    }
  }

  /** The first start, with an app credential. */
  protected async serve(): Promise<void> {
    this.root = readFileSync(this.file('ca.pem'), 'utf8');
    await this.start();
    const credential = await this.act('app.issue', { platform: 'linux' });
    writeFileSync(this.beside('app.json'), JSON.stringify(credential));
    this.app = readAppCredential(JSON.stringify(credential));
    this.db = await this.openDatabase();
  }

  get port(): number {
    return this.ports.client;
  }

  get administration(): string {
    return `https://localhost:${this.ports.administration}`;
  }

  get pid(): number {
    return this.#server?.child.pid ?? 0;
  }

  /** All that the processes wrote to stdout and stderr since the last start. */
  get said(): string {
    return this.#server?.said() ?? '';
  }

  now(): Date {
    return new Date();
  }

  async start(): Promise<void> {
    this.#server = await this.spawnServe();
  }

  /** By SIGTERM. Resolves with the exit status. */
  async stop(): Promise<number | null> {
    const child = this.#server?.child;
    if (!child || child.exitCode !== null) return child?.exitCode ?? null;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
    return child.exitCode;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.remove();
  }

  /** What the command line asks of a running appliance, without the half second that a command line costs. */
  async act(name: ActName, args: object): Promise<unknown> {
    return (await askAppliance(this.path, name, args))?.value;
  }

  /** The newest entries, oldest of them first. */
  async log(count = 30): Promise<LogEntry[]> {
    return (await this.act('audit.tail', { count })) as LogEntry[]; // `audit.tail` in src/commands/acts.ts
  }

  /** One command line of the real client on this device; its keys lie under a key file, since a pass phrase costs half a second each time. */
  mesign(device: string, ...args: string[]): Promise<Outcome> {
    return run(process.execPath, [MESIGN, ...args], { MESIGN_HOME: this.beside(device) });
  }

  enroll(device: string, person: string, ...more: string[]): Promise<Outcome> {
    const mailbox = `maildir:${this.file('mail', `${person}@${DOMAIN}`)}`;
    const where = ['--server', `https://localhost:${this.port}`, '--ca', this.file('ca.pem'), '--app', this.beside('app.json')];
    return this.mesign(device, 'enroll', ...where, '--email', `${person}@${DOMAIN}`, '--mailbox', mailbox, ...more);
  }

  async listKeys(device: string, ...more: string[]): Promise<ListedKey[]> {
    const { status, stdout, stderr } = await this.mesign(device, 'keys', '--json', ...more);
    if (status !== 0) throw new Error(`mesign keys: ${stderr}`);
    return JSON.parse(stdout) as ListedKey[]; // the format is fixed (design §11)
  }

  /** Messages to this address, newest first. */
  mails(address: string): string[] {
    const folder = this.file('mail', address, 'new');
    try {
      const files = readdirSync(folder).map((name) => join(folder, name));
      const born = (path: string) => statSync(path).mtimeMs;
      return files.toSorted((a, b) => born(b) - born(a)).map((path) => readFileSync(path, 'latin1'));
    } catch {
      return [];
    }
  }

  async mailed(address: string, find: (mail: string) => string | undefined): Promise<string> {
    for (const until = Date.now() + 10_000; Date.now() < until; await sleep(20))
      for (const mail of this.mails(address.toLowerCase())) {
        const found = find(mail);
        if (found !== undefined) return found;
      }
    throw new Error(`the mail to ${address} did not come`);
  }
}

async function sql(url: string, statement: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
