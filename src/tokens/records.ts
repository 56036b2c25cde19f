import { canonicalJson, type Json } from '../foundation/index.js';
import type { KeyKind } from './hsm.js';
import type { AgentList } from './recovery.js';

/**
 * What the token process seals with a MAC of its own (docs/formats/sealed-records.md), so that whoever writes the database gets nothing.
 * The MAC covers the UTF-8 of the RFC 8785 form of the whole record. Digests are SHA-256, base64url. Times are milliseconds since 1970.
 */
export type KeyState = 'active' | 'suspended' | 'deactivated' | 'compromised' | 'destroyed';
export type KeyMode = 'deliver' | 'remote';
/** `quorum`: no device's for itself, whoever it is; only a recovery case opens anything with it (docs/adr/0042). For ever: no change leads there or away. */
export type HeldMode = KeyMode | 'quorum';

/** A pair in the ready pool: nobody's yet. `n` rises by one for each pair that this token makes; a pair is given out at most once, in this order. */
export interface PoolRecord {
  type: 'pool';
  n: number;
  suite: KeyKind['suite'];
  bits: number;
  kek: string;
  publicKey: string;
  wrapped: string;
}

export interface KeyRecord {
  type: 'key';
  id: string;
  /** 1 at birth, one more at each change; the token process refuses a version below the highest it has seen. */
  version: number;
  employee: string;
  suite: KeyKind['suite'];
  bits: number;
  state: KeyState;
  mode: HeldMode;
  kek: string;
  publicKey: string;
  wrapped: string;
  /** Its birth is not ours: what else holds it nobody here knows. Absent for what this token made. */
  origin?: 'imported';
  /** Of a mailbox that several people read. A key is born so or never is: no person's key becomes others' by a change. */
  shared?: true;
}

/** That a person reads a shared mailbox: its keys go to their devices too. */
export interface MemberRecord {
  type: 'member';
  id: string;
  version: number;
  /** Employee id that the mailbox's keys belong to. */
  mailbox: string;
  employee: string;
  from: number;
  to: number | null;
}

export interface BindingRecord {
  type: 'binding';
  id: string;
  version: number;
  employee: string;
  address: string;
  from: number;
  to: number | null;
  /** The person's immutable id in the organisation's directory, where that is known. */
  directory?: string;
}

export interface EnrolmentRecord {
  type: 'enrolment';
  id: string;
  version: number;
  address: string;
  /** SHA-256 over the expected answer's bytes. */
  answer: string;
  /** RFC 7638 thumbprint of the identity key. */
  jkt: string;
  /** SHA-256 of the delivery key's SPKI. */
  delivery: string;
  expires: number;
}

/** Who may approve recoveries, since a quorum of those before appointed them; version 1 are those of the ceremony, who have no record. */
export interface AgentsRecord {
  type: 'agents';
  id: typeof AGENTS_ID;
  version: number;
  list: AgentList;
}

/** A pair of this token's that another appliance seals keys to, for them to come in here. `kek` and `wrapped` as in a key's record. */
export interface TransferKeyRecord {
  type: 'transfer';
  id: string;
  version: 1;
  bits: number;
  kek: string;
  publicKey: string;
  wrapped: string;
  expires: number;
}

/** A key that came out of a file and is nobody's yet: it can become somebody's for reading only, and never what a pair of our own making becomes. */
export interface FoundRecord {
  type: 'found';
  suite: KeyKind['suite'];
  bits: number;
  kek: string;
  publicKey: string;
  wrapped: string;
}

/** There is one such list, so its name is its id. */
export const AGENTS_ID = 'recovery-agents';

export type SealedRecord =
  | PoolRecord
  | FoundRecord
  | KeyRecord
  | BindingRecord
  | EnrolmentRecord
  | AgentsRecord
  | TransferKeyRecord
  | MemberRecord;

export interface Sealed<R extends SealedRecord> {
  record: R;
  /** HMAC-SHA-256, 32 bytes. */
  mac: Buffer;
}

export const macInput = (record: SealedRecord): Buffer =>
  Buffer.from(`EKMS sealed record v1\n${canonicalJson({ ...record } as unknown as Json)}`);

/** SP 800-57 part 1, §7. `destroyed` has no way back; what was delivered stays delivered. */
export const NEXT_KEY_STATE = {
  active: ['suspended', 'deactivated', 'compromised', 'destroyed'],
  suspended: ['active', 'deactivated', 'compromised', 'destroyed'],
  deactivated: ['compromised', 'destroyed'],
  compromised: ['destroyed'],
  destroyed: [],
} as const satisfies Record<KeyState, readonly KeyState[]>;

/** States in which a key may still be read with: everything that is not on hold or gone. */
export const READABLE: readonly KeyState[] = ['active', 'deactivated', 'compromised'];
