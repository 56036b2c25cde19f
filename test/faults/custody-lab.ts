import { execFileSync } from 'node:child_process';
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AppCredential } from '../../client/src/sdk/index.js';
import { checkLog } from '../../src/audit/index.js';
import { checkData } from '../../src/commands/consistency.js';
import { reconcile } from '../../src/commands/reconcile.js';
import { loadConfiguration } from '../../src/configuration/index.js';
import { KeysInEscrow, readEscrow } from '../../src/custody/escrow-journal.js';
import type { ImportedKey } from '../../src/custody/index.js';
import { isFault, type Storage } from '../../src/foundation/index.js';
import { type House, openHouse } from '../../src/house.js';
import { KeyStore, type PoolRow, pairOf } from '../../src/keys/index.js';
import { openIntents, openStorage } from '../../src/storage/index.js';
import { authorityId, parsePackage } from '../../src/tokens/index.js';
import type { Step } from '../support/fatal-steps.js';
import { openKey } from '../support/open-delivery.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';
import { CustodyHome } from './custody-home.js';

const installation = { root: resolve(import.meta.dirname, '../..') };
const PATIENCE_MS = 60_000;
/** Keys of a former system, to be imported. */
const FORMER = ['former-1', 'former-2'] as const;

/** What is killed between its steps. Told twice, each does what is left of it. */
const ACTS = {
  birth: async (home: CustodyHome) => {
    home.people(['p1', 'p2', 'p3', 'p4']);
    await home.act('pool.fill', { count: 5 });
    await home.act('directory.sync', {});
    await until(home, 'everybody of the directory has a key', async (storage) => (await nobodyWithout(storage)) === 0);
  },
  backup: (home: CustodyHome) => home.act('backup.create', {}),
  rotation: async (home: CustodyHome) => {
    const { state } = await home.act<{ state: string }>('kek.status', {});
    if (state === 'none' && (await keks(home)).every((kek) => kek !== '1')) return;
    if (state !== 'finished')
      await home.act('kek.rotate', {}).catch((error: unknown) => {
        // One that was under way came to its end since it was asked about.
        if (!isFault(error, 'kek-rotation-open')) throw error;
      });
    for (const end = Date.now() + PATIENCE_MS; (await home.act<{ state: string }>('kek.status', {})).state !== 'finished'; await sleep(50))
      if (Date.now() > end) throw new Error('the rotation does not end');
    await home.act('backup.create', {});
    await home.act('kek.retire', {});
  },
  import: async (home: CustodyHome) => {
    for (const name of FORMER) {
      const file = readFileSync(home.beside('former', `${name}.p12`)).toString('base64');
      const [key] = await home.act<ImportedKey[]>('key.import', { file, phrase: 'phrase', dryRun: false });
      if (key?.outcome !== 'imported' && key?.outcome !== 'there') throw new Error(`${name} was not taken: ${key?.words}`);
    }
  },
  keys: async (home: CustodyHome) => {
    const held = await home.act<{ name: string; n: number }[]>('token.keys', {});
    const isFirst = (key: string) => held.find(({ name }) => name === key)?.n === 1;
    if (isFirst('delivery')) await home.act('token.rotate', { name: 'delivery' });
    if (isFirst('audit')) await home.act('audit.rotate-key', {});
    for (const name of ['delivery', 'audit']) await home.act('token.retire', { name });
  },
  authorities: async (home: CustodyHome) => {
    const list = () => home.act<{ id: string; state: string }[]>('ca.list', {});
    for (const name of ['people', 'devices'])
      if (!(await list()).some(({ id }) => id === `${name}-2`)) await home.act('ca.rotate', { name });
    if ((await list()).some(({ id, state }) => id === 'people' && state !== 'retired'))
      await home.act('ca.retire', { id: 'people', revoke: true });
  },
  ceremony: async (home: CustodyHome) => {
    const { status, said } = await home.ceremony();
    if (status !== 0 && !said.includes('already-initialised')) throw new Error(said);
  },
  reissue: async (home: CustodyHome) => {
    const { status, said } = await home.custodians('reissue', '--share', ...home.shares.slice(1), '--shares', home.beside('new-shares'));
    // What was all done before it died was forgotten to be permitted.
    if (status !== 0 && !(said.includes('reissue-not-permitted') && existsSync(home.beside('new-shares', 'minutes.pdf'))))
      throw new Error(said);
  },
  pin: async (home: CustodyHome) => {
    await home.must('token', 'pin', 'change');
  },
  migrate: async (home: CustodyHome) => {
    const { status, said } = await home.ekms('token', 'migrate', '--label', 'other', '--yes', '--share', ...home.shares.slice(1));
    if (status !== 0) throw new Error(said);
  },
  restore: async (home: CustodyHome) => {
    const [first = '', , third = ''] = home.shares;
    const { status, said } = await home.restore(
      newestIn(home.beside('backup')),
      [third, first],
      // What the act has is the backup's own state; its copy at the second place has the entry of that backup more.
      ...['--nothing-lost', '--no-tail'],
      '--escrow',
      home.beside('second'),
    );
    if (status !== 0 && !said.includes('already-initialised')) throw new Error(said);
  },
} as const;
export type ActName = keyof typeof ACTS;
export const ACT_NAMES = Object.keys(ACTS) as ActName[]; // exactly these, by the line above
const byCommand = (name: ActName) =>
  name === 'ceremony' || name === 'restore' || name === 'reissue' || name === 'pin' || name === 'migrate';

