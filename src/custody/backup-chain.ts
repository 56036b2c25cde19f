import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Fault } from '../foundation/index.js';
import type { BackupBase } from './backup-content.js';
import { type BackupEnds, baseOf, type OpenBackup, openBackupFile, readBackupEnds, readBackupHead } from './backup-file.js';

export const BACKUP_SUFFIX = '.ekms-backup';

/** Of a file of this backup: so it is found again, also where its first line is damaged. */
export const backupName = (created: string, id: string): string => `${created.replace(/[-:.]/g, '')}-${id.slice(0, 8)}${BACKUP_SUFFIX}`;

interface Where {
  /** The root (DER) that each must have been signed under; without it the one that the newest names. */
  root?: Buffer | undefined;
  /** Files to look into besides those in the folder of the newest. */
  bases?: readonly string[] | undefined;
}

/**
 * A backup with all that it builds on, each read from end to end, oldest first. Throws as `openBackupFile`, `backup-base-missing`, and `backup-chain-broken` where one
 * does not follow the other.
 */
export async function openChain(path: string, where: Where = {}): Promise<OpenBackup[]> {
  const opened: OpenBackup[] = [];
  try {
    return await follow(path, where, async (file, root) => {
      const backup = await openBackupFile(file, root);
      opened.push(backup);
      return backup;
    });
  } catch (error) {
    for (const each of opened) await each.close();
    throw error;
  }
}

/** The same by first lines and statements alone: quick, and no proof that the files are whole. */
export const readChain = (path: string, where: Where = {}): Promise<BackupEnds[]> => follow(path, where, readBackupEnds);

async function follow<T extends BackupEnds>(
  path: string,
  { root, bases = [] }: Where,
  open: (file: string, root?: Buffer) => Promise<T>,
): Promise<T[]> {
  const newest = await open(path, root);
  const chain = [newest];
  for (let link = newest, base = baseOf(link.head); base; base = baseOf(link.head)) {
    const file = await fileOf(base, [...bases, ...(await backupsIn(dirname(path)))]);
    const before = await open(file, root ?? newest.custody.package.certificates.root);
    requireFollows(link, before, base);
    chain.unshift(before);
    link = before;
  }
  return chain;
}

async function fileOf(base: BackupBase, files: readonly string[]): Promise<string> {
  const named = files.filter((file) => basename(file).endsWith(`-${base.id.slice(0, 8)}${BACKUP_SUFFIX}`));
  for (const file of [...named, ...files]) if ((await readBackupHead(file))?.id === base.id) return file;
  // A first line that is damaged, or a file in the place of another: to be told as what it is.
  if (named[0] !== undefined) return named[0];
  throw new Fault(
    'not-found',
    'backup-base-missing',
    `this backup holds what changed since the backup ${base.id}, which is not beside it: put its file there, or name it by --base`,
  );
}

function requireFollows(link: BackupEnds, before: BackupEnds, base: BackupBase): void {
  const wrong = broken(link, before, base);
  if (wrong) throw new Fault('malformed', 'backup-chain-broken', `${before.file} is not what ${link.file} builds on: ${wrong}`);
}

function broken(link: BackupEnds, before: BackupEnds, base: BackupBase): string | undefined {
  if (before.head.id !== base.id || before.statement.digest !== base.digest) return 'it is another file';
  if (before.custody.package.backup.recipient !== link.custody.package.backup.recipient) return 'it is for other custodians';
  const [earlier, later] = [before.statement, link.statement];
  if (earlier.entries > later.entries || (earlier.head?.size ?? 0) > (later.head?.size ?? 0)) return 'it is newer';
  return earlier.head?.origin === later.head?.origin ? undefined : 'it is of another log';
}

/** Newest first, by their names. */
export async function backupsIn(folder: string): Promise<string[]> {
  try {
    const names = (await readdir(folder)).filter((name) => name.endsWith(BACKUP_SUFFIX) && !name.startsWith('.'));
    return names
      .sort()
      .reverse()
      .map((name) => join(folder, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
