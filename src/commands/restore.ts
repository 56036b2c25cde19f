import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { checkLog, copyOfLog, exportFolder, goOnRestored, laterOrigin } from '../audit/index.js';
import { pem } from '../certificates/index.js';
import type { ExportSource } from '../codec/audit-log/index.js';
import { toBase64 } from '../codec/merkle/index.js';
import { type Configuration, configurationFile, loadConfiguration, parseConfiguration, tokenNamed } from '../configuration/index.js';
import {
  type Content,
  decodeContent,
  type FromEscrow,
  type FromTail,
  forgetFormer,
  holdAgainst,
  type KnownLog,
  laterPackage,
  type OpenBackup,
  openChain,
  type Restored,
  readKnownLog,
  rowsOf,
  settleRestored,
  takeFromEscrow,
  takeFromTail,
} from '../custody/index.js';
import { base64url, Fault, fromBase64, isFault, parsed, SystemClock } from '../foundation/index.js';
import { type House, type Installation, logName, openHouse, placesOf, tokenSettings } from '../house.js';
import { FILLED, fillDatabase, withFreshSchema } from '../storage/index.js';
import { type AuditHead, encodePackage, Journal, parsePackage, readTokenFile } from '../tokens/index.js';
import { lockHome } from './lock.js';
import { reconcile } from './reconcile.js';
import { askTokenProgram } from './token-program.js';

export interface RestoreOptions {
  home: string;
  backup: string;
  /** Files of what an incremental backup builds on, where they do not lie beside it. */
  bases?: readonly string[];
  /** Shares as their custodians hand them over: the line, or a text with the line in it. */
  shares: string[];
  /** Where the token process is a user of its own: what its own part of the restore left for ours. */
  made?: MadeToken;
  /** Root certificate that the backup must have been signed under; without it, the one that the backup names. */
  root?: Buffer;
  /** The escrow journal's folder, where there was one: nothing that was born is lost then. */
  escrow?: string;
  /** Checkpoints that somebody remembers from outside the appliance: a witness, an auditor, a former export. */
  heads?: string[];
  /** Folder of an export of the log that is newer than the backup: what was taken away since is taken away again. Absent: the copy at the second place; false: none. */
  tail?: string | false;
  /** The log is known not to have grown after this backup, so devices may go on. */
  nothingLost?: boolean;
  say: (line: string) => void;
}

export interface RestoreReport extends Restored {
  fromEscrow?: FromEscrow;
  fromTail?: FromTail;
  /** Entries that were signed after the backup, as far as heads or tail say. */
  lost: number;
  backup: string;
  created: string;
  entries: number;
  rows: number;
  seconds: number;
}

const opened = z.strictObject({ fileKeys: z.array(z.string()) });
/** Stands in a home while a restore works on it: what is half made is nobody's, and the next try begins by removing it. */
const MARK = 'restoring';

/** Makes an appliance again from a backup and M shares, in a blank home. Throws what is wrong with backup or shares before anything is made. */
export async function restore(options: RestoreOptions, installation: Installation): Promise<RestoreReport> {
  const { home, say } = options;
  const began = Date.now();
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const unlock = lockHome(home);
  try {
    if (existsSync(join(home, 'ca.pem')))
      throw new Fault(
        'conflict',
        'already-initialised',
        `${home} holds an appliance: a restore goes into a blank home. Nothing was changed`,
      );
    say('reading the backup from end to end');
    const chain = await openChain(options.backup, options);
    try {
      const backup = newestOf(chain);
      const known = await knownBy(options, backup);
      if (options.nothingLost && known.lost > 0)
        throw new Fault(
          'conflict',
          'entries-lost',
          `--nothing-lost was said, and ${known.lost} entries were signed after this backup: take a newer one, or say --tail with an export`,
        );
      clearHalfMade(home, installation);
      writeFileSync(join(home, MARK), `${backup.head.id}\n`, { mode: 0o600 });
      const { configuration, rows, ...log } = await takeBack(options, chain, installation);
      const report = await settle(configuration, installation, chain, { ...options, known, ...log });
      rmSync(join(home, MARK));
      return { ...report, rows, seconds: Math.round((Date.now() - began) / 100) / 10 };
    } finally {
      await closeAll(chain);
    }
  } finally {
    unlock();
  }
}

