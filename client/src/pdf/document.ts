import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { fileSource, lockOf, Opening, PdfFile, type PublicKeyLock, permissionsOf } from '../../../src/codec/pdf/index.js';
import { Fault } from '../../../src/foundation/index.js';
import { type HeldKey, openOneOf, type RemoteDecryption } from '../keys/index.js';
import { reason } from '../store/index.js';

export interface Keys {
  held: readonly HeldKey[];
  remotely: RemoteDecryption;
  /** For documents under a password. */
  password?: string | undefined;
}

export interface OpenDocument {
  file: PdfFile;
  /** Permission bits of the file's mode. */
  mode: number;
  /** How it was opened; undefined for a document that was not encrypted. */
  opened: { by: string; permissions: ReturnType<typeof permissionsOf>; lock: PublicKeyLock | undefined } | undefined;
}

/** Opens a document for as long as `work` takes; one that is encrypted to certificates with the keys of this device. */
export async function withDocument<T>(path: string, keys: Keys, work: (document: OpenDocument) => Promise<T>): Promise<T> {
  return withFile(path, async (file, mode) => {
    const found = lockOf(file);
    if (found.kind === 'password') {
      if (keys.password === undefined)
        throw new Fault('conflict', 'pdf-password', `${path} is protected by a password: give a file with it, --password-file FILE`);
      const result = found.lock.open(keys.password);
      if (!result) throw new Fault('forbidden', 'pdf-password-wrong', `${path} does not open with this password`);
      file.decryption = new Opening(result.filters);
      const by = `its ${result.isOwner ? "owner's" : 'reading'} password`;
      return work({ file, mode, opened: { by, permissions: permissionsOf(result.permissions), lock: undefined } });
    }
    if (found.kind === 'none') return work({ file, mode, opened: undefined });
    const { content, by } = await openOneOf(found.lock.envelopes, keys.held, keys.remotely, 'document');
    const { filters, permissions } = found.lock.filters(content);
    file.decryption = new Opening(filters);
    content.fill(0);
    return work({ file, mode, opened: { by, permissions: permissionsOf(permissions), lock: found.lock } });
  });
}

export async function withFile<T>(path: string, work: (file: PdfFile, mode: number) => Promise<T>): Promise<T> {
  const descriptor = opened(path);
  try {
    const { size, mode } = fstatSync(descriptor);
    return await work(PdfFile.open(fileSource(descriptor, size, readSync)), mode & 0o666);
  } finally {
    closeSync(descriptor);
  }
}

function opened(path: string): number {
  try {
    const descriptor = openSync(path, 'r');
    if (fstatSync(descriptor).isFile()) return descriptor;
    closeSync(descriptor);
  } catch (error) {
    throw new Fault('misconfigured', 'file-unreadable', `${path} cannot be read: ${reason(error)}`);
  }
  throw new Fault('misconfigured', 'file-unreadable', `${path} is no file`);
}
