import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { mkdir, open, readFile, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Fault } from '../../../src/foundation/index.js';

/** All of `bytes` under `path`, or what was there before: written beside, synced, renamed. For the owner only. */
export async function writeWhole(path: string, bytes: Uint8Array | string): Promise<void> {
  const beside = join(dirname(path), `.${randomBytes(8).toString('hex')}.part`);
  try {
    const file = await open(beside, 'wx', 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (error) {
    await unlink(beside).catch(() => undefined);
    throw cannotWrite(path, error);
  }
  await syncFolder(dirname(path));
}

export async function appendLine(path: string, line: string): Promise<void> {
  try {
    const file = await open(path, 'a', 0o600);
    try {
      await file.writeFile(`${line}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Makes the folder for the owner alone; one that is there and open to others is closed. True if it was not there. */
export async function makePrivateFolder(path: string): Promise<boolean> {
  try {
    const made = await mkdir(path, { recursive: true, mode: 0o700 });
    const folder = await open(path, 'r');
    try {
      await folder.chmod(0o700);
    } finally {
      await folder.close();
    }
    return made !== undefined;
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

/** A small file that only its owner may read; undefined if there is none. Read at once: each turn through Node's threads costs more than the file. */
export async function readPrivate(path: string): Promise<Buffer | undefined> {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  try {
    if ((fstatSync(file).mode & 0o077) !== 0)
      throw new Fault('misconfigured', 'file-open-to-others', `${path} can be read by others: chmod 600 it`);
    return readFileSync(file);
  } finally {
    closeSync(file);
  }
}

/** The first line of a file that holds a secret, without its end. */
export async function firstLine(path: string, what: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Fault('misconfigured', 'file-unreadable', `the ${what} file ${path} cannot be read: ${reason(error)}`);
  });
  const line = text.split(/\r?\n/, 1)[0] ?? '';
  if (line === '') throw new Fault('misconfigured', 'file-empty', `the first line of the ${what} file ${path} is empty`);
  return line;
}

export function reason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  const words: Record<string, string> = {
    ENOENT: 'there is no such file',
    EACCES: 'permission denied',
    ENOSPC: 'the disk is full',
    EISDIR: 'it is a folder',
    EROFS: 'the disk is read-only',
  };
  return (code && (words[code] ?? code)) || 'unknown reason';
}

const cannotWrite = (path: string, error: unknown) =>
  new Fault('unavailable', 'file-unwritable', `${path} cannot be written: ${reason(error)}`);
