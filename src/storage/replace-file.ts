import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { newId } from '../foundation/index.js';
import { syncFolder } from './sync-folder.js';

/** Puts a file in the place of what is there: whoever reads finds the one or the other whole, also after a power cut, and where several write at once. Ends in `.new` while it is staged. */
export async function replaceFile(path: string, bytes: Uint8Array | string): Promise<void> {
  const staged = `${path}.${newId()}.new`;
  try {
    const file = await open(staged, 'wx', 0o600);
    try {
      await file.writeFile(bytes);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(staged, path);
  } catch (error) {
    await rm(staged, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(dirname(path));
}
