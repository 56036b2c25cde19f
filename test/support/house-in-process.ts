import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AppCredential, readAppCredential } from '../../client/src/sdk/index.js';
import type { Surroundings } from '../../src/access/index.js';
import { startAppliance } from '../../src/appliance.js';
import { pem } from '../../src/certificates/index.js';
import { ActDesk, operator, shown } from '../../src/commands/act-desk.js';
import type { ActName } from '../../src/commands/acts.js';
import { RequestFiled } from '../../src/commands/ask-appliance.js';
import { parseConfiguration } from '../../src/configuration/index.js';
import type { Directory } from '../../src/directory/index.js';
import { Clock } from '../../src/foundation/index.js';
import { authorityUrls, type House, openHouse } from '../../src/house.js';
import { MemoryTransport } from '../../src/mail/index.js';
import type { RecoveryAgents } from '../../src/tokens/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { DOMAIN, type LogEntry } from './appliance.js';
import { lastingDatabase, type TestDatabase } from './database.js';
import { Isolated } from './isolated.js';
import type { Door } from './wire-device.js';

export interface HouseOptions {
  settings?: Record<string, unknown>;
  /** What the isolation guard sees; nothing that leads out unless a test says so. */
  surroundings?: Surroundings;
  /** Called before anything was asked of the token: the place to take a guard out. */
  token?: (token: MemoryToken) => void;
  /** The organisation's directory. */
  people?: Directory;
  /** Recovery agents whom a ceremony would have named. */
  agents?: RecoveryAgents;
  /** Of a database; else one of its own. */
  database?: string;
  /** Of the database of its own: on SQLite unless a test says otherwise. */
  kind?: TestDatabase['kind'];
}

/** The real time, and as much later as a test lets pass. */
class MovableClock extends Clock {
  ahead = 0;
  override now(): Date {
    return new Date(Date.now() + this.ahead);
  }
}

/**
 * The whole appliance in this process: a memory token (real warden, real journal), mail in memory, a clock that a test moves. Listeners, guards and
 * rooms are the real ones.
 */
export class HouseInProcess implements Door {
  private constructor(
    readonly house: House,
    readonly token: MemoryToken,
    readonly mail: MemoryTransport,
    /** What the problem filter called a defect: a test that expects none looks here. */
    readonly defects: unknown[],
    readonly port: number,
    readonly app: AppCredential,
    private readonly clock: MovableClock,
    private readonly stop: () => Promise<void>,
  ) {}

  /** A second node: all of the same database, token and clock, and nothing that listens. Whoever asks for it closes it first. */
  beside(): Promise<House> {
    const { token, clock, mail } = this;
    const parts = { token, clock, surroundings: new Isolated(), transport: mail };
    return openHouse(this.house.configuration, { root: resolve(__dirname, '../..') }, parts);
  }

  static async open({
    settings = {},
    surroundings = new Isolated(),
    token: prepare = () => undefined,
    people,
    agents,
    kind = 'sqlite',
    ...of
  }: HouseOptions = {}): Promise<HouseInProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'ekms-house-'));
    const own = kind === 'sqlite' || of.database !== undefined ? undefined : await lastingDatabase(kind);
    const database = of.database ?? own?.settings.url;
    const listen = Object.fromEntries(['client', 'administration', 'staff', 'public', 'operation'].map((name) => [name, '127.0.0.1:0']));
    const given = {
      listen,
      domains: [DOMAIN],
      keys: { bits: 2048, pool: { target: 0 } },
      ...(database ? { database: { url: database } } : {}),
      ...settings,
    };
    const configuration = parseConfiguration(JSON.stringify(given), folder);
    const clock = new MovableClock();
    const authorities = {
      organisation: 'Test',
      domains: configuration.domains,
      publicName: 'localhost',
      urls: authorityUrls(configuration),
    };
    const token = await MemoryToken.open(join(folder, 'journal'), authorities, clock, agents);
    prepare(token);
    const mail = new MemoryTransport();
    const house = await openHouse(
      configuration,
      { root: resolve(__dirname, '../..') },
      { token, clock, surroundings, transport: mail, ...(people ? { people } : {}) },
    );
    const defects: unknown[] = [];
    const appliance = await startAppliance(house, (error) => defects.push(error));
    const app = readAppCredential(JSON.stringify(await house.apps.issue('linux', { kind: 'operator' })));
    return new HouseInProcess(house, token, mail, defects, appliance.places.client?.port ?? 0, app, clock, async () => {
      await appliance.close();
      await house.close();
      await token.close();
      rmSync(folder, { recursive: true, force: true });
      await own?.remove();
    });
  }

  get root(): string {
    return pem(this.house.authorities.root);
  }

  get administration(): string {
    return this.house.origins.of('administration');
  }

  /** The database, as whoever owns it has it. */
  get db(): House['storage'] {
    return this.house.storage;
  }

  now(): Date {
    return this.clock.now();
  }

  /** What the operator's command line asks; rejects with `RequestFiled` where it takes others. */
  async act(name: ActName, args: object): Promise<unknown> {
    const outcome = await new ActDesk(this.house).ask(name, args, operator());
    if ('request' in outcome) throw new RequestFiled(shown(outcome.request));
    return outcome.value;
  }

  /** Moves the appliance's clock forward. */
  pass(milliseconds: number): void {
    this.clock.ahead += milliseconds;
  }

  /** The newest entries, oldest of them first. */
  async log(count = 30): Promise<LogEntry[]> {
    return (await this.house.auditReader.latest(count)).map(({ body, personal }) => ({ ...body, personal }));
  }

  async mailed(address: string, find: (mail: string) => string | undefined): Promise<string> {
    for (const until = Date.now() + 10_000; Date.now() < until; await sleep(10))
      for (const { to, bytes } of this.mail.accepted.toReversed()) {
        const found = to.toLowerCase() === address.toLowerCase() ? find(bytes.toString('latin1')) : undefined;
        if (found !== undefined) return found;
      }
    throw new Error(`the mail to ${address} did not come`);
  }

  close(): Promise<void> {
    return this.stop();
  }
}
