import { realpath, stat, writeFile } from 'node:fs/promises';
import { Fault } from '../../../src/foundation/index.js';
import { reason, writeWhole } from '../store/index.js';

/** A file with all of `bytes`, or none at all. Pipes and devices cannot be replaced, and are written to. */
export async function writeOutput(path: string, bytes: Uint8Array): Promise<void> {
  const target = await realpath(path).catch(() => path);
  const found = await stat(target).catch(() => undefined);
  if (!found || found.isFile()) return writeWhole(target, bytes);
  await writeFile(target, bytes).catch((error: unknown) => {
    throw new Fault('unavailable', 'file-unwritable', `${path} cannot be written: ${reason(error)}`);
  });
}
