import { readFileSync } from 'node:fs';
import { type Address, Fault } from '../foundation/index.js';
import { Directory, type DirectoryEntry } from './directory.js';
import { MemoryDirectory } from './memory-directory.js';

/** Columns, in this order, named in the first line. */
const HEADER = ['id', 'addresses', 'state'];

/**
 * People from a file that the personnel department writes: `id,addresses,state`, one person a line, addresses separated by spaces, state
 * `active` or `disabled` (docs/operators-guide.md). Read anew for each question; it holds no passwords.
 */
export class CsvDirectory extends Directory {
  constructor(private readonly file: string) {
    super();
  }

  override async people(): Promise<DirectoryEntry[]> {
    return this.#read().people();
  }

  override async byId(id: string): Promise<DirectoryEntry | undefined> {
    return this.#read().byId(id);
  }

  override async byAddress(address: Address): Promise<DirectoryEntry[]> {
    return this.#read().byAddress(address);
  }

  override async signIn(): Promise<undefined> {
    return undefined;
  }

  #read(): MemoryDirectory {
    const directory = new MemoryDirectory();
    const [header, ...lines] = this.#lines();
    if (header?.toLowerCase() !== HEADER.join(',')) throw this.#unusable(1, `its first line must be ${HEADER.join(',')}`);
    for (const [n, line] of lines.entries()) {
      if (line.trim() === '') continue;
      const [id = '', addresses = '', state = '', ...more] = line.split(',').map((field) => field.trim().replace(/^"(.*)"$/, '$1'));
      if (!/^[\x21-\x7e]{1,128}$/.test(id) || more.length > 0 || (state !== 'active' && state !== 'disabled'))
        throw this.#unusable(n + 2, 'it must be an id, addresses, and active or disabled');
      if (directory.entries.has(id.toLowerCase())) throw this.#unusable(n + 2, 'its id has been there before');
      directory.put({ id: id.toLowerCase(), addresses: addresses.split(/\s+/).filter(Boolean), active: state === 'active' });
    }
    return directory;
  }

  /** A file that does not end its last line may be half written. */
  #lines(): string[] {
    let text: string;
    try {
      text = readFileSync(this.file, 'utf8').replace(/^\uFEFF/, '');
    } catch (error) {
      throw new Fault('unavailable', 'directory-unavailable', `the people's file cannot be read: ${(error as Error).message}`, 60);
    }
    const lines = text.split(/\r?\n/);
    if (lines.pop() !== '') throw this.#unusable(lines.length + 1, 'it is not ended; the file may be half written');
    return lines;
  }

  #unusable(line: number, why: string): Fault {
    return new Fault('misconfigured', 'directory-refused', `${this.file}, line ${line}: ${why}`);
  }
}