/** What is known of the log from outside of the backup. Beside keys the second place has a copy of the log, which goes before no export that was named. */
async function knownBy(
  { heads = [], tail, escrow, nothingLost, say }: RestoreOptions,
  { custody, statement }: OpenBackup,
): Promise<KnownLog> {
  const read = (of: ExportSource | undefined, isCopy = false) =>
    readKnownLog({ heads, tail: of, isCopy }, custody.package, statement.entries);
  if (typeof tail === 'string') return read(exportFolder(tail));
  // With --nothing-lost, that nothing happened since is what was said.
  if (tail === false || nothingLost || escrow === undefined) return read(undefined);
  try {
    const copy = copyOfLog(escrow, statement.head?.origin);
    if (!copy)
      say('the second place has no copy of the log: what was taken away since the backup counts again, unless --tail names an export');
    return await read(copy, true);
  } catch (error) {
    if (!isFault(error, 'tail-damaged') && !isFault(error, 'head-foreign')) throw error;
    throw new Fault(
      'conflict',
      'tail-damaged',
      `of the log at the second place: ${error.message}. --tail names another export; --no-tail goes on without, and what was revoked since the backup counts again`,
    );
  }
}

const newestOf = (chain: readonly OpenBackup[]): OpenBackup => chain.at(-1) as OpenBackup; // `openChain` gives the backup itself last

async function closeAll(chain: readonly OpenBackup[]): Promise<void> {
  for (const each of chain) await each.close();
}

/** Token, configuration, database and journal, in this order. */
async function takeBack(
  { home, shares, nothingLost = false, say, made, escrow }: RestoreOptions,
  chain: readonly OpenBackup[],
  installation: Installation,
): Promise<{ configuration: Configuration; rows: number } & LogTakenBack> {
  const { head } = newestOf(chain);
  // Until the backup is open, its head says as much of the configuration as making the token needs.
  const before = existsSync(configurationFile(home))
    ? loadConfiguration(home)
    : parseConfiguration(JSON.stringify({ token: head.token }), home);
  const places = placesOf(before, installation);
  const elsewhere = before.token.socket !== undefined;
  if (elsewhere && !made)
    throw new Fault(
      'conflict',
      'token-elsewhere',
      'the token is to be in another user’s hands: as that user, ekms token restore BACKUP --share FILE… --file-key FILE; start it, then say this again with --file-key FILE',
    );
  if (!elsewhere) say('making the token from the shares');
  if (made && (made.origin === undefined) !== nothingLost)
    throw new Fault('conflict', 'entries-lost', '--nothing-lost is said to both: to ekms token restore and to ekms restore, or to neither');
  const fileKeys = made
    ? made.fileKeys.map(keyBytes)
    : await makeToken(chain, shares, {
        token: tokenSettings(before, installation),
        ...(before.token.profile === 'softhsm' ? { softhsmTokens: places.softhsm.tokens } : {}),
        ...{ kekHelper: places.kekHelper, entry: places.tokenEntry, escrow },
      });
  const contents = await openContents(chain, fileKeys);
  const { manifest } = contents.at(-1) as Content; // as `chain`
  if (!existsSync(configurationFile(home))) writeFileSync(configurationFile(home), manifest.configuration, { mode: 0o600 });
  atStandardPlace(home);
  const configuration = loadConfiguration(home);
  say('filling the database');
  const { url, passwordFile } = configuration.database;
  const count = await withFreshSchema({ url, home, ...(passwordFile ? { passwordFile } : {}) }, manifest.migrations, (runner) =>
    fillDatabase(runner, rowsOf(contents), head.id),
  );
  for (const key of fileKeys) key.fill(0);
  if (made) return { configuration, rows: count, ...logOf(made) };
  const name = nothingLost ? undefined : logName(configuration);
  return { configuration, rows: count, ...(await journalInto(places.tokenState, manifest.journal, name)) };
}

/** What each holds, once the keys are at hand. Each says inside what it builds on, too: nobody but those who wrote it could have put it there. */
async function openContents(chain: readonly OpenBackup[], fileKeys: readonly Buffer[]): Promise<Content[]> {
  if (fileKeys.length !== chain.length)
    throw new Fault('conflict', 'file-key', 'these are keys of another backup, or of one that builds on others than these');
  const contents: Content[] = [];
  for (const [n, { file, content }] of chain.entries()) {
    const opened = await decodeContent(content(fileKeys[n] as Buffer)); // as many as there are backups
    const { base } = opened.manifest;
    const before = chain[n - 1];
    if (base?.id !== before?.head.id || base?.digest !== before?.statement.digest)
      throw new Fault('malformed', 'backup-chain-broken', `${file} was written to build on another backup than its statement says`);
    contents.push(opened);
  }
  return contents;
}

