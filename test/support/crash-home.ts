import { randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { type AppCredential, readAppCredential } from '../../client/src/sdk/index.js';
import { type Appliance, startAppliance } from '../../src/appliance.js';
import { serveControl } from '../../src/commands/control.js';
import { init } from '../../src/commands/init.js';
import { lockHome } from '../../src/commands/lock.js';
import { reconcile } from '../../src/commands/reconcile.js';
import { loadConfiguration } from '../../src/configuration/index.js';
import { type House, openHouse } from '../../src/house.js';
import { LIFTED } from './lifted-budgets.js';
import type { Door } from './wire-device.js';

const installation = { root: resolve(import.meta.dirname, '../..') };
export type Engine = 'sqlite' | 'postgres';

/** How many pairs lie ready in a new home, and how many the appliance wants: the refill is at work under the load too. */
const POOL = { ready: 10, target: 12 };

/** A home on disk, with its mailboxes beside it: what lies in them is the people's, not the appliance's. */
export class CrashHome {
  readonly folder: string;
  readonly engine: Engine;
  readonly #database: string | undefined;

  private constructor(engine: Engine, template?: CrashHome) {
    this.folder = mkdtempSync(join(tmpdir(), 'ekms-crash-'));
    this.engine = engine;
    if (engine === 'postgres') this.#database = `ekms_crash_${randomBytes(6).toString('hex')}`;
    if (template) cpSync(template.path, this.path, { recursive: true });
    else mkdirSync(this.path);
    const listen = Object.fromEntries(['client', 'administration', 'staff', 'public', 'operation'].map((name) => [name, '127.0.0.1:0']));
    const database = { url: this.#database === undefined ? 'sqlite:ekms.db' : addressOf(this.#database) };
    const settings = {
      budgets: LIFTED,
      listen,
      database,
      domains: ['corp.example'],
      mail: { transport: 'maildir', directory: this.mail },
      keys: { bits: 2048, pool: { target: POOL.target } },
    };
    writeFileSync(join(this.path, 'ekms.yaml'), JSON.stringify(settings), { mode: 0o600 }); // JSON is YAML
  }

  /** An initialised home with ready pairs. */
  static async make(engine: Engine): Promise<CrashHome> {
    const home = new CrashHome(engine);
    if (home.#database !== undefined) await onCluster(`CREATE DATABASE ${home.#database}`);
    await init({ home: home.path, domains: ['corp.example'], say: () => undefined }, installation);
    return home;
  }

  /** A copy of this one, which nobody has open now. */
  async copy(): Promise<CrashHome> {
    const copy = new CrashHome(this.engine, this);
    if (copy.#database !== undefined) await onCluster(`CREATE DATABASE ${copy.#database} TEMPLATE ${this.#database}`);
    const softhsm = join(copy.path, 'softhsm2.conf');
    writeFileSync(softhsm, readFileSync(softhsm, 'utf8').replaceAll(this.path, copy.path));
    return copy;
  }

  get path(): string {
    return join(this.folder, 'home');
  }

  get mail(): string {
    return join(this.folder, 'mail');
  }

  get root(): string {
    return readFileSync(join(this.path, 'ca.pem'), 'utf8');
  }

  /** What lies in the home, but for the PIN's own file. */
  *files(folder = this.path): Generator<{ name: string; bytes: Buffer }> {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) yield* this.files(path);
      else if (entry.isFile() && path !== join(this.path, 'pin'))
        yield { name: path.slice(this.path.length + 1), bytes: readFileSync(path) };
    }
  }

  async remove(): Promise<void> {
    rmSync(this.folder, { recursive: true, force: true });
    if (this.#database !== undefined) await onCluster(`DROP DATABASE IF EXISTS ${this.#database} WITH (FORCE)`);
  }

  /** Starts the appliance in this process, as `ekms serve` does. */
  async start(defect: (error: unknown) => void, { reconciles = true } = {}): Promise<Started> {
    const configuration = loadConfiguration(this.path);
    const unlock = lockHome(this.path);
    try {
      const house = await openHouse(configuration, installation);
      if (reconciles) await reconcile(house);
      const appliance = await startAppliance(house, defect);
      return new Started(this, house, appliance, await serveControl(house, this.path), unlock);
    } catch (error) {
      unlock();
      throw error;
    }
  }

  /** How devices reach an appliance on this home. @param isGone says that it will send no more mail */
  door(port: number, app: AppCredential, isGone: () => boolean = () => false): Door {
    const mailed = async (address: string, find: (mail: string) => string | undefined): Promise<string> => {
      const folder = join(this.mail, address, 'new');
      for (const until = Date.now() + 15_000; Date.now() < until; await sleep(20)) {
        for (const mail of newestFirst(folder)) {
          const found = find(mail);
          if (found !== undefined) return found;
        }
        if (isGone()) throw new Error('ECONNREFUSED, as the next request would say');
      }
      throw new Error(`the mail to ${address} did not come`);
    };
    return { port, root: this.root, app, now: () => new Date(), mailed };
  }
}

export class Started {
  readonly house: House;
  readonly port: number;
  readonly #home: CrashHome;
  readonly #appliance: Appliance;
  readonly #stopControl: () => Promise<void>;
  readonly #unlock: () => void;

  constructor(home: CrashHome, house: House, appliance: Appliance, stopControl: () => Promise<void>, unlock: () => void) {
    this.house = house;
    this.port = appliance.places.client?.port ?? 0;
    this.#home = home;
    this.#appliance = appliance;
    this.#stopControl = stopControl;
    this.#unlock = unlock;
  }

  async issueApp(): Promise<AppCredential> {
    return readAppCredential(JSON.stringify(await this.house.apps.issue('linux', { kind: 'operator' })));
  }

  door(app: AppCredential): Door {
    return this.#home.door(this.port, app);
  }

  async fill(): Promise<void> {
    await this.house.pool.fill(POOL.ready);
  }

  async close(): Promise<void> {
    await this.#stopControl();
    await this.#appliance.close();
    await this.house.close();
    this.#unlock();
  }
}

function newestFirst(folder: string): string[] {
  try {
    const files = readdirSync(folder).map((name) => join(folder, name));
    return files.toSorted((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs).map((path) => readFileSync(path, 'latin1'));
  } catch {
    return []; // not there yet
  }
}

const cluster = (): string => process.env['EKMS_TEST_POSTGRES'] ?? '';

function addressOf(database: string): string {
  const url = new URL(cluster());
  url.pathname = `/${database}`;
  return url.href;
}

async function onCluster(statement: string): Promise<void> {
  const client = new pg.Client(cluster());
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