export interface Death {
  /** The step before which it died; undefined when it did not come to it. */
  step: Step | undefined;
  problems: string[];
}

/** An appliance with custodians, a person with a device, a full backup and one that builds on it; copies of it die. */
export class CustodyLab {
  readonly #steps = new Map<ActName, number>();

  /** False takes the guard away: what was cut in half stays so, and must be found. */
  again = true;
  readonly template: CustodyHome;
  readonly #blank: CustodyHome;
  readonly app: AppCredential;
  readonly vera: WireDevice;
  /** Vera's keys as she got them. */
  readonly keys: string[];

  private constructor(of: { template: CustodyHome; blank: CustodyHome; app: AppCredential; vera: WireDevice; keys: string[] }) {
    this.template = of.template;
    this.#blank = of.blank;
    this.app = of.app;
    this.vera = of.vera;
    this.keys = of.keys;
  }

  static async open(): Promise<CustodyLab> {
    const template = await CustodyHome.make();
    const blank = template.copy();
    await template.must('escrow', 'prepare', '--same-disk', template.beside('second'));
    const { status, said } = await template.ceremony();
    if (status !== 0) throw new Error(said);
    await template.serve();
    const app = await template.issueApp();
    await template.act('directory.sync', {});
    await until(template, 'everybody of the directory has a key', async (storage) => (await nobodyWithout(storage)) === 0);
    const vera = await enrolDevice(template.door(app), 'vera@corp.example');
    const keys = await veraKeys(template, app, vera);
    await template.act('backup.create', {});
    await template.act('directory.sync', {});
    await template.act('backup.create', {});
    cpSync(join(template.path, 'backups'), template.beside('backup'), { recursive: true });
    await template.stop();
    makeFormer(template, vera.address);
    return new CustodyLab({ template, blank, app, vera, keys });
  }

  async close(): Promise<void> {
    await this.template.remove();
    await this.#blank.remove();
  }

  /** How many steps this act takes when nothing happens. */
  async count(name: ActName): Promise<number> {
    const known = this.#steps.get(name);
    if (known !== undefined) return known;
    const { problems, count } = await this.#life(name, 0, false);
    if (problems.length > 0) throw new Error(`${name} without any fault: ${problems.join('; ')}`);
    this.#steps.set(name, count);
    console.log(`${name} takes ${count} steps`);
    return count;
  }

  /** One death before the `at`-th step of an act, and what is found when the act is told again. */
  kill(name: ActName, at: number, alone: boolean): Promise<Death> {
    return this.#life(name, at, alone);
  }

  async #life(name: ActName, at: number, alone: boolean): Promise<Death & { count: number }> {
    const home = (name === 'ceremony' ? this.#blank : this.template).copy();
    const problems: string[] = [];
    let step: Step | undefined;
    try {
      if (name === 'restore') home.burn();
      if (name === 'reissue') await home.custodians('permit');
      if (name === 'ceremony') await home.must('escrow', 'prepare', '--same-disk', home.beside('second'));
      if (!byCommand(name)) await home.serve();
      home.steps.arm(at, alone);
      const first = ACTS[name](home).then(
        () => undefined,
        (error: unknown) => error,
      );
      const failed = byCommand(name) ? await first : await Promise.race([first, home.gone]);
      step = home.steps.fired;
      // Whoever asked may hear of the death before the process that is waited for is gone.
      if (step !== undefined && !alone) await home.gone;
      const count = home.steps.taken().length;
      home.steps.disarm();
      if (at > 0 && step === undefined) return { step, problems: failed ? [String(failed)] : [], count };
      if (at === 0 && failed) return { step, problems: [String(failed)], count };
      if (at > 0 && this.again) await this.#again(name, home);
      await this.#examine(name, home, problems);
      return { step, problems, count };
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
      return { step: step ?? home.steps.fired ?? 'none', problems, count: 0 };
    } finally {
      await home.remove();
    }
  }