const keyBytes = (text: string): Buffer => fromBase64(text, 'base64url') ?? Buffer.alloc(0);

/** Where the log goes on under another name: that name, and the last head under the former one that the backup knows. */
interface LogTakenBack {
  former?: AuditHead;
  origin?: string;
}

/** The journal that goes with the token. @param name of the log, where it goes on under another one */
async function journalInto(state: string, copy: string | Uint8Array, name: string | undefined): Promise<LogTakenBack> {
  const clock = new SystemClock();
  const origin = name === undefined ? undefined : laterOrigin(name, clock.now());
  const former = await Journal.restore(join(state, 'journal'), Buffer.from(copy), clock, { origin });
  return former && origin !== undefined ? { former, origin } : {};
}

const madeShape = z.strictObject({
  /** Base64url, in the order of the backups: oldest first. */
  fileKeys: z.array(z.string()),
  origin: z.string().exactOptional(),
  former: z.strictObject({ origin: z.string(), size: z.int(), root: z.string() }).exactOptional(),
});
type MadeToken = z.output<typeof madeShape>;

/** What `ekms token restore` wrote. */
export const readMadeToken = (path: string): MadeToken => parsed(madeShape, JSON.parse(readFileSync(path, 'utf8')), path);

const logOf = ({ origin, former }: MadeToken): LogTakenBack => (origin !== undefined && former ? { origin, former } : {});

/** The backup's, which its signature vouches for, or the second place's where that knows a KEK more: keys are under it that only it can open. */
const packageFor = ({ custody }: OpenBackup, escrow: string | undefined) =>
  (escrow === undefined ? undefined : laterPackage(escrow, custody.package)) ?? custody;

/** The token from M shares. Resolves with the keys of these backups and no others. */
async function makeToken(
  chain: readonly OpenBackup[],
  shares: string[],
  {
    entry,
    escrow,
    ...where
  }: { token: object; softhsmTokens?: string; kekHelper: string | undefined; entry: string; escrow: string | undefined },
): Promise<Buffer[]> {
  const stanzas = chain.map(({ header: { stanza } }) => ({ share: base64url(stanza.share), body: base64url(stanza.body) }));
  const ask = { ...where, package: encodePackage(packageFor(newestOf(chain), escrow)), shares: shares.map(shareLine), stanzas };
  const answer = await askTokenProgram('restore', ask, entry);
  return parsed(opened, answer, 'what the token process answered').fileKeys.map(keyBytes);
}

/**
 * The token process's own part of a restore, where it is a user of its own: token and journal at its places, and the keys of this backup and of what it builds on in a file, for whoever
 * fills the database. Shares and PIN are seen by this user alone.
 */
export async function restoreToken(
  of: Pick<RestoreOptions, 'backup' | 'bases' | 'shares' | 'root' | 'escrow'> & {
    settings: string;
    pinFile?: string;
    fileKey: string;
    nothingLost: boolean;
  },
  { root: installed }: Installation,
): Promise<void> {
  if (existsSync(of.fileKey)) throw new Fault('conflict', 'file-key', `${of.fileKey} exists: the key goes into a file of its own`);
  const { settings, softhsmTokens } = readTokenFile(of.settings, installed);
  const chain = await openChain(of.backup, of);
  try {
    const token = { ...settings, ...(of.pinFile ? { pinFile: of.pinFile } : {}) };
    const fileKeys = await makeToken(chain, of.shares, {
      ...{ token, kekHelper: settings.kekHelper, entry: join(installed, 'dist/programs/tokens/process/main.js'), escrow: of.escrow },
      ...(softhsmTokens ? { softhsmTokens } : {}),
    });
    const { manifest } = (await openContents(chain, fileKeys)).at(-1) as Content; // as `chain`
    const name = of.nothingLost ? undefined : logName(parseConfiguration(manifest.configuration, '/'));
    const log = await journalInto(settings.state, manifest.journal, name);
    const made: MadeToken = { fileKeys: fileKeys.map(base64url), ...log };
    writeFileSync(of.fileKey, `${JSON.stringify(made)}\n`, { mode: 0o600, flag: 'wx' });
    for (const key of fileKeys) key.fill(0);
  } finally {
    await closeAll(chain);
  }
}

