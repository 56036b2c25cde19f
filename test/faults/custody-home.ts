import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AppCredential, readAppCredential } from '../../client/src/sdk/index.js';
import type { ActName } from '../../src/commands/acts.js';
import { askAppliance } from '../../src/commands/ask-appliance.js';
import { freePorts } from '../../src/demo/programs.js';
import { FatalSteps } from '../support/fatal-steps.js';
import { LIFTED } from '../support/lifted-budgets.js';
import type { Door } from '../support/wire-device.js';

const EKMS = resolve(import.meta.dirname, '../../dist/programs/main.js');
const CUSTODIANS = ['Ada', 'Ben', 'Cleo'];

export interface Ended {
  status: number | null;
  said: string;
}

/**
 * An appliance with custodians whose every process counts its steps. Beside its home lie the shares, the second place and what its people
 * hold, which a fire in the home does not reach.
 */
export class CustodyHome {
  readonly folder: string;
  readonly steps: FatalSteps;
  /** The built `ekms`, or a changed one. */
  program = EKMS;
  ports = { client: 0, administration: 0, staff: 0, public: 0, operation: 0 };
  /** Whom the directory names now. */
  named: readonly string[] = ['p1', 'p2'];
  #server: ChildProcess | undefined;

  private constructor(template?: CustodyHome) {
    this.folder = mkdtempSync(join(tmpdir(), 'ekms-custody-'));
    if (template) {
      for (const name of ['home', 'second', 'shares', 'backup', 'former', 'people.csv', 'fatal-steps.so'])
        if (existsSync(template.beside(name))) cpSync(template.beside(name), this.beside(name), { recursive: true });
      this.#moved(template);
    } else mkdirSync(this.path);
    this.steps = new FatalSteps(this.folder, `${this.folder}/`);
  }

  /** A blank home with its configuration. */
  static async make(settings: object = {}): Promise<CustodyHome> {
    const home = new CustodyHome();
    const [client = 0, administration = 0, staff = 0, open = 0, operation = 0] = await freePorts(5);
    home.ports = { client, administration, staff, public: open, operation };
    home.people(['p1', 'p2']);
    writeFileSync(join(home.path, 'ekms.yaml'), `${JSON.stringify(home.#settings(settings), undefined, 1)}\n`, { mode: 0o600 }); // JSON is YAML
    return home;
  }

  copy(): CustodyHome {
    const copy = new CustodyHome(this);
    copy.ports = this.ports;
    return copy;
  }

