import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkLog, goOnRestored } from '../audit/index.js';
import { pem } from '../certificates/index.js';
import { toBase64 } from '../codec/merkle/index.js';
import { type Configuration, configurationFile, loadConfiguration, parseConfiguration, tokenNamed } from '../configuration/index.js';
import {
  type Content,
  type FromEscrow,
  type FromTail,
  forgetFormer,
  holdAgainst,
  type KnownLog,
  type OpenBackup,
  openChain,
  type Restored,
  rowsOf,
  settleRestored,
  takeFromTail,
} from '../custody/index.js';
import { Fault, fromBase64 } from '../foundation/index.js';
import { type House, type Installation, logName, openHouse, placesOf, tokenSettings } from '../house.js';
import { FILLED, fillDatabase, withFreshSchema } from '../storage/index.js';
import type { AuditHead } from '../tokens/index.js';
import { lockHome } from './lock.js';
import { reconcile } from './reconcile.js';
import { RestoreSecondPlace, type SaidOfLog } from './restore-second-place.js';
import {
  closeAll,
  type JournalTakenBack,
  journalInto,
  journalOf,
  keysOf,
  type MadeToken,
  makeToken,
  newestOf,
  openContents,
} from './restore-token.js';

export interface RestoreOptions extends SaidOfLog {
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
  /** The log is known not to have grown after this backup, so devices may go on. */
  nothingLost?: boolean;
  say: (line: string) => void;
}

export interface RestoreReport extends Restored {
  /** Generations of authorities that only the second place knew. */
  authorities?: string[];
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
      const second = new RestoreSecondPlace(options.escrow, say);
      const known = await second.knownLog(options, backup);
      if (options.nothingLost && known.lost > 0)
        throw new Fault(
          'conflict',
          'entries-lost',
          `--nothing-lost was said, and ${known.lost} entries were signed after this backup: take a newer one, or say --tail with an export`,
        );
      clearHalfMade(home, installation);
      writeFileSync(join(home, MARK), `${backup.head.id}\n`, { mode: 0o600 });
      const { configuration, rows, ...log } = await takeBack(options, chain, second, installation);
      const report = await settle(configuration, installation, chain, { ...options, known, second, ...log });
      rmSync(join(home, MARK));
      return { ...report, rows, seconds: Math.round((Date.now() - began) / 100) / 10 };
    } finally {
      await closeAll(chain);
    }
  } finally {
    unlock();
  }
}

/** Token, configuration, database and journal, in this order. */
async function takeBack(
  { home, shares, nothingLost = false, say, made }: RestoreOptions,
  chain: readonly OpenBackup[],
  second: RestoreSecondPlace,
  installation: Installation,
): Promise<{ configuration: Configuration; rows: number } & JournalTakenBack> {
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
    ? keysOf(made)
    : await makeToken(
        chain,
        shares,
        {
          token: tokenSettings(before, installation),
          ...(before.token.profile === 'softhsm' ? { softhsmTokens: places.softhsm.tokens } : {}),
          ...{ kekHelper: places.kekHelper, entry: places.tokenEntry },
        },
        second,
      );
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
  if (made) return { configuration, rows: count, ...journalOf(made) };
  const name = nothingLost ? undefined : logName(configuration);
  return { configuration, rows: count, ...(await journalInto(places.tokenState, manifest.journal, name, second.package(newestOf(chain)))) };
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
  {
    nothingLost = false,
    say,
    known,
    second,
    former,
    origin,
    authorities = [],
  }: RestoreOptions & { known: KnownLog; second: RestoreSecondPlace } & JournalTakenBack,
): Promise<Omit<RestoreReport, 'rows' | 'seconds'>> {
  say('applying the rules after a restore, and checking the log');
  const backup = newestOf(chain);
  const house = await openHouse(configuration, installation);
  const { logStanding } = house;
  const isForWitnesses = logStanding.isWaiting;
  // A restore that ends here is said again into an empty database, to a token that may be the same: it signs no head of a log that nobody keeps.
  logStanding.wait('the restore is not over');
  try {
    await second.requireKnownTo(house.token);
    if (former && origin !== undefined) await requireUnsigned(house, { ...former, origin });
    await forgetFormer(house.storage);
    const { entries } = backup.statement;
    await holdAgainst(house.storage, [...known.heads, ...headsOf(chain)]);
    const newest = known.heads.at(-1);
    const last = former && newest && newest.size > former.size ? { ...former, size: newest.size, root: toBase64(newest.root) } : former;
    if (last && origin !== undefined) await goOnRestored(house, { backup: backup.head.id, known: last, kept: entries, origin });
    await house.tokenKeys.noteTaken(authorities);
    const fromEscrow = await second.keysInto(house);
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
    if (!isForWitnesses) {
      logStanding.go();
      await house.checkpoints.publish();
      if (logStanding.breach) throw tokenSigned(logStanding.breach.words);
    }
    const root = join(configuration.home, 'ca.pem');
    writeFileSync(`${root}.new`, pem(house.authorities.root), { mode: 0o644 });
    chmodSync(`${root}.new`, 0o644);
    renameSync(`${root}.new`, root);
    await house.storage.write((unit) => unit.run('DELETE FROM settings WHERE name = ?', [FILLED]));
    return {
      ...{ backup: backup.head.id, created: backup.head.created, entries, lost: known.lost, ...restored },
      ...(authorities.length > 0 ? { authorities } : {}),
      ...(fromEscrow ? { fromEscrow } : {}),
      ...(fromTail ? { fromTail } : {}),
    };
  } finally {
    await house.close();
  }
}

/** A token that signed since it was made did so for another try, whose log is gone. */
async function requireUnsigned({ token }: House, made: AuditHead): Promise<void> {
  const head = await token.auditHead();
  if (head?.origin !== made.origin || head.size !== made.size || head.root !== made.root)
    throw tokenSigned('it signed for an earlier try, whose database is gone');
}

const tokenSigned = (why: string): Fault =>
  new Fault(
    'conflict',
    'token-signed',
    `the token does not sign this log (${why}): make it again from the shares, as the token’s user with ekms token restore where it has one, then say this again`,
  );

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
