import { mkdir, open, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { isFault, parseAddress } from '../foundation/index.js';
import { syncFolder } from '../storage/index.js';
import { DeliveryFailure, type Envelope, MailTransport } from './mail-transport.js';

/**
 * Embedded mail for evaluation, not for production: each message becomes a file in the Maildir of its address, `<directory>/<address>/new/`,
 * whole or not at all (written in tmp, synced, renamed: https://cr.yp.to/proto/maildir.html; readers take whatever lies in new/, so not as `replaceFile` does). Bytes stay as composed, CRLF included.
 */
export class MaildirTransport extends MailTransport {
  #count = 0;

  constructor(private readonly directory: string) {
    super();
  }

  override async deliver(envelope: Envelope, bytes: Buffer): Promise<void> {
    const mailbox = join(this.directory, folderOf(envelope.to));
    // time, process and count make the name unique on this host, the host's name among hosts; `/` and `:` mean something in a Maildir.
    const host = hostname().replaceAll('/', '\\057').replaceAll(':', '\\072');
    const name = `${Math.floor(Date.now() / 1000)}.P${process.pid}Q${process.hrtime.bigint()}N${this.#count++}.${host}`;
    const unfinished = join(mailbox, 'tmp', name);
    try {
      for (const part of ['tmp', 'new', 'cur']) await mkdir(join(mailbox, part), { recursive: true, mode: 0o700 });
      await writeSynced(unfinished, bytes);
      await rename(unfinished, join(mailbox, 'new', name));
      await syncFolder(join(mailbox, 'new'));
    } catch (error) {
      await rm(unfinished, { force: true }).catch(() => undefined);
      const full = error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
      throw new DeliveryFailure('temporary', full ? 'maildir-full' : 'maildir-unwritable', { cause: error });
    }
  }
}

/** An address is one folder's name: parsed (so no `..`), without `/`, which RFC 5322 allows in a local part, and within a file name's length. */
function folderOf(address: string): string {
  try {
    const { key } = parseAddress(address);
    if (!key.includes('/')) return key;
  } catch (error) {
    if (!isFault(error)) throw error;
  }
  throw new DeliveryFailure('permanent', 'address-unfit');
}

async function writeSynced(path: string, bytes: Buffer): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}