  #settings(more: object): object {
    const listen = Object.fromEntries(Object.entries(this.ports).map(([name, port]) => [name, `127.0.0.1:${port}`]));
    return {
      listen,
      budgets: LIFTED,
      domains: ['corp.example'],
      mail: { transport: 'maildir', directory: 'mail' },
      keys: { bits: 2048, pool: { target: 4 } },
      durability: 'two',
      escrow: { directory: '../second' },
      backup: { everyHours: 0 },
      directory: { source: 'csv', csvFile: '../people.csv', unlisted: 'allow' },
      ...more,
    };
  }

  #moved(from: CustodyHome): void {
    const softhsm = join(this.path, 'softhsm2.conf');
    if (existsSync(softhsm)) writeFileSync(softhsm, readFileSync(softhsm, 'utf8').replaceAll(from.path, this.path));
  }

  get path(): string {
    return this.beside('home');
  }

  beside(...names: string[]): string {
    return join(this.folder, ...names);
  }

  /** Whom the organisation's directory names. */
  people(names: readonly string[]): void {
    this.named = names;
    const lines = names.map((name) => `${name},${name}@corp.example,active`);
    writeFileSync(this.beside('people.csv'), `id,addresses,state\n${lines.join('\n')}\n`);
  }

  get shares(): string[] {
    return this.sharesIn('shares');
  }

  sharesIn(folder: string): string[] {
    return readdirSync(this.beside(folder))
      .filter((name) => name.startsWith('share-'))
      .sort()
      .map((name) => this.beside(folder, name));
  }

  /** One command line in a process group of its own, so that it can die with all its processes. */
  async ekms(...args: string[]): Promise<Ended> {
    const child = this.#spawn(args);
    const said = heard(child);
    const [status] = (await once(child, 'close')) as [number | null];
    return { status, said: said() };
  }

  async must(...args: string[]): Promise<string> {
    const { status, said } = await this.ekms(...args);
    if (status !== 0) throw new Error(`ekms ${args[0]}: ${said}`);
    return said;
  }

  ceremony(): Promise<Ended> {
    const who = CUSTODIANS.map((name) => `${name}=paper`);
    return this.ekms('ceremony', '--custodian', ...who, '--threshold', '2', '--shares', this.beside('shares'));
  }

  /** Dora and Emil in the place of Ben and Cleo. */
  custodians(command: 'permit' | 'reissue', ...more: string[]): Promise<Ended> {
    return this.ekms('custody', command, '--custodian', 'Ada=paper', 'Dora=paper', 'Emil=paper', ...more);
  }

  restore(backup: string, shares: readonly string[], ...more: string[]): Promise<Ended> {
    return this.ekms('restore', backup, ...more, '--share', ...shares);
  }

  /** Resolves when it serves, or when it ended before. */
  async serve(): Promise<void> {
    const child = this.#spawn(['serve']);
    const said = heard(child);
    this.#server = child;
    for (const until = Date.now() + 60_000; !/^ready/m.test(said()); await sleep(10)) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`ekms serve ended: ${said()}`);
      if (Date.now() > until) throw new Error(`ekms serve is not ready: ${said()}`);
    }
  }

  /** Resolves when the appliance is gone by itself. */
  get gone(): Promise<void> {
    const child = this.#server;
    return !child || child.exitCode !== null || child.signalCode !== null ? Promise.resolve() : once(child, 'exit').then(() => undefined);
  }

  get serves(): boolean {
    return this.#server !== undefined && this.#server.exitCode === null && this.#server.signalCode === null;
  }

  get pid(): number | undefined {
    return this.#server?.pid;
  }

  /** Of the token process that the appliance began last. */
  get tokenPid(): number | undefined {
    const children = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8').trim().split(' ');
    return Number(children.at(-1)) || undefined;
  }

  async kill(): Promise<void> {
    this.#server?.kill('SIGKILL');
    await this.gone;
  }

  async stop(): Promise<void> {
    this.#server?.kill('SIGTERM');
    await this.gone;
  }

  async act<T>(name: ActName, args: object): Promise<T> {
    const answer = await askAppliance(this.path, name, args);
    if (!answer) throw new Error('no appliance is up');
    return answer.value as T; // what the act's row in src/commands/acts.ts gives
  }

  async issueApp(): Promise<AppCredential> {
    return readAppCredential(JSON.stringify(await this.act('app.issue', { platform: 'linux' })));
  }

  door(app: AppCredential): Door {
    const mailed = async (address: string, find: (mail: string) => string | undefined): Promise<string> => {
      const folder = join(this.path, 'mail', address, 'new');
      for (const until = Date.now() + 30_000; Date.now() < until; await sleep(20))
        for (const name of existsSync(folder) ? readdirSync(folder) : []) {
          const found = find(readFileSync(join(folder, name), 'latin1'));
          if (found !== undefined) return found;
        }
      throw new Error(`the mail to ${address} did not come`);
    };
    return { port: this.ports.client, root: readFileSync(join(this.path, 'ca.pem'), 'utf8'), app, now: () => new Date(), mailed };
  }

  /** As after a fire: nothing is left of the home, but a blank folder with the configuration that IT wrote. */
  burn(): void {
    const configuration = readFileSync(join(this.path, 'ekms.yaml'));
    rmSync(this.path, { recursive: true });
    mkdirSync(this.path, { mode: 0o700 });
    writeFileSync(join(this.path, 'ekms.yaml'), configuration, { mode: 0o600 });
  }

  async remove(): Promise<void> {
    if (this.serves) await this.kill();
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  #spawn(args: readonly string[]): ChildProcess {
    const env = { ...process.env, ...this.steps.environment, EKMS_HOME: this.path };
    return spawn(process.execPath, [this.program, ...args], { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  }
}

function heard(child: ChildProcess): () => string {
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  return () => said;
}
