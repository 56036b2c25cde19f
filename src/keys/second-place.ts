import type { BindingRecord, KeyState, PoolRecord, Sealed, SucceedingAuthority } from '../tokens/index.js';
import type { StoredKey } from './key-store.js';

/** A key that somebody got, with all that it takes to give it back to them. */
export interface GivenKey {
  n: number;
  key: StoredKey;
  binding: { sealed: Sealed<BindingRecord>; shown: string };
  /** DER. */
  certificate: Buffer;
}

/** A further certificate of a key that somebody has: for another address, or what follows one that ends. */
export interface GivenCertificate {
  key: string;
  employee: string;
  address: string;
  serial: string;
  /** DER. */
  certificate: Buffer;
}

/**
 * As a key has lived where it comes from: when it began there (ms since 1970), each change of state, oldest first, and the legal holds on its owner's keys that
 * were in force.
 */
export interface LifeElsewhere {
  created: number;
  changes: { state: KeyState; reason: string; time: number }[];
  holds: { id: string; reference: string; placed: number }[];
}

/** A key that came from outside, with all that it takes to give it back to its owner. */
export interface TakenKey {
  key: StoredKey;
  /** An address of theirs; null where none is bound to them any more. */
  binding: GivenKey['binding'] | null;
  /** DER, other authorities'. */
  certificates: Buffer[];
  /** When whoever brought it claimed it, in milliseconds: of several lines about one public key the one claimed last counts. Absent in older lines. */
  since?: number;
  /** Of one that another appliance sent; absent in older lines. */
  life?: LifeElsewhere;
}

/**
 * Where wrapped keys lie a second time (`durability: two`; custody fills it). Each verb resolves once the second place holds it on its disk;
 * before, nothing is born, given or certified, and no authority takes over. Rejects with `second-place-away` (503).
 */
export abstract class SecondPlace {
  /** Why it could not be written when last tried; undefined while it can. */
  abstract get trouble(): string | undefined;
  abstract born(pair: Sealed<PoolRecord>, blob: { publicKey: Buffer; wrapped: Buffer }): Promise<void>;
  abstract given(given: GivenKey): Promise<void>;
  abstract certified(certificate: GivenCertificate): Promise<void>;
  abstract taken(taken: TakenKey): Promise<void>;
  /**
   * Before the token makes a key that others will be under. Rejects also while the place holds what the token does not know: the next key would take the name of one of
   * those. For a key-encryption key also with `kek-name-taken`, where lines may be there under a later one of other custodians.
   */
  abstract requireKnown(next: 'kek' | 'authority'): Promise<void>;
  /** The n-th generation of an authority, which was prepared and signs nothing yet: what a restore needs to go on with it. */
  abstract succeeding(name: SucceedingAuthority, n: number): Promise<void>;
  /** A later version of a key: another state, or wrapped under another KEK. */
  abstract changed(key: StoredKey): Promise<void>;
}

/** `durability: one`: the database alone. */
export class OnePlace extends SecondPlace {
  override get trouble(): undefined {
    return undefined;
  }
  override async born(): Promise<void> {}
  override async given(): Promise<void> {}
  override async certified(): Promise<void> {}
  override async taken(): Promise<void> {}
  override async requireKnown(): Promise<void> {}
  override async succeeding(): Promise<void> {}
  override async changed(): Promise<void> {}
}
