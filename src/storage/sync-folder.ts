import { open } from 'node:fs/promises';

/** What was made, renamed or removed in this folder is so after a power cut too (fsync(2): a file's own sync does not say it of its name). */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