  async #again(name: ActName, home: CustodyHome): Promise<void> {
    for (const end = Date.now() + PATIENCE_MS; ; await sleep(500))
      try {
        if (!byCommand(name) && !home.serves) await home.serve();
        await ACTS[name](home);
        return;
      } catch (error) {
        // Where one process died alone, the others may still be busy with it, and say so.
        if (
          Date.now() > end ||
          !/in-use|being started|no appliance is up|went away|unavailable|ECONNRESET|socket hang up|token/.test(String(error))
        )
          throw error;
      }
  }

  async #examine(name: ActName, home: CustodyHome, problems: string[]): Promise<void> {
    if (name === 'ceremony' || name === 'reissue') {
      const shares = home.sharesIn(name === 'ceremony' ? 'shares' : 'new-shares');
      if (shares.length !== 3) problems.push(`there are ${shares.length} shares`);
      // The shares open what they are for, and former ones do not: the proof of both.
      await home.must('backup', 'create');
      await home.must('drill', '--scratch', home.folder, '--share', ...shares.slice(1));
      if (name === 'reissue') {
        const { status, said } = await home.ekms('drill', '--scratch', home.folder, '--share', ...home.shares.slice(1));
        if (status === 0 || !said.includes('share-foreign')) problems.push(`former shares: ${said}`);
      }
    } else {
      if (!home.serves) await home.serve();
      const keys = await veraKeys(home, this.app, this.vera);
      const expected = name === 'import' ? [...this.keys, ...formerKeys(home)].sort() : this.keys;
      if (keys.join() !== expected.join()) problems.push('the person’s keys are not the ones that they were');
      await home.stop();
    }
    const house = await openHouse(loadConfiguration(home.path), installation);
    try {
      await reconcile(house);
      problems.push(...(await wholeness(house)));
      if (name === 'authorities') problems.push(...(await generationsWhole(house)));
    } finally {
      await house.close();
    }
  }
}

const newestIn = (folder: string): string => join(folder, readdirSync(folder).sort().at(-1) ?? '');

