import type { Json } from '../foundation/index.js';
import type { LogAcceptance } from './acceptance.js';
import type { KeyKind, OaepHash, SigningAlgorithm, SigningKeyName, TransportScheme } from './hsm.js';
import type {
  AgentsRecord,
  BindingRecord,
  EnrolmentRecord,
  FoundRecord,
  HeldMode,
  KeyMode,
  KeyRecord,
  KeyState,
  MemberRecord,
  PoolRecord,
  Sealed,
  TransferKeyRecord,
} from './records.js';
import type { Appointment, RecoveryApproval, RecoveryRequest } from './recovery.js';
import type { TransferRequest } from './transfer.js';
import type { AcceptedLine } from './transfer-acceptance.js';

/** A device as it stands before the token: its certificate (DER) and its delivery key (SPKI DER), which the certificate names by digest. */
export interface DeviceEvidence {
  certificate: Buffer;
  deliveryKey: Buffer;
}

export interface Release {
  /** CMS EnvelopedData, DER (docs/formats/delivery.md). */
  delivery: Buffer;
  /** Compact JWS by the token's delivery key. */
  signature: string;
}

/** A private key in a PKCS#12 file, as far as it is told. */
export interface ForeignKey {
  /** SPKI DER; empty for what cannot be read. */
  publicKey: Buffer;
  bits: number;
  /** Why the token does not take it. */
  problem?: ForeignKeyProblem;
  /** Where the file was opened for that: the key under the KEK, nobody's yet. */
  found?: { sealed: Sealed<FoundRecord>; wrapped: Buffer };
}

/** Of its certificates in the file: there are none at all, none is of this key, or none of those is for encryption. */
export type ForeignKeyProblem = 'key-unsupported' | 'key-broken' | 'certificate-missing' | 'key-foreign' | 'signing-only';

export interface ForeignKeys {
  keys: ForeignKey[];
  /** DER. */
  certificates: Buffer[];
}

/** Whose a key from outside becomes. `shared`: of a mailbox that several people read; never added afterwards. */
export interface AdoptTo {
  key: string;
  employee: string;
  mode: HeldMode;
  shared?: true;
}

/** A key that came from outside, as one of ours. */
export interface AdoptedKey {
  key: Sealed<KeyRecord>;
  publicKey: Buffer;
  wrapped: Buffer;
}

/** A key of this token's that other appliances seal keys to. */
export interface TransferKey {
  sealed: Sealed<TransferKeyRecord>;
  /** SPKI DER. */
  publicKey: Buffer;
  wrapped: Buffer;
}

export interface TokenHealth {
  /** `ready`; `down`: the token does not answer, recovery is under way; `sealed`: waits for a PIN; `refused`: the PIN was wrong, nothing is tried again. */
  state: 'ready' | 'down' | 'sealed' | 'refused';
  reason?: string;
  /** Jobs waiting now. */
  queued: number;
  /** Times that the token was lost and found again since this process started. */
  recoveries: number;
}

/** What was found out by really trying one thing that a token may or may not enforce, in words for an operator. */
export interface TokenFinding {
  check: 'kek' | 'unwrap-template' | 'foreign-wrapping-key' | 'key-values' | 'oaep' | 'padding-oracle' | 'pin' | 'pin-place' | 'software';
  verdict: 'good' | 'warn' | 'bad';
  words: string;
}

export interface SigningKeyInfo {
  name: SigningKeyName;
  algorithm: SigningAlgorithm;
  /** SPKI DER. */
  publicKey: Buffer;
}

/** Authorities that another generation can take over from. The root is none of them: every device and client trusts that very one. */
export const SUCCEEDING_AUTHORITIES = ['people', 'devices', 'infrastructure'] as const;
export type SucceedingAuthority = (typeof SUCCEEDING_AUTHORITIES)[number];
/** Signing keys that another of their name can take over from while all else stays. */
export const SUCCESSORS = ['delivery', 'mail'] as const;
/** Those, and the log's, which takes more. */
export const RETIRED = [...SUCCESSORS, 'audit'] as const;
export type RetiredName = (typeof RETIRED)[number];
export type SuccessorName = (typeof SUCCESSORS)[number];

