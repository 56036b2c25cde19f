import { mkdir, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isWrong, type KeyChain, openByKeys, verifyByWebCrypto, verifyConsistency } from '../../codec/merkle/index.js';
import { Fault } from '../../foundation/index.js';
import { sha256 } from '../log-tree.js';
import { type ShownHead, type Testimony, Witness } from './witness.js';

/** Newest notes that are read at a look: one may have been cut short by a crash. */
const LOOK_AT = 16;

/**
 * A folder on a machine of somebody else, best one that takes new files and lets none be changed or deleted. A head is a file of its own, named by its size;
 * nothing is ever written over. What the log's own key did not sign is nobody's memory.
 */
export class FolderWitness extends Witness {
  constructor(
    readonly name: string,
    private readonly folder: string,
    /** Of the log of this name: an older note was signed by an older one. */
    private readonly keys: (origin: string) => Promise<KeyChain>,
  ) {
    super();
  }

  override async show(head: ShownHead): Promise<Testimony> {
    try {
      const folder = join(this.folder, head.origin.replaceAll('/', '_'));
      await mkdir(folder, { recursive: true });
      const known = await this.#newest(folder, await this.keys(head.origin));
      if (known) {
        const remembered = { origin: head.origin, size: known.size, root: Buffer.from(known.root).toString('base64') };
        if (known.size > head.size) return { agrees: false, code: 'audit-rolled-back', known: remembered };
        if (!verifyConsistency(sha256, known, head, await head.proof(known.size)))
          return { agrees: false, code: 'audit-forked', known: remembered };
      }
      if (head.note !== null && head.size > (known?.size ?? 0)) await write(join(folder, fileOf(head.size)), head.note);
      return { agrees: true };
    } catch (error) {
      if (error instanceof Fault) throw error;
      throw new Fault('unavailable', 'witness-unreachable', `the witness ${this.name} (${this.folder}): ${(error as Error).message}`, 10);
    }
  }

  async #newest(folder: string, keys: KeyChain): Promise<{ size: number; root: Uint8Array } | undefined> {
    const names = (await readdir(folder)).filter((name) => /^\d{16}$/.test(name)).sort();
    for (const name of names.slice(-LOOK_AT).reverse()) {
      const checkpoint = await openByKeys(sha256, verifyByWebCrypto, await readFile(join(folder, name), 'utf8'), keys);
      if (!isWrong(checkpoint)) return checkpoint;
    }
    return undefined;
  }
}

const fileOf = (size: number): string => String(size).padStart(16, '0');

/** Under its own name at once, and not as `replaceFile` does: where no file can be changed or deleted, none can be renamed either. One cut short is passed over. */
async function write(path: string, note: string): Promise<void> {
  try {
    const file = await open(path, 'wx', 0o644);
    try {
      await file.writeFile(note);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error; // another node was quicker
  }
}