/** Keys with certificates for this address, as PKCS#12. */
function makeFormer(home: CustodyHome, address: string): void {
  mkdirSync(home.beside('former'));
  const openssl = (...words: string[]) => execFileSync('openssl', words, { cwd: home.beside('former'), stdio: 'ignore' });
  for (const name of FORMER) {
    const names = ['-subj', '/CN=Vera', '-addext', `subjectAltName=email:${address}`, '-addext', 'keyUsage=critical,keyEncipherment'];
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.pem`, '-days', '2', ...names);
    openssl('pkcs12', '-export', '-inkey', `${name}.key`, '-in', `${name}.pem`, '-passout', 'pass:phrase', '-out', `${name}.p12`);
  }
}

const formerKeys = (home: CustodyHome): string[] =>
  FORMER.map((name) => pkcs8(createPrivateKey(readFileSync(home.beside('former', `${name}.key`)))));
/** A token may fill it up with octets behind its end: only the key counts. */
const pkcs8 = (key: KeyObject): string => key.export({ format: 'der', type: 'pkcs8' }).toString('base64');

export async function veraKeys(home: CustodyHome, app: AppCredential, vera: WireDevice): Promise<string[]> {
  const keys = await keysOf(home.door(app), vera);
  return keys.map(({ delivery }) => pkcs8(openKey(delivery, vera.keys.delivery))).sort();
}

/** What is wrong with an appliance that is open in this process: every key opens, has one owner and its copies, and the log knows of it. */
export async function wholeness(house: House): Promise<string[]> {
  const { storage, token, configuration, backups } = house;
  const problems = (await checkLog(storage)).problems.map((problem) => `log: ${problem}`);
  for (const { check, verdict, words } of await checkData(storage, token)) if (verdict !== 'good') problems.push(`${check}: ${words}`);
  for (const { kind, id } of await openIntents(storage)) problems.push(`intent ${kind} ${id} is still open`);
  const without = await nobodyWithout(storage);
  if (without > 0) problems.push(`${without} people have no key`);
  const text = await token.custody();
  const held = new Set(text === null ? [] : parsePackage(text).package.keys.map(({ label }) => label));
  const stored = await new KeyStore().page(storage, '', 1_000);
  const found = new KeysInEscrow();
  if (stored.length > 0) for await (const line of readEscrow(configuration.escrow?.directory ?? '', token)) if (line) found.see(line);
  const ids = new Set([...found.given.keys(), ...[...found.taken.values()].map(({ id }) => id)]);
  for (const { sealed, wrapped, publicKey } of stored) {
    const { id, kek } = sealed.record;
    if (!held.has(`ekms/kek/${kek}`)) problems.push(`the custodians have no copy of the KEK of key ${id}`);
    if (!ids.has(id)) problems.push(`key ${id} is not in the second place`);
    await token.renew(sealed, { wrapped, publicKey }).catch((error: unknown) => problems.push(`key ${id} does not open: ${error}`));
  }
  const pairs = await storage.all<PoolRow>('SELECT * FROM pool');
  for (const row of pairs) {
    const { sealed, blob } = pairOf(row);
    await token.renew(sealed, blob).catch((error: unknown) => problems.push(`pair ${row.n} does not open: ${error}`));
  }
  for (const { file } of await backups.list())
    await backups.verify(file).catch((error: unknown) => problems.push(`backup ${file}: ${String(error)}`));
  return problems;
}

/** What `authorities` has left: each generation with its list, said once in the log, held by the custodians if its key is there. */
async function generationsWhole({ storage, token, authorities }: House): Promise<string[]> {
  const problems: string[] = [];
  const standing = authorities.all.map((each) => `${authorityId(each)} ${each.state}`).join(', ');
  const expected = 'root serving, people retired, devices former, infrastructure serving, people-2 serving, devices-2 serving';
  if (standing !== expected) problems.push(`authorities: ${standing}`);
  const text = await token.custody();
  const held = new Set(text === null ? [] : parsePackage(text).package.keys.map(({ label }) => label));
  for (const { name, n, state } of authorities.all) {
    const id = authorityId({ name, n });
    if (!(await storage.one('SELECT number FROM crls WHERE authority = ?', [id]))) problems.push(`${id} has no list`);
    const label = n === 1 ? `ekms/sign/${name}` : `ekms/sign/${name}/${n}`;
    if (held.has(label) !== (state !== 'retired')) problems.push(`the custodians’ copy of ${label}: ${held.has(label)}`);
  }
  const said = async (action: string, name: string) =>
    (await storage.all<{ body: string }>('SELECT body FROM audit_entries WHERE action = ?', [action])).filter(
      ({ body }) => JSON.parse(body).facts.name === name,
    ).length;
  const counts = [
    await said('token-key.rotate', 'people'),
    await said('token-key.rotate', 'devices'),
    await said('authority.retire', 'people'),
  ];
  if (counts.some((count) => count !== 1)) problems.push(`the log has rotations and ends ${counts.join(', ')} times`);
  if (await storage.one("SELECT serial FROM certificates WHERE authority = 'people' AND profile = 'person' AND revoked_at IS NULL"))
    problems.push('a certificate of the retired authority is not revoked');
  return problems;
}

/** How many who should have a key have none, or several. */
export async function nobodyWithout(storage: Pick<Storage, 'one'>): Promise<number> {
  const row = await storage.one<{ n: number }>(
    `SELECT COUNT(*) AS "n" FROM employees e WHERE e.state = 'active' AND EXISTS (SELECT 1 FROM bindings b WHERE b.employee = e.id AND b.to_time IS NULL)
     AND (SELECT COUNT(*) FROM keys k WHERE k.employee = e.id AND k.state = 'active') <> 1`,
  );
  return Number(row?.n);
}

async function keks(home: CustodyHome): Promise<string[]> {
  return beside(home, async (storage) => (await storage.all<{ kek: string }>('SELECT DISTINCT kek FROM keys')).map(({ kek }) => kek));
}

async function until(home: CustodyHome, what: string, holds: (storage: Storage) => Promise<boolean>): Promise<void> {
  await beside(home, async (storage) => {
    for (const end = Date.now() + PATIENCE_MS; !(await holds(storage)); await sleep(50))
      if (Date.now() > end || !home.serves) throw new Error(`not so: ${what}`);
  });
}

async function beside<T>(home: CustodyHome, look: (storage: Storage) => Promise<T>): Promise<T> {
  const storage = await openStorage({ url: 'sqlite:ekms.db', home: home.path });
  try {
    return await look(storage);
  } finally {
    await storage.close();
  }
}
