import { type Address, Fault, isFault, parseAddress } from '../foundation/index.js';

/** A person as the organisation's directory has them now. */
export interface DirectoryEntry {
  /** Never changes and is never given to anybody else: objectGUID, entryUUID, a personnel number. */
  id: string;
  /** As they stand there, the main one first; what is no mail address of ours is passed over by whoever reads them. */
  addresses: readonly string[];
  /** False for an account that is disabled. */
  active: boolean;
  /** When the entry was made, in milliseconds since 1970, where the directory tells. */
  created?: number;
}

/**
 * Where the organisation keeps its people. Whole or not at all: an answer that may be cut short rejects. Every verb may reject with
 * `directory-unavailable` (503) or `directory-refused` (the directory does not let us ask).
 */
export abstract class Directory {
  abstract people(): Promise<DirectoryEntry[]>;
  /** The entry of this id, asked for by itself. */
  abstract byId(id: string): Promise<DirectoryEntry | undefined>;
  /** Every entry with this address, however it is written there. */
  abstract byAddress(address: Address): Promise<DirectoryEntry[]>;
  /**
   * The one active entry with this address, if that is its password; else undefined, and nobody learns why.
   * @param mayTry told whose password it would be, by the entry's id; false: it is not tried, which looks like a wrong one
   */
  abstract signIn(address: Address, password: string, mayTry?: (id: string) => boolean): Promise<DirectoryEntry | undefined>;
}

/** A directory's words read as an address; undefined for what is none of ours. */
export function mailAddress(text: string): Address | undefined {
  try {
    return parseAddress(text);
  } catch (error) {
    if (isFault(error)) return undefined;
    throw error;
  }
}

/** Asks on behalf of somebody who is no operator: of what is wrong with the directory they hear only that it does not answer. */
export async function askedOutside<T>(asking: Promise<T>): Promise<T> {
  try {
    return await asking;
  } catch (error) {
    if (isFault(error, 'directory-refused') || isFault(error, 'directory-unavailable'))
      throw new Fault('unavailable', 'directory-unavailable', 'your organisation’s directory does not answer; try again later', 60);
    throw error;
  }
}