/** The token was made at its standard place, wherever a migration had put the one that was lost. */
function atStandardPlace(home: string): void {
  if (loadConfiguration(home).token.folder === undefined) return;
  const text = readFileSync(configurationFile(home), 'utf8');
  writeFileSync(`${configurationFile(home)}.new`, tokenNamed(text, { folder: undefined, pinFile: undefined }), { mode: 0o600 });
  renameSync(`${configurationFile(home)}.new`, configurationFile(home));
}

/** The rules of design §10, and a look at everything, before the root certificate says that here is an appliance. */
async function settle(
  configuration: Configuration,
  installation: Installation,
  chain: readonly OpenBackup[],
  { nothingLost = false, escrow, say, known, former, origin }: RestoreOptions & { known: KnownLog } & LogTakenBack,
): Promise<Omit<RestoreReport, 'rows' | 'seconds'>> {
  say('applying the rules after a restore, and checking the log');
  const backup = newestOf(chain);
  const house = await openHouse(configuration, installation);
  try {
    await forgetFormer(house.storage);
    const { entries } = backup.statement;
    await holdAgainst(house.storage, [...known.heads, ...headsOf(chain)]);
    const newest = known.heads.at(-1);
    const last = former && newest && newest.size > former.size ? { ...former, size: newest.size, root: toBase64(newest.root) } : former;
    if (last && origin !== undefined) await goOnRestored(house, { backup: backup.head.id, known: last, kept: entries, origin });
    await requireLatestToken(house, escrow);
    const fromEscrow = escrow === undefined ? undefined : await takeFromEscrow(house, escrow);
    const fromTail = known.tail.length === 0 ? undefined : await takeFromTail(house, known.tail);
    const restored = await settleRestored(house, {
      ...{ backup: backup.head.id, entries, lost: known.lost, known: known.heads.at(-1) },
      // With a tail up to a head that somebody else remembers, all that was taken away is known.
      nothingLost: nothingLost || known.isComplete,
    });
    // Only now: an intent that waits for a key must find no pair of the old pool.
    await reconcile(house);
    await house.replacement.followModes({ kind: 'system' });
    const { problems } = await checkLog(house.storage);
    if (problems.length > 0) throw new Fault('conflict', 'log-broken', `the restored log is not whole: ${problems[0]}`);
    await house.revocations.publishDue();
    const root = join(configuration.home, 'ca.pem');
    writeFileSync(`${root}.new`, pem(house.authorities.root), { mode: 0o644 });
    chmodSync(`${root}.new`, 0o644);
    renameSync(`${root}.new`, root);
    await house.storage.write((unit) => unit.run('DELETE FROM settings WHERE name = ?', [FILLED]));
    return {
      ...{ backup: backup.head.id, created: backup.head.created, entries, lost: known.lost, ...restored },
      ...(fromEscrow ? { fromEscrow } : {}),
      ...(fromTail ? { fromTail } : {}),
    };
  } finally {
    await house.close();
  }
}

/** Where the token was made by another user, who may not have been told of the second place. */
async function requireLatestToken({ token }: House, escrow: string | undefined): Promise<void> {
  const custody = await token.custody();
  if (escrow !== undefined && custody !== null && laterPackage(escrow, parsePackage(custody).package))
    throw new Fault(
      'conflict',
      'token-older',
      'the second place knows a key-encryption key that this token does not: as the token’s user make it again with ekms token restore --escrow, then say this again',
    );
}

/** Heads of the log that were signed before each: what was put together must be the log that went on from one to the next. */
const headsOf = (chain: readonly OpenBackup[]) =>
  chain.flatMap(({ statement: { head } }) => (head ? [{ ...head, root: fromBase64(head.root, 'base64') ?? Buffer.alloc(0) }] : []));

/** Only what an earlier try made, which its mark tells of. */
function clearHalfMade(home: string, installation: Installation): void {
  if (!existsSync(join(home, MARK))) return;
  const configuration = loadConfiguration(home);
  const { tokenState, softhsm } = placesOf(configuration, installation);
  for (const path of [tokenState, configuration.token.pinFile, softhsm.tokens, softhsm.configuration])
    rmSync(path, { recursive: true, force: true });
  if (configuration.database.url.startsWith('sqlite:'))
    for (const end of ['', '-wal', '-shm'])
      rmSync(join(home, `${configuration.database.url.slice('sqlite:'.length)}${end}`), { force: true });
}

/** The line of a share in whatever it came in. */
export function shareLine(text: string): string {
  return text.split(/\r?\n/).find((line) => /^\s*EKMS-SHARE-/i.test(line)) ?? text;
}

export const readShare = (path: string): string => shareLine(readFileSync(path, 'utf8'));