/** One generation of an authority: an authority of its own, with its own key, name, certificate and list (docs/adr/0096). */
export interface Authority {
  name: AuthorityName;
  n: number;
  /** DER. */
  certificate: Buffer;
  /** `serving`: it signs what is new. `former`: it signs its revocation list only. `retired`: it signs nothing, and what it signed is not trusted here. */
  state: 'serving' | 'former' | 'retired';
}

/** Which of a name's keys the token has. */
export interface TokenKeyInfo {
  name: SigningKeyName;
  /** Of the one in service. */
  n: number;
  /** Of those that it took over from and that are not destroyed. */
  former: number[];
  /** When the one in service took over, in milliseconds since 1970; absent for the first, and where a journal of before does not say it. */
  since?: number;
}

/** What an appliance states of itself and signs. */
export type StatementKind = (typeof STATEMENTS)[number];
export const STATEMENTS = ['backup', 'minutes', 'destruction', 'transfer'] as const;
/** A head of the audit log's tree (RFC 9162 §2.1.1) under the log's name. */
export interface AuditHead {
  origin: string;
  size: number;
  /** base64 (RFC 4648 §4), as checkpoints have it; empty before the first head. */
  root: string;
}

export type InfrastructureProfile = 'tls-server' | 'mail-signing';
export const AUTHORITY_NAMES = ['root', 'people', 'devices', 'infrastructure'] as const;
export type AuthorityName = (typeof AUTHORITY_NAMES)[number];

export interface CrlEntry {
  serial: string;
  revokedAt: number;
  /** RFC 5280 §5.3.1 reason code. */
  reason: number;
}

/**
 * The token process as the rooms above see it. It decides by itself: each verb says what it demands. Every verb may reject with a Fault:
 * `token-unavailable` (503, with Retry-After), `token-busy` (503, queue full), `token-refused` and the codes each verb names (403).
 */
export abstract class Token {
  abstract health(): Promise<TokenHealth>;
  /** Tries on throw-away objects what this token enforces, in the low-priority lane. */
  abstract inspect(): Promise<TokenFinding[]>;
  abstract signingKey(name: SigningKeyName): Promise<SigningKeyInfo>;
  /** Certificates (DER) of the authorities that serve and of the delivery key, as the token process keeps them beside its journal. */
  abstract certificates(): Promise<Record<AuthorityName | 'delivery', Buffer>>;

  /** Every generation of the authorities that there ever was; of one name the oldest first. */
  abstract authorities(): Promise<Authority[]>;

  /** Makes one pair for the pool, in the low-priority lane. */
  abstract makePair(kind: KeyKind): Promise<{ pair: Sealed<PoolRecord>; publicKey: Buffer; wrapped: Buffer }>;
  /** Gives a pool pair to an employee. Code `pair-spent` when its number is not above every one given out before: such a pair is to be destroyed. */
  abstract assign(
    pair: Sealed<PoolRecord>,
    to: { key: string; employee: string; mode: HeldMode; shared?: true },
  ): Promise<Sealed<KeyRecord>>;
  /**
   * The next version of a key record; only state and mode may change, states by SP 800-57. The old version stays good until `raise`. Code `key-held`
   * where it would be destroyed and its employee is on hold.
   */
  abstract changeKey(key: Sealed<KeyRecord>, to: { state?: KeyState; mode?: KeyMode }): Promise<Sealed<KeyRecord>>;
  /** Seals an enrolment, an address binding or a membership. Version 1 needs nothing; a later one needs its predecessor. */
  abstract seal<R extends EnrolmentRecord | BindingRecord | MemberRecord>(record: R, predecessor?: Sealed<R>): Promise<Sealed<R>>;
  /** From now on only this version or a later one is accepted, whatever database is put back. Call once the new version is committed. */
  abstract raise(record: Sealed<KeyRecord | BindingRecord | EnrolmentRecord | AgentsRecord | MemberRecord>): Promise<void>;
  /** Refuses every release to this device or employee, or for this recovery case (by id), from now on; kept outside the database. */
  abstract block(id: string): Promise<void>;
  abstract unblock(id: string): Promise<void>;
  /** Refuses to destroy any key of this employee from now on (legal hold); kept outside the database. */
  abstract hold(employee: string): Promise<void>;
  abstract unhold(employee: string): Promise<void>;
  /** Remembers outside the database, for good, that two security officers have been registered. */
  abstract endBootstrap(): Promise<void>;
  abstract bootstrapIsOver(): Promise<boolean>;

