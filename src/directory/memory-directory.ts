import { type Address, Fault } from '../foundation/index.js';
import { Directory, type DirectoryEntry, mailAddress } from './directory.js';

/** A directory in memory, for tests and for whoever reads their people from elsewhere. */
export class MemoryDirectory extends Directory {
  readonly entries = new Map<string, DirectoryEntry>();
  readonly passwords = new Map<string, string>();
  /** Away: every verb rejects. */
  away = false;

  put(...entries: DirectoryEntry[]): void {
    for (const entry of entries) this.entries.set(entry.id, entry);
  }

  override async people(): Promise<DirectoryEntry[]> {
    this.#answer();
    return [...this.entries.values()];
  }

  override async byId(id: string): Promise<DirectoryEntry | undefined> {
    this.#answer();
    return this.entries.get(id);
  }

  override async byAddress(address: Address): Promise<DirectoryEntry[]> {
    this.#answer();
    return [...this.entries.values()].filter(({ addresses }) => addresses.some((text) => mailAddress(text)?.key === address.key));
  }

  override async signIn(address: Address, password: string, mayTry = (_id: string) => true): Promise<DirectoryEntry | undefined> {
    const found = (await this.byAddress(address)).filter(({ active }) => active);
    const [entry] = found;
    return found.length === 1 && entry && mayTry(entry.id) && password !== '' && this.passwords.get(entry.id) === password
      ? entry
      : undefined;
  }

  #answer(): void {
    if (this.away) throw new Fault('unavailable', 'directory-unavailable', 'the directory does not answer', 60);
  }
}
