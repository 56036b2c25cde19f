import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { laterOrigin } from '../audit/index.js';
import { parseConfiguration } from '../configuration/index.js';
import { type Content, decodeContent, type OpenBackup, openChain } from '../custody/index.js';
import { base64url, Fault, fromBase64, isFault, parsed, SystemClock } from '../foundation/index.js';
import { type Installation, logName } from '../house.js';
import { syncFolder } from '../storage/index.js';
import {
  type AuditHead,
  authorityId,
  encodePackage,
  endRestore,
  heldGenerations,
  Journal,
  parseShare,
  readTokenFile,
  type SealedPackage,
  unfinishedRestore,
} from '../tokens/index.js';
import { RestoreSecondPlace } from './restore-second-place.js';
import { askTokenProgram } from './token-program.js';

const opened = z.strictObject({ fileKeys: z.array(z.string()) });
const madeShape = z.strictObject({
  /** Base64url, in the order of the backups: oldest first. */
  fileKeys: z.array(z.string()),
  origin: z.string().exactOptional(),
  former: z.strictObject({ origin: z.string(), size: z.int(), root: z.string() }).exactOptional(),
  authorities: z.array(z.string()).exactOptional(),
});
/** What `ekms token restore` leaves for `ekms restore`. */
export type MadeToken = z.output<typeof madeShape>;

export interface JournalTakenBack {
  /** Where the log goes on under another name: that name, and the last head under the former one that the backup knows. */
  former?: AuditHead;
  origin?: string;
  /** Generations that the backup does not know and the second place does, as `authorityId` calls them. */
  authorities?: string[];
}

/** What `ekms token restore` wrote. */
export const readMadeToken = (path: string): MadeToken => parsed(madeShape, JSON.parse(readFileSync(path, 'utf8')), path);

export const keysOf = ({ fileKeys }: MadeToken): Buffer[] => fileKeys.map(keyBytes);

export const journalOf = ({ fileKeys: _, ...journal }: MadeToken): JournalTakenBack => journal;

const keyBytes = (text: string): Buffer => fromBase64(text, 'base64url') ?? Buffer.alloc(0);