  /**
   * Seals a private key for a device: of its own person, or of a shared mailbox that the person is a `member` of. Codes: `record-forged`, `record-stale`, `blob-forged`, `device-untrusted`, `device-blocked`,
   * `employee-blocked`, `not-the-owner`, `delivery-key-foreign`, `key-not-deliverable` (state or mode), `blob-corrupt`.
   */
  abstract release(
    key: Sealed<KeyRecord>,
    blob: { wrapped: Buffer; publicKey: Buffer },
    device: DeviceEvidence,
    member?: Sealed<MemberRecord>,
  ): Promise<Release>;
  /** Remote mode. Same codes; a bad padding is never one of them. */
  abstract decrypt(
    key: Sealed<KeyRecord>,
    blob: { wrapped: Buffer; publicKey: Buffer },
    device: DeviceEvidence,
    ask: { scheme: TransportScheme; encryptedKey: Buffer; length: 16 | 24 | 32 },
    member?: Sealed<MemberRecord>,
  ): Promise<{ encryptedKey: Buffer; oaepHash: OaepHash }>;

  /**
   * Issues a device certificate: demands a sealed enrolment with the answer that fits it, unexpired, never used before, and a sealed,
   * open binding of the same address. `spki` must have the enrolment's thumbprint.
   */
  abstract issueDevice(ask: {
    enrolment: Sealed<EnrolmentRecord>;
    answer: string;
    binding: Sealed<BindingRecord>;
    device: string;
    serial: string;
    spki: Buffer;
    urls: AuthorityUrls;
    days: number;
  }): Promise<Buffer>;
  /** Issues an encrypting certificate: demands that key and open binding are of one employee and `publicKey` is the key's. */
  abstract issuePerson(ask: {
    key: Sealed<KeyRecord>;
    binding: Sealed<BindingRecord>;
    shown: string;
    publicKey: Buffer;
    serial: string;
    urls: AuthorityUrls;
    days: number;
  }): Promise<Buffer>;
  abstract issueInfrastructure(ask: {
    profile: InfrastructureProfile;
    spki: Buffer;
    names: string[];
    serial: string;
    urls: AuthorityUrls;
    days: number;
  }): Promise<Buffer>;
  /** The list of one generation, signed by its key. Codes `authority-unknown`, `authority-retired`. */
  abstract issueCrl(ask: { authority: AuthorityName; n: number; number: number; entries: CrlEntry[]; days: number }): Promise<Buffer>;

