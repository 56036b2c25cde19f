import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RowSeal } from '../access/index.js';
import { type Configuration, configurationFile, loadConfiguration, parseConfiguration, tokenNamed } from '../configuration/index.js';
import { formerToken, isInService, rememberSwitch, type Switch, settleMigration } from '../custody/index.js';
import { base64url, Fault, type Storage, sha256 } from '../foundation/index.js';
import { type Installation, openHouse, placesOf, tokenSettings } from '../house.js';
import { KeyStore, type PoolRow, pairOf } from '../keys/index.js';
import { openStorage } from '../storage/index.js';
import { Journal, parsePackage, SIGNING_KEYS, type Token, TokenProcess } from '../tokens/index.js';
import { placeInService, tokenPlace } from '../wiring/token-place.js';
import { operator } from './act-desk.js';
import { lockHome } from './lock.js';
import { shareLine } from './restore-token.js';
import { askTokenProgram } from './token-program.js';

const PAGE = 200;
/** Keys that are opened at a time. */
const AT_ONCE = 16;
/** Keys that the plan measures. */
const SAMPLE = 20;

export interface Migration {
  home: string;
  to: { label: string; module?: string; profile?: string };
  shares: string[];
  /** Hears the plan, and says whether to go on. */
  agree: (plan: string[]) => Promise<boolean>;
  say: (line: string) => void;
}

/**
 * Moves everything to another token, of another vendor if need be (docs/adr/0072). Nothing of the present one is touched: its keys do not leave it, the new one gets them from the
 * custodians' copies by M shares. Every key of the database is opened under the new one before one renaming of ekms.yaml switches. Told again after a crash it
 * goes on. Wants the appliance stopped.
 */
export async function migrate({ home, to, shares, agree, say }: Migration, installation: Installation): Promise<Switch> {
  const unlock = lockHome(home);
  try {
    const now = loadConfiguration(home);
    if (now.token.label === to.label) return await settled(now, installation);
    if (now.token.socket !== undefined)
      throw new Fault(
        'conflict',
        'token-elsewhere',
        'the token is in another user’s hands: restore a backup into a home with the other token instead',
      );
    const text = readFileSync(configurationFile(home), 'utf8');
    const folder = `token-${to.label}`;
    const next = tokenNamed(text, { module: now.token.module, profile: now.token.profile, ...to, folder, pinFile: join(folder, 'pin') });
    const then = parseConfiguration(next, home);
    const said = await present(now, installation);
    if (!(await agree(plan(now, then, said))))
      throw new Fault('conflict', 'migration-unconfirmed', 'nothing was changed: say --yes to go on');
    await make(then, said.custody, shares, installation, say);
    // In whatever way it was made ready before: what the present token remembers now is what counts.
    Journal.carry(join(placesOf(now, installation).tokenState, 'journal'), join(placesOf(then, installation).tokenState, 'journal'));
    say('opening every key under the new token');
    const { seal, ...counted } = await proved(then, said, installation);
    const done: Switch = { from: tokenPlace(now), to: to.label, ...counted, time: Date.now() };
    await withStorage(now, (storage) => storage.write((unit) => rememberSwitch(unit, seal, done)));
    writeFileSync(`${configurationFile(home)}.new`, next, { mode: 0o600 });
    renameSync(`${configurationFile(home)}.new`, configurationFile(home));
    return await settled(loadConfiguration(home), installation);
  } finally {
    unlock();
  }
}

interface Present {
  custody: string;
  /** Digests of public keys by name. */
  signing: Record<string, string>;
  head: string;
  keys: number;
  pairs: number;
  /** Milliseconds a key. */
  pace: number;
}

/** What the present token says of itself. Throws `no-custodians`, `former-token-stands`, `former-token-forged`. */
async function present(now: Configuration, installation: Installation): Promise<Present> {
  return withToken(now, installation, async (token) => {
    const custody = await token.custody();
    if (custody === null)
      throw new Fault(
        'conflict',
        'no-custodians',
        'this appliance was made without custodians: the keys of its authorities cannot leave its token. Hold a ceremony in another home and let people enrol there',
      );
    return withStorage(now, async (storage) => {
      const seal = await RowSeal.open(storage, token);
      requireNoFormer(await formerToken({ storage, seal }, now.token.label), now);
      const count = async (table: 'keys' | 'pool') =>
        Number((await storage.one<{ n: number }>(`SELECT COUNT(*) AS "n" FROM ${table}`))?.n ?? 0);
      const began = performance.now();
      const tried = await openKeys(storage, token, SAMPLE);
      const pace = tried === 0 ? 0 : (performance.now() - began) / tried;
      return { custody, ...(await identity(token)), keys: await count('keys'), pairs: await count('pool'), pace };
    });
  });
}

/** Only one is remembered: a second migration would leave the first one's keys where nobody asks for them any more. */
function requireNoFormer(former: Switch | undefined, now: Configuration): void {
  if (!former || isInService(former.from, placeInService(now))) return;
  throw new Fault(
    'conflict',
    'former-token-stands',
    `the token ${former.from.label} was left by the migration before and is not destroyed yet: start, then ekms backup create and ekms token destroy-former`,
  );
}

/** By what two tokens are known to be one appliance's. */
async function identity(token: Token): Promise<Pick<Present, 'signing' | 'head'>> {
  const signing: Record<string, string> = {};
  for (const name of SIGNING_KEYS) signing[name] = base64url(sha256((await token.signingKey(name)).publicKey));
  return { signing, head: JSON.stringify(await token.auditHead()) };
}