/** What each backup holds, once the keys are at hand. Each says inside what it builds on, too: nobody but those who wrote it could have put it there. */
export async function openContents(chain: readonly OpenBackup[], fileKeys: readonly Buffer[]): Promise<Content[]> {
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

/** The line of a share in whatever it came in. */
export function shareLine(text: string): string {
  return text.split(/\r?\n/).find((line) => /^\s*EKMS-SHARE-/i.test(line)) ?? text;
}

/** The line in a file, looked at before anything is begun with it. Throws `share-damaged`, naming the file. */
export function readShare(path: string): string {
  const line = shareLine(readFileSync(path, 'utf8'));
  try {
    parseShare(line);
    return line;
  } catch (error) {
    throw isFault(error) ? new Fault(error.kind, error.code, `${path}: ${error.message}`) : error;
  }
}

/** Where a token is to be made, and what its program needs for that. */
export interface TokenSite {
  /** As `settingsShape` has them, with the PIN's file. */
  token: object;
  softhsmTokens?: string | undefined;
  kekHelper: string | undefined;
  entry: string;
  /** What a mark beside the token says until all is done; where the caller has none of its own. */
  unfinished?: string;
}

/** The token from M shares: with what the second place knows more than the backup. Resolves with the keys of these backups and no others. */
export async function makeToken(
  chain: readonly OpenBackup[],
  shares: readonly string[],
  { entry, ...site }: TokenSite,
  second: RestoreSecondPlace,
): Promise<Buffer[]> {
  const stanzas = chain.map(({ header: { stanza } }) => ({ share: base64url(stanza.share), body: base64url(stanza.body) }));
  const backup = newestOf(chain);
  const later = second.package(backup);
  const ask = {
    ...{ ...site, package: encodePackage(backup.custody), shares: shares.map(shareLine), stanzas },
    ...(later ? { later: encodePackage(later) } : {}),
  };
  return parsed(opened, await askTokenProgram('restore', ask, entry), 'what the token process answered').fileKeys.map(keyBytes);
}

/**
 * The journal that goes with the token.
 * @param copy as the backup has it
 * @param name of the log, where it goes on under another one
 */
export async function journalInto(
  state: string,
  copy: string,
  name: string | undefined,
  later: SealedPackage | undefined,
): Promise<JournalTakenBack> {
  const clock = new SystemClock();
  const origin = name === undefined ? undefined : laterOrigin(name, clock.now());
  const generations = later ? heldGenerations(later.package) : [];
  const { former, taken } = await Journal.restore(join(state, 'journal'), Buffer.from(copy), clock, { origin, generations });
  return {
    ...(former && origin !== undefined ? { former, origin } : {}),
    ...(taken.length > 0 ? { authorities: taken.map(authorityId) } : {}),
  };
}

export const newestOf = (chain: readonly OpenBackup[]): OpenBackup => chain.at(-1) as OpenBackup; // `openChain` gives the backup itself last

export async function closeAll(chain: readonly OpenBackup[]): Promise<void> {
  for (const each of chain) await each.close();
}

/**
 * The token process's own part of a restore, where it is a user of its own: token and journal at its places, and the keys of this backup and of what it builds on in a file, for whoever
 * fills the database. Shares and PIN are seen by this user alone. Cut off at any point it is told again: the token is of no use until all is done, and goes if it was not.
 */
export async function restoreToken(
  of: {
    backup: string;
    bases?: readonly string[];
    shares: string[];
    root?: Buffer;
    escrow?: string;
    settings: string;
    pinFile?: string;
    fileKey: string;
    nothingLost: boolean;
  },
  { root: installed }: Installation,
): Promise<void> {
  const { settings, softhsmTokens } = readTokenFile(of.settings, installed);
  const chain = await openChain(of.backup, of);
  try {
    const token = { ...settings, ...(of.pinFile ? { pinFile: of.pinFile } : {}) };
    // With all its places: nothing is taken away at any other.
    const mark = JSON.stringify({ backup: newestOf(chain).head.id, fileKey: of.fileKey, pinFile: token.pinFile, softhsmTokens });
    if (existsSync(of.fileKey)) {
      // It is written last. Whoever was cut off after that has nothing left to do but to say so.
      if (unfinishedRestore(settings.state) !== mark)
        throw new Fault(
          'conflict',
          'file-key',
          `${of.fileKey} exists: the key goes into a file of its own, and a restore that was cut off is said again as it was`,
        );
      await openContents(chain, keysOf(readMadeToken(of.fileKey)));
      return endRestore(settings.state);
    }
    const second = new RestoreSecondPlace(of.escrow);
    const site = {
      token,
      ...{ softhsmTokens, kekHelper: settings.kekHelper, entry: join(installed, 'dist/programs/tokens/process/main.js') },
      unfinished: mark,
    };
    const fileKeys = await makeToken(chain, of.shares, site, second);
    const { manifest } = (await openContents(chain, fileKeys)).at(-1) as Content; // as `chain`
    const name = of.nothingLost ? undefined : logName(parseConfiguration(manifest.configuration, '/'));
    const journal = await journalInto(settings.state, manifest.journal, name, second.package(newestOf(chain)));
    const made: MadeToken = { fileKeys: fileKeys.map(base64url), ...journal };
    for (const key of fileKeys) key.fill(0);
    const staged = `${of.fileKey}.new`;
    rmSync(staged, { force: true });
    writeFileSync(staged, `${JSON.stringify(made)}\n`, { mode: 0o600, flag: 'wx', flush: true });
    renameSync(staged, of.fileKey);
    await syncFolder(dirname(of.fileKey));
    endRestore(settings.state);
  } finally {
    await closeAll(chain);
  }
}