  /** A key or pool record and its blob under the KEK in service, in the low-priority lane. Its version stays. */
  abstract renew<R extends KeyRecord | PoolRecord>(
    sealed: Sealed<R>,
    blob: { wrapped: Buffer; publicKey: Buffer },
  ): Promise<{ sealed: Sealed<R>; wrapped: Buffer }>;
  /** Makes the next KEK, wrapped for the custodians where there are some, and puts it into service; the former ones go on opening what is under them. Resolves with its id. */
  abstract rotateKek(): Promise<{ kek: string }>;
  /** Destroys a former KEK. Code `kek-in-service` for the one in service, `kek-unknown`. */
  abstract destroyKek(kek: string): Promise<void>;
  /** Its signing keys by name. */
  abstract tokenKeys(): Promise<TokenKeyInfo[]>;
  /**
   * Makes the n-th key of an authority, one more than the one in service, and its certificate, wrapped for the custodians and not in service yet: their package has all that a
   * restore needs before anything is signed by it. Without custodians nothing is made. Told again it is the same. Code `key-number`.
   */
  abstract prepareAuthority(name: SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<void>;
  /**
   * Makes the n-th key of a name, one more than the one in service, unless it was prepared, and puts it into service; wrapped for the custodians before, where there are some. Told again it
   * only answers. Code `key-number` for any other number. An authority is limited as the one before it, to the same names and uses.
   * @param urls of the authority that certifies it
   */
  abstract succeedKey(name: SuccessorName | SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<{ publicKey: Buffer }>;
  /**
   * From now on nothing is trusted that this former authority signed; its key, and the custodians' copy, are destroyed. Told again it is the same. Codes
   * `authority-unknown`, `authority-in-use`: it serves, or the delivery key is certified by it.
   */
  abstract retireAuthority(name: SucceedingAuthority, n: number): Promise<void>;
  /** Makes the n-th key of the log, one more than the one in service, without putting it into service. Told again it is the same. Code `key-number`. */
  abstract prepareAuditKey(n: number): Promise<{ algorithm: SigningAlgorithm; publicKey: Buffer }>;
  /**
   * Puts the prepared key of the log into service. Demands that the last head signed covers the entry that announces it. From then on the former key signs no
   * head any more. Resolves with the head signed by the new key. Codes `key-number`, `head-stale`, `key-not-announced`.
   * @param announcement the entry `audit.key`, byte for byte, and the proof (RFC 9162 §2.1.3) that `head` covers it
   */
  abstract succeedAuditKey(n: number, head: AuditHead, announcement: { index: number; entry: string; proof: Buffer[] }): Promise<string>;
  /** What both keys signed each time that one of the log took over from another, oldest first (docs/formats/audit-log.md). */
  abstract auditSuccessions(): Promise<string[]>;
  /** Destroys those that were taken over from, and the custodians' copies of them. */
  abstract retireKey(name: RetiredName): Promise<{ destroyed: number[] }>;
  /**
   * What a PKCS#12 file holds. With `take` each key without a `problem` is wrapped then and there, so that a file is opened once. Low-priority lane.
   * Codes: `pkcs12-malformed`, `pkcs12-passphrase`, `pkcs12-excessive`, `algorithm-unsupported`, `archived-key-sealed`.
   */
  abstract look(file: Uint8Array, phrase: string, take: boolean): Promise<ForeignKeys>;
  /** Makes a key that was found in a file somebody's, for reading only (`deactivated`), marked as imported. Code `record-forged`. */
  abstract adopt(found: Sealed<FoundRecord>, to: AdoptTo): Promise<Sealed<KeyRecord>>;
  /** Makes a key that another appliance seals keys to, for them to come in here until `expires`. Low-priority lane. */
  abstract makeTransferKey(ask: { id: string; expires: number }): Promise<TransferKey>;
  /**
   * A person's key, as CMS (docs/formats/delivery.md) for the one recipient whom an approved transfer names by digest. Demands signatures of a quorum of the
   * recovery agents in force, two at least, over this very request. Low-priority lane. Codes: `no-recovery-agents`, `recovery-not-approved`,
   * `transfer-expired`, `transfer-ended` (it was taken back), `transfer-foreign`, `record-forged`, `record-stale`, `blob-forged`, `key-not-deliverable`, `blob-corrupt`.
   */
  abstract transferOut(ask: {
    request: TransferRequest;
    approvals: readonly RecoveryApproval[];
    agents?: Sealed<AgentsRecord>;
    key: Sealed<KeyRecord>;
    blob: { wrapped: Buffer; publicKey: Buffer };
    /** SPKI DER, RSA. */
    recipient: Buffer;
  }): Promise<Buffer>;
  /**
   * Takes a key that another appliance sealed to a transfer key of this token, by handles only, for reading only as `adopt` does, or `suspended` or `compromised` where
   * its line says so. Demands signatures of a quorum of the recovery agents in force, two at least, over an acceptance that this very line stands in, for this owner.
   * Low-priority lane. Codes: `no-recovery-agents`, `recovery-not-approved`, `transfer-expired`, `transfer-ended` (it was taken back), `transfer-foreign`,
   * `transfer-not-accepted` (no line of that file, or for another owner), `key-not-deliverable` (destroyed there), `record-forged`, `record-stale`, `delivery-malformed`,
   * `blob-corrupt`, `key-foreign` (it is another key than its line says).
   */
  abstract takeIn(ask: {
    transferKey: Sealed<TransferKeyRecord>;
    blob: { wrapped: Buffer; publicKey: Buffer };
    accepted: AcceptedLine;
    to: AdoptTo;
  }): Promise<AdoptedKey>;
  /**
   * Seals another list of recovery agents. Demands signatures of a quorum of those in force: of `before`, or without it of the ceremony. The list
   * before counts until `raise`. Codes: `no-recovery-agents`, `recovery-not-approved`, `recovery-foreign`, `record-stale`.
   */
  abstract appoint(ask: {
    appointment: Appointment;
    approvals: readonly RecoveryApproval[];
    before?: Sealed<AgentsRecord>;
  }): Promise<Sealed<AgentsRecord>>;
  /**
   * A person's key for the device that an approved recovery case names, or with `mail` the content key of that one message. Demands signatures of
   * a quorum of the recovery agents in force over this very request: of `agents`, or without it of the ceremony. Codes: `no-recovery-agents`, `recovery-not-approved`, `recovery-expired`,
   * `recovery-ended` (it was taken back), `recovery-foreign`, and those of `release`.
   */
  abstract recover(ask: {
    request: RecoveryRequest;
    approvals: readonly RecoveryApproval[];
    agents?: Sealed<AgentsRecord>;
    key: Sealed<KeyRecord>;
    blob: { wrapped: Buffer; publicKey: Buffer };
    device: DeviceEvidence;
    mail?: { scheme: TransportScheme; encryptedKey: Buffer; length: 16 | 24 | 32 };
  }): Promise<{ delivery: Buffer } | { encryptedKey: Buffer; oaepHash: OaepHash }>;
  /**
   * Signs a statement of the appliance about itself: a compact JWS by the delivery key, typ `ekms-<kind>+jws`, whose payload is the statement with
   * `v` and `time`. The type keeps it apart from delivery signatures (docs/formats/statement.md).
   */
  abstract attest(kind: StatementKind, statement: Readonly<Record<string, Json>>): Promise<string>;
  /** The custody package (docs/formats/custody-package.md), its MAC checked; null where there was no ceremony with custodians. */
  abstract custody(): Promise<string | null>;
  /** The token process's journal as it stands, for a backup. */
  abstract journalCopy(): Promise<Buffer>;
  /** The last head that this token signed, from its own memory; null before the first. */
  abstract auditHead(): Promise<AuditHead | null>;
  /**
   * Signs a checkpoint (C2SP signed note) of the audit log. Demands a consistency proof (RFC 9162 §2.1.4) from the last head signed, which `from`
   * names (size 0 and no root before the first). Codes: `head-forked` when `to` does not extend `from`, `head-stale` (409) when `from` is not the last.
   */
  abstract signHead(ask: { from: AuditHead; to: AuditHead; proof: Buffer[] }): Promise<string>;

  /**
   * After a rollback or fork that persons accepted: what is left goes on under another name. Demands signatures of a quorum of the ceremony's agents, two at
   * least, over this very acceptance, whose `signed` is the last head, and a consistency proof from its `kept` to `to`. Codes: `no-recovery-agents`,
   * `recovery-not-approved`, `recovery-expired`, `acceptance-malformed`, `head-forked`, `head-stale`.
   */
  abstract beginOrigin(ask: {
    acceptance: LogAcceptance;
    approvals: readonly RecoveryApproval[];
    /** Absent while the ceremony's agents are in force. */
    agents?: Sealed<AgentsRecord>;
    to: AuditHead;
    proof: Buffer[];
  }): Promise<string>;
  /**
   * Says by which key checkpoints of the log `origin` are signed: a compact JWS by the delivery key, typ `ekms-audit-key+jws`. The key is this token's, whoever
   * asks (docs/formats/uses.md).
   */
  abstract vouchAuditKey(origin: string): Promise<string>;

  /** The last head of another appliance's log that this token cosigned, from its own memory; null before the first. */
  abstract witnessedHead(origin: string): Promise<AuditHead | null>;
  /**
   * Signs, as the witness `name`, that a head of another appliance's log extends all that was seen of it (https://c2sp.org/tlog-cosignature): the note's
   * signature line. Demands a consistency proof from the last head cosigned under that origin, which `from` names. Whose log it is, the caller has
   * seen. Codes: `head-forked`, `head-stale`, `cosigning-unable` (503) where the audit key is not Ed25519.
   */
  abstract cosign(ask: { name: string; from: AuditHead; to: AuditHead; proof: Buffer[] }): Promise<string>;

  /** Signs a message with EKMS's mail key: `signedAttrs` (DER SET) of a CMS SignedData. ECDSA as r ‖ s. */
  abstract signMail(message: Uint8Array): Promise<Buffer>;
  abstract sealBytes(plaintext: Uint8Array, context: string): Promise<Buffer>;
  abstract openBytes(sealed: Uint8Array, context: string): Promise<Buffer>;
}

/** Addresses that go into a certificate (RFC 5280 §4.2.1.13, §4.2.2.1): of an authority's first generation; those of the n-th are made of them. */
export interface AuthorityUrls {
  crl: string;
  issuer: string;
}