function plan(now: Configuration, then: Configuration, { custody, keys, pairs, pace }: Present): string[] {
  const held = parsePackage(custody).package;
  const keks = held.keys.filter(({ kind }) => kind === 'kek').length;
  const seconds = Math.ceil(((keys + pairs) * pace) / 1000);
  return [
    `from the token ${now.token.label} (${now.token.profile}, ${now.token.module})`,
    `to the token   ${then.token.label} (${then.token.profile}, ${then.token.module}), in ${then.token.folder}`,
    'by wrapping from token to token: nothing; no key of EKMS may leave its token (CKA_EXTRACTABLE is false)',
    `by the custodians’ copies and ${held.threshold} shares: ${keks} key-encryption keys and ${held.keys.length - keks} others, each as it is: ${held.keys.map(({ label }) => label).join(', ')}`,
    'issued or made anew: nothing; the PIN is a new one',
    `every key is opened under the new token before anything is switched: ${keys} keys and ${pairs} pairs, about ${seconds} s`,
    'nothing is served meanwhile; the present token stays as it is until two persons destroy it (ekms token destroy-former)',
    'afterwards: ekms backup create; ekms kek rotate wraps every key under a key-encryption key that was born in the new token',
  ];
}

/** The new token with its state, unless it is there from a try before and the same. What is there and another is set aside, never deleted. */
async function make(
  then: Configuration,
  custody: string,
  shares: string[],
  installation: Installation,
  say: (line: string) => void,
): Promise<void> {
  const { tokenState, kekHelper, tokenEntry } = placesOf(then, installation);
  const folder = then.token.folder ?? '';
  if (existsSync(tokenState)) {
    if (readFileSync(join(tokenState, 'custody.json'), 'utf8') === custody) return;
    renameSync(folder, `${folder}.cut-${Date.now()}`);
  }
  say('making the new token from the shares');
  await askTokenProgram(
    'restore',
    {
      token: tokenSettings(then, installation),
      ...(then.token.profile === 'softhsm' ? { softhsmTokens: join(folder, 'token') } : {}),
      kekHelper,
      package: custody,
      shares: shares.map(shareLine),
    },
    tokenEntry,
  );
}

/** The new token has the same keys and memory, and opens every key. Throws `token-differs`, and what the token says of a key. */
async function proved(
  then: Configuration,
  before: Present,
  installation: Installation,
): Promise<{ keys: number; pairs: number; seal: RowSeal }> {
  return withToken(then, installation, async (token) => {
    const { signing, head } = await identity(token);
    const other = Object.keys(signing).find((name) => signing[name] !== before.signing[name]);
    if (other !== undefined || head !== before.head)
      throw new Fault(
        'conflict',
        'token-differs',
        `the new token is not as the present one: ${other ?? 'its last head'} is another. Nothing was switched`,
      );
    return withStorage(then, async (storage) => ({
      ...{ keys: await openKeys(storage, token), pairs: await openPairs(storage, token) },
      seal: await RowSeal.open(storage, token),
    }));
  });
}

/** Resolves with how many there were. Rejects with the Fault of the first that does not open. */
async function openKeys(storage: Storage, token: Token, most = Number.POSITIVE_INFINITY): Promise<number> {
  const store = new KeyStore();
  let count = 0;
  for (let after = ''; count < most; ) {
    const page = await store.page(storage, after, Math.min(PAGE, most - count));
    await eachOf(page, ({ sealed, wrapped, publicKey }) => token.renew(sealed, { wrapped, publicKey }));
    count += page.length;
    const last = page.at(-1);
    if (!last) break;
    after = last.sealed.record.id;
  }
  return count;
}

async function openPairs(storage: Storage, token: Token): Promise<number> {
  let count = 0;
  for (let after = 0; ; ) {
    const rows = await storage.all<PoolRow>('SELECT * FROM pool WHERE n > ? ORDER BY n LIMIT ?', [after, PAGE]);
    await eachOf(rows, (row) => {
      const { sealed, blob } = pairOf(row);
      return token.renew(sealed, blob);
    });
    count += rows.length;
    const last = rows.at(-1);
    if (!last) return count;
    after = last.n;
  }
}

async function eachOf<T>(items: readonly T[], act: (item: T) => Promise<unknown>): Promise<void> {
  const waiting = items.values();
  const work = async () => {
    for (const item of waiting) await act(item);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

async function settled(now: Configuration, installation: Installation): Promise<Switch> {
  const house = await openHouse(now, installation);
  try {
    const done = (await settleMigration(house, now.token.label, operator())) ?? (await formerToken(house, now.token.label));
    if (!done) throw new Fault('conflict', 'already-there', `the appliance works with the token ${now.token.label} already`);
    return done;
  } finally {
    await house.close();
  }
}

async function withToken<T>(of: Configuration, installation: Installation, work: (token: Token) => Promise<T>): Promise<T> {
  const token = new TokenProcess({ entry: placesOf(of, installation).tokenEntry, settings: tokenSettings(of, installation) });
  await token.start();
  try {
    return await work(token);
  } finally {
    await token.stop();
  }
}

async function withStorage<T>(
  { home, database: { url, passwordFile } }: Configuration,
  work: (storage: Storage) => Promise<T>,
): Promise<T> {
  const storage = await openStorage({ url, home, ...(passwordFile ? { passwordFile } : {}) });
  try {
    return await work(storage);
  } finally {
    await storage.close();
  }
}
