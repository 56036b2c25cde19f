import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readAppCredential } from '../../client/src/sdk/index.js';
import { startAppliance } from '../../src/appliance.js';
import { type AuditReader, type EntryBody } from '../../src/audit/index.js';
import { pem } from '../../src/certificates/index.js';
import { parseConfiguration } from '../../src/configuration.js';
import type { Clock } from '../../src/foundation/index.js';
import { authorityUrls, type House, openHouse } from '../../src/house.js';
import { MemoryTransport } from '../../src/mail/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { CHALLENGE, DOMAIN } from './appliance.js';
import type { Door } from './wire-device.js';

export interface HouseOptions {
  settings?: Record<string, unknown>;
  /** Before anything was asked of the token: the place to take a guard out. */
  token?: (token: MemoryToken) => void;
}

/** The whole appliance in this process: a memory token, mail in memory, a clock that a test moves; listeners, guards and rooms are the real ones. */
export class HouseInProcess implements Door {
  /** What the problem filter called a defect: a test that expects none looks here. */
  readonly defects: unknown[] = [];
  readonly mail = new MemoryTransport();
  #ahead = 0;
  readonly clock: Clock = { now: () => new Date(Date.now() + this.#ahead) };

  private constructor(
    readonly folder: string,
    readonly token: MemoryToken,
  ) {}

  house!: House; // set by open(), the only way to get one
  port = 0;
  root = '';
  app!: Door['app']; // as house
  #stop: () => Promise<void> = async () => undefined;

  static async open({ settings = {}, token: prepare = () => undefined }: HouseOptions = {}): Promise<HouseInProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'ekms-house-'));
    const listen = Object.fromEntries(['client', 'administration', 'staff', 'public', 'operation'].map((name) => [name, '127.0.0.1:0']));
    const configuration = parseConfiguration(JSON.stringify({ listen, domains: [DOMAIN], keys: { bits: 2048, pool: { target: 0 } }, ...settings }), folder);
    mkdirSync(join(folder, 'run'));
    let ahead = 0;
    const clock: Clock = { now: () => new Date(Date.now() + ahead) };
    const authority = { organisation: 'Test', domains: configuration.domains, publicName: 'localhost', urls: authorityUrls(configuration) };
    const token = await MemoryToken.open(join(folder, 'journal'), authority, clock);
    prepare(token);
    const it = new HouseInProcess(folder, token);
    it.pass = (milliseconds) => {
      ahead += milliseconds;
    };
    it.#ahead = 0;
    const house = await openHouse(configuration, { root: resolve(__dirname, '../..') }, { token, clock, transport: it.mail });
    it.house = house;
    const appliance = await startAppliance(house, (error) => it.defects.push(error));
    it.#stop = () => appliance.close();
    it.port = appliance.places.client?.port ?? 0;
    it.root = pem(house.authorities.root);
    it.app = readAppCredential(JSON.stringify(await house.apps.issue('linux', { kind: 'operator' })));
    return it;
  }
}
