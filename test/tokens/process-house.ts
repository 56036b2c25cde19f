import { spawnSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { thumbprint } from '../../src/codec/jwk.js';
import { base64url, newId, newSerial, sha256 } from '../../src/foundation/index.js';
import type { BindingRecord, DeviceEvidence, EnrolmentRecord, KeyMode, KeyRecord, Sealed, Token } from '../../src/tokens/index.js';
import type { InitSettingsInput } from '../../src/tokens/process/init.js';
import type { TokenSettingsInput } from '../../src/tokens/process/settings.js';

export const DIST = resolve(process.env['EKMS_DIST'] ?? 'dist');
export const ENTRY = join(DIST, 'programs/tokens/process/main.js');
export const URLS = { crl: 'http://localhost/crl/x.crl', issuer: 'http://localhost/ca/x.cer' };

export interface TokenHome {
  home: string;
  settings: TokenSettingsInput & { pinFile: string };
  init: InitSettingsInput;
  remove(): void;
}

export function tokenHome(): TokenHome {
  const home = mkdtempSync(join(tmpdir(), 'ekms-token-'));
  const settings = {
    module: '/usr/lib/softhsm/libsofthsm2.so',
    label: 'ekms',
    pinFile: join(home, 'pin'),
    profiles: resolve('deploy/token-profiles'),
    profile: 'softhsm',
    softhsmConfig: join(home, 'softhsm2.conf'),
    state: join(home, 'token-state'),
    socket: join(home, 'run/token.sock'),
  };
  const init: InitSettingsInput = {
    token: settings,
    softhsmTokens: join(home, 'token'),
    kekHelper: resolve('dist/native/ekms-kek'),
    organisation: 'Test & Sons',
    domains: ['corp.example'],
    publicName: 'localhost',
    urls: { root: URLS, people: URLS, devices: URLS, infrastructure: URLS },
  };
  return { home, settings, init, remove: () => rmSync(home, { recursive: true, force: true }) };
}

export const runMain = (command: string, settings: unknown) =>
  spawnSync(process.execPath, [ENTRY, command], {
    input: `${JSON.stringify(settings)}\n`,
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env },
  }); // jest's own copy of it

/** A home in which `init` has run. */
export function initialisedHome(): TokenHome {
  const home = tokenHome();
  const { status, stderr } = runMain('init', home.init);
  if (status !== 0) throw new Error(`init: ${stderr}`);
  return home;
}

export interface Person {
  employee: string;
  binding: Sealed<BindingRecord>;
  enrolment: Sealed<EnrolmentRecord>;
  answer: string;
  device: string;
  evidence: DeviceEvidence;
  delivery: KeyObject;
  identity: Buffer;
}

/** A person with one device, enrolled as the rooms above would. */
export async function enrol(token: Token, address = 'alice@corp.example', deliveryBits = 3072): Promise<Person> {
  const employee = newId();
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: deliveryBits });
  const deliveryKey = publicKey.export({ format: 'der', type: 'spki' });
  const identity = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' });
  const answer = base64url(sha256(newId()));
  const binding = await token.seal<BindingRecord>({
    type: 'binding',
    id: newId(),
    version: 1,
    employee,
    address,
    from: Date.now(),
    to: null,
  });
  const enrolment = await token.seal<EnrolmentRecord>({
    type: 'enrolment',
    id: newId(),
    version: 1,
    address,
    answer: base64url(sha256(answer)),
    jkt: thumbprint(identity),
    delivery: base64url(sha256(deliveryKey)),
    expires: Date.now() + 600_000,
  });
  const device = newId();
  const ask = { enrolment, answer, binding, device, serial: newSerial(), spki: identity, urls: URLS, days: 90 };
  const certificate = await token.issueDevice(ask);
  return { employee, binding, enrolment, answer, device, evidence: { certificate, deliveryKey }, delivery: privateKey, identity };
}

export interface Held {
  key: Sealed<KeyRecord>;
  blob: { wrapped: Buffer; publicKey: Buffer };
}

export async function giveKey(token: Token, person: Person, mode: KeyMode = 'deliver'): Promise<Held> {
  const { pair, wrapped, publicKey } = await token.makePair({ suite: 'rsa', bits: 2048 });
  const key = await token.assign(pair, { key: newId(), employee: person.employee, mode });
  return { key, blob: { wrapped, publicKey } };
}

export async function eventually(holds: () => Promise<boolean> | boolean, withinMs: number): Promise<number> {
  const begin = Date.now();
  while (!(await holds())) {
    if (Date.now() - begin > withinMs) throw new Error(`not so within ${withinMs} ms`);
    await new Promise((done) => setTimeout(done, 25));
  }
  return Date.now() - begin;
}
