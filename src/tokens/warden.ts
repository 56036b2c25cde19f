import { createPublicKey } from 'node:crypto';
import { envelopedKey, parseEnvelopedKey } from '../codec/cms/index.js';
import { thumbprint } from '../codec/jwk.js';
import { checkpointText, cosignedText, encodeNoteKey, keyId, signatureLine, verifyConsistency } from '../codec/merkle/index.js';
import {
  certificateRevocationList,
  deviceCertificate,
  type Issuer,
  mailSigningCertificate,
  personCertificate,
  readDeviceCertificate,
  type TrustedDevice,
  tlsServerCertificate,
  validity,
} from '../codec/x509/index.js';
import {
  base64url,
  type Clock,
  canonicalJson,
  Fault,
  fromBase64,
  type Json,
  parseAddress,
  sameBytes,
  sha256,
} from '../foundation/index.js';
import { requireAccepted } from './acceptance.js';
import { type AuthorityCertificates, authorityId, firstAuthorities, issuerAmong, signerOf, urlsOf } from './authorities.js';
import { foreignKeys } from './foreign-keys.js';
import type { Hsm, StoredPair, WrappedPair } from './hsm.js';
import { hashOf, logKey, signedCheckpoint, treeHead } from './log-signatures.js';
import {
  AGENTS_ID,
  type AgentsRecord,
  type FoundRecord,
  type KeyRecord,
  type KeyState,
  type MemberRecord,
  macInput,
  NEXT_KEY_STATE,
  READABLE,
  type Sealed,
  type SealedRecord,
} from './records.js';
import { agentsOf, applianceName, appointmentBytes, type RecoveryAgents, requireApproved, requireQuorum } from './recovery.js';
import type {
  AdoptTo,
  AuditHead,
  Authority,
  AuthorityName,
  AuthorityUrls,
  DeviceEvidence,
  ForeignKey,
  ForeignKeys,
  StatementKind,
  TransferKey,
} from './token.js';
import { requireTransfer, transferBytes } from './transfer.js';
import { acceptedKey, requireOwner, transferAcceptanceBytes } from './transfer-acceptance.js';
import { type Asks, parseAsk } from './warden-asks.js';

/** What must hold in the journal before an answer may leave the token process; checked there, after the token acted and before anything is said. */
export type Claim =
  /** Nothing later than this version of the record is known; a later one is remembered from now on. */
  | { kind: 'version'; id: string; version: number }
  /** This device, employee, recovery case or transfer is not blocked. */
  | { kind: 'open'; id: string; code: string }
  /** This employee's keys are not on legal hold. */
  | { kind: 'free'; id: string }
  /** `from` is the last head of the audit log that was signed; `to` is from now on. Number `by` of the log's keys signed it, the one in service. */
  | { kind: 'head'; from: AuditHead; to: AuditHead; by: number }
  /** `from` is the last head of that log which was cosigned; `to` is from now on. */
  | { kind: 'witnessed'; from: AuditHead; to: AuditHead };

export interface Verdict {
  claims: Claim[];
  value: unknown;
}

/** Longest life by profile, in days: what a stolen moment of asking may leave behind. */
const INFRASTRUCTURE_DAYS = { 'tls-server': 8, 'mail-signing': 400 } as const;

/** Of keys that other appliances seal to. */
const TRANSFER_KIND = { suite: 'rsa', bits: 3072 } as const;

/** Digest of no bytes. */
const NOTHING = base64url(sha256(Buffer.alloc(0)));

/** Verified certificates that are kept, so that a device's signature is not computed anew at each release. */
const KEPT_DEVICES = 20_000;
const forbidden = (code: string, message: string) => new Fault('forbidden', code, message);

/**
 * Decides what the token does, inside the token process: the API asks, the warden answers only to what it sealed itself and to devices
 * whose certificate it verified itself. Every verb of `Token` that touches keys is here; docs/formats/sealed-records.md says what the MACs cover.
 */
export class Warden {
  readonly #devices = new Map<string, TrustedDevice>();
  /** `x5c` of what the delivery key signs. */
  readonly #chain: string[];
  /** The JWS header of every delivery signature, encoded. */
  readonly #deliveryHeader: string;

  constructor(
    private readonly hsm: Hsm,
    private readonly authorities: AuthorityCertificates,
    private readonly clock: Clock,
    /** Whom the ceremony named. */
    private readonly ceremonyAgents?: RecoveryAgents | undefined,
    /** Which of the log's keys is in service. */
    private readonly auditKey = 1,
    /** Of the authorities, those that went before and are trusted still among them. */
    private readonly generations: readonly Authority[] = firstAuthorities(authorities),
  ) {
    const { certificate } = issuerAmong(this.#trustedOf('infrastructure'), authorities.delivery) ?? {
      certificate: authorities.infrastructure,
    };
    this.#chain = [authorities.delivery, certificate].map((der) => der.toString('base64'));
    this.#deliveryHeader = base64url(Buffer.from(canonicalJson({ alg: 'ES256', typ: 'ekms-delivery+jws', x5c: this.#chain })));
  }

  async run(op: string, args: unknown): Promise<Verdict> {
    const ask = parseAsk(op, args);
    switch (ask.op) {
      case 'makePair':
        return verdict(this.#makePair(ask.args));
      case 'assign':
        return this.#assign(ask.args);
      case 'changeKey':
        return this.#changeKey(ask.args);
      case 'seal':
        return this.#seal(ask.args);
      case 'raise':
        return this.#claimed(ask.args.sealed);
      case 'release':
        return this.#release(ask.args);
      case 'decrypt':
        return this.#decrypt(ask.args);
      case 'issueDevice':
        return this.#issueDevice(ask.args);
      case 'issuePerson':
        return this.#issuePerson(ask.args);
      case 'issueInfrastructure':
        return verdict(await this.#issueInfrastructure(ask.args));
      case 'issueCrl':
        return verdict(await this.#issueCrl(ask.args));
      case 'renew':
        return this.#renew(ask.args);
      case 'look':
        return verdict(this.#look(ask.args));
      case 'adopt':
        return verdict(this.#stamp(imported(this.#genuine(ask.args.found), ask.args.to)));
      case 'makeTransferKey':
        return verdict(this.#makeTransferKey(ask.args));
      case 'transferOut':
        return this.#transferOut(ask.args);
      case 'takeIn':
        return this.#takeIn(ask.args);
      case 'appoint':
        return this.#appoint(ask.args);
      case 'recover':
        return this.#recover(ask.args);
      case 'attest':
        return verdict(this.#attest(ask.args));
      case 'signHead':
        return this.#signHead(ask.args);
      case 'beginOrigin':
        return this.#beginOrigin(ask.args);
      case 'vouchAuditKey':
        return verdict(this.#vouchAuditKey(ask.args.origin));
      case 'cosign':
        return this.#cosign(ask.args);
      case 'signMail':
        return verdict(this.hsm.sign('mail', ask.args.message));
      case 'sealBytes':
        return verdict(this.hsm.seal(ask.args.plaintext, ask.args.context));
      case 'openBytes':
        return verdict(this.hsm.open(ask.args.sealed, ask.args.context));
    }
  }

  #stamp<R extends SealedRecord>(record: R): Sealed<R> {
    return { record, mac: this.hsm.mac(macInput(record)) };
  }

  /** The first guard of every verb that takes a record: a record that this token did not seal is nobody's. */
  #genuine<R extends SealedRecord>(sealed: Sealed<R>): R {
    if (!sameBytes(this.hsm.mac(macInput(sealed.record)), sealed.mac))
      throw forbidden('record-forged', `this ${sealed.record.type} record was not sealed by this token, or was changed since`);
    return sealed.record;
  }

  #claimed(sealed: Sealed<Extract<SealedRecord, { version: number }>>): Verdict {
    const record = this.#genuine(sealed);
    return { claims: [{ kind: 'version', id: record.id, version: record.version }], value: null };
  }

  #makePair(ask: Asks['makePair']) {
    const { publicKey, wrapped, kek } = this.hsm.generatePair(ask.kind);
    const record = {
      type: 'pool',
      n: ask.n,
      ...ask.kind,
      kek,
      publicKey: base64url(sha256(publicKey)),
      wrapped: base64url(sha256(wrapped)),
    } as const;
    return { pair: this.#stamp(record), publicKey, wrapped };
  }

  #assign(ask: Asks['assign']): Verdict {
    const { n: _, type: __, ...pair } = this.#genuine(ask.pair);
    const { key, ...owner } = ask.to;
    const record: KeyRecord = { ...pair, type: 'key', id: key, version: 1, state: 'active', ...owner };
    return verdict(this.#stamp(record), { kind: 'open', id: owner.employee, code: 'employee-blocked' });
  }

  /** A PKCS#12 file is opened here, so that its keys are in no other process. */
  #look({ file, phrase, take }: Asks['look']): ForeignKeys {
    return foreignKeys(file, phrase, ({ keys, certificates }) => {
      const told = keys.map(({ pkcs8, ...said }): ForeignKey => {
        if (!pkcs8 || !take) return said;
        const pair = this.hsm.adopt(pkcs8);
        return { ...said, found: { sealed: this.#stamp(foundRecord(pair, said.bits)), wrapped: pair.wrapped } };
      });
      return { keys: told, certificates };
    });
  }

  #makeTransferKey({ id, expires }: Asks['makeTransferKey']): TransferKey {
    const { publicKey, wrapped, kek } = this.hsm.generatePair(TRANSFER_KIND);
    const digests = { publicKey: base64url(sha256(publicKey)), wrapped: base64url(sha256(wrapped)) };
    const record = { type: 'transfer', id, version: 1, bits: TRANSFER_KIND.bits, kek, ...digests, expires } as const;
    return { sealed: this.#stamp(record), publicKey, wrapped };
  }

  /**
   * A person's key for whoever holds the one key that a quorum of the agents signed. Not for a device: the request names what it is sealed to by digest,
   * so nobody puts another in its place.
   */
  #transferOut({ request, approvals, recipient, ...ask }: Asks['transferOut']): Verdict {
    const { agents, claim } = this.#agents(ask.agents);
    requireTransfer(transferBytes(request), request, approvals, agents, this.clock.now());
    if (request.appliance !== applianceName(this.authorities.root))
      throw forbidden('transfer-foreign', 'this transfer was approved for another appliance');
    if (!fits(recipient, request.to)) throw forbidden('transfer-foreign', 'this transfer was approved for another recipient');
    const record = this.#genuine(ask.key);
    if (request.employees && !request.employees.includes(record.employee))
      throw forbidden('transfer-foreign', 'this transfer was approved for other people’s keys');
    const pair = this.#pairOf(record, ask.blob);
    const sealed = this.hsm.rewrap(pair, recipient);
    const claims: Claim[] = [
      claim,
      { kind: 'version', id: record.id, version: record.version },
      { kind: 'open', id: request.transfer, code: 'transfer-ended' },
    ];
    return verdict(envelopedKey({ ...sealed, deliveryKey: recipient }), ...claims);
  }

  /** The blob that this record was sealed for, of a key that is not destroyed. */
  #pairOf(record: KeyRecord, blob: { wrapped: Buffer; publicKey: Buffer }): StoredPair {
    if (!fits(blob.wrapped, record.wrapped) || !fits(blob.publicKey, record.publicKey))
      throw forbidden('blob-forged', 'the wrapped key is not the one that this record was sealed for');
    if (record.state === 'destroyed') throw forbidden('key-not-deliverable', 'a destroyed key is not released');
    return { ...blob, kek: record.kek, kind: { suite: record.suite, bits: record.bits } };
  }

  /**
   * What another appliance sealed to a transfer key of ours; it is in no process, and in the clear in no memory but the token's. Only a line that a quorum of
   * the agents accepted, and for whom they did: whoever could say whose it becomes could read with it.
   */
  #takeIn({ transferKey, blob, accepted, to }: Asks['takeIn']): Verdict {
    const { acceptance, approvals } = accepted;
    const { agents, claim } = this.#agents(accepted.agents);
    requireTransfer(transferAcceptanceBytes(acceptance), acceptance, approvals, agents, this.clock.now());
    if (acceptance.appliance !== applianceName(this.authorities.root))
      throw forbidden('transfer-foreign', 'this transfer was accepted for another appliance');
    const sent = acceptedKey(accepted);
    const binding = accepted.binding && this.#genuine(accepted.binding);
    requireOwner(accepted, sent, { ...to, binding });
    if (sent.quorum && to.mode !== 'quorum') throw forbidden('transfer-not-accepted', 'this key is a quorum’s there, and so here');
    if (sent.state === 'destroyed') throw forbidden('key-not-deliverable', 'it was destroyed where it comes from');
    const record = this.#genuine(transferKey);
    if (record.expires <= this.clock.now().getTime()) throw new Fault('gone', 'transfer-expired', 'the time of this transfer key is over');
    if (!fits(blob.wrapped, record.wrapped) || !fits(blob.publicKey, record.publicKey))
      throw forbidden('blob-forged', 'the wrapped key is not the one that this record was sealed for');
    const content = parseEnvelopedKey(Buffer.from(sent.content, 'base64'));
    const received = this.hsm.receive({ ...blob, kek: record.kek, kind: TRANSFER_KIND }, content);
    if (!sameBytes(received.publicKey, Buffer.from(sent.publicKey, 'base64')))
      throw forbidden('key-foreign', 'the key that was sent is not the one that it is said to be');
    const bits = createPublicKey({ key: received.publicKey, format: 'der', type: 'spki' }).asymmetricKeyDetails?.modulusLength ?? 0;
    // Whoever could not read with it there, or knew it to be in other hands, is not told otherwise here.
    const state = sent.state === 'suspended' || sent.state === 'compromised' ? sent.state : 'deactivated';
    const key = this.#stamp(imported(foundRecord(received, bits), to, state));
    const claims: Claim[] = [claim, { kind: 'open', id: acceptance.acceptance, code: 'transfer-ended' }];
    if (binding) claims.push({ kind: 'version', id: binding.id, version: binding.version });
    return verdict({ key, publicKey: received.publicKey, wrapped: received.wrapped }, ...claims);
  }

  #changeKey(ask: Asks['changeKey']): Verdict {
    const record = this.#genuine(ask.key);
    const { state = record.state, mode = record.mode } = ask.to;
    if (state !== record.state && !(NEXT_KEY_STATE[record.state] as readonly string[]).includes(state))
      throw new Fault('conflict', 'key-state', `a key that is ${record.state} cannot become ${state}`);
    if (state === 'active' && record.origin === 'imported')
      throw new Fault('conflict', 'key-state', 'a key that came from outside is for reading only: it does not become active');
    // What was delivered stays delivered: a key that devices have held is never called remote afterwards; the person gets a new one.
    if (mode === 'remote' && record.mode === 'deliver')
      throw new Fault('conflict', 'key-mode', 'a delivered key cannot become remote; make a new key');
    if (record.mode === 'quorum' && mode !== record.mode)
      throw new Fault('conflict', 'key-mode', 'a key that only a quorum may use stays one');
    // Of a destroyed key the record names no wrapped key any more, so a blob that is put back fits nothing.
    const wrapped = state === 'destroyed' ? NOTHING : record.wrapped;
    const next: KeyRecord = { ...record, version: record.version + 1, state, mode, wrapped };
    const claims: Claim[] = [{ kind: 'version', id: record.id, version: record.version }];
    if (state === 'destroyed') claims.push({ kind: 'free', id: record.employee });
    return verdict(this.#stamp(next), ...claims);
  }

  #seal(ask: Asks['seal']): Verdict {
    const { record, predecessor } = ask;
    const before = predecessor && this.#genuine(predecessor);
    const follows = before
      ? before.type === record.type && before.id === record.id && before.version + 1 === record.version && keeps(before, record)
      : record.version === 1;
    if (!follows) throw forbidden('record-forged', `this ${record.type} record does not follow from the one before it`);
    return before
      ? verdict(this.#stamp(record), { kind: 'version', id: before.id, version: before.version })
      : verdict(this.#stamp(record));
  }

  /** Device, record and blob must fit one another; the claims that remain are the journal's. */
  #authorise(
    ask: Asks['release'],
    mode: KeyRecord['mode'],
  ): { claims: Claim[]; pair: StoredPair; record: KeyRecord; device: TrustedDevice } {
    const record = this.#genuine(ask.key);
    const device = this.#trusted(ask.device);
    const membership = device.employee === record.employee ? [] : this.#membership(record, device, ask.member);
    if (!fits(ask.blob.wrapped, record.wrapped) || !fits(ask.blob.publicKey, record.publicKey))
      throw forbidden('blob-forged', 'the wrapped key is not the one that this record was sealed for');
    if (!READABLE.includes(record.state)) throw forbidden('key-not-deliverable', `a ${record.state} key is not released`);
    if (record.mode !== mode) throw forbidden('key-not-deliverable', `this key's mode is ${record.mode}`);
    const pair = { ...ask.blob, kek: record.kek, kind: { suite: record.suite, bits: record.bits } };
    const claims: Claim[] = [
      { kind: 'version', id: record.id, version: record.version },
      { kind: 'open', id: device.device, code: 'device-blocked' },
      { kind: 'open', id: device.employee, code: 'employee-blocked' },
      ...membership,
    ];
    return { claims, pair, record, device };
  }

  /** A device of somebody else gets a key only if that was born as a shared mailbox's, and its person is a member now. */
  #membership(key: KeyRecord, device: TrustedDevice, sealed: Sealed<MemberRecord> | undefined): Claim[] {
    if (!sealed || !key.shared) throw forbidden('not-the-owner', 'this key belongs to another employee');
    const member = this.#genuine(sealed);
    if (member.mailbox !== key.employee || member.employee !== device.employee || member.to !== null)
      throw forbidden('not-the-owner', 'this key is of a mailbox that the device’s person does not read');
    return [
      { kind: 'version', id: member.id, version: member.version },
      { kind: 'open', id: key.employee, code: 'employee-blocked' },
    ];
  }

  #trustedOf(name: AuthorityName): Authority[] {
    return this.generations.filter((each) => each.name === name && each.state !== 'retired');
  }

  #trusted(evidence: DeviceEvidence): TrustedDevice {
    const digest = base64url(sha256(evidence.certificate));
    let device = this.#devices.get(digest);
    if (!device) {
      device = readDeviceCertificate(
        evidence.certificate,
        this.#trustedOf('devices').map((each) => each.certificate),
      );
      if (this.#devices.size >= KEPT_DEVICES) this.#devices.clear();
      this.#devices.set(digest, device);
    }
    const now = this.clock.now();
    if (now < device.notBefore || now >= device.notAfter) throw forbidden('device-untrusted', 'the device certificate is not valid now');
    if (!sameBytes(sha256(evidence.deliveryKey), device.delivery))
      throw forbidden('delivery-key-foreign', 'the delivery key is not the one that the device certificate names');
    return device;
  }

  #release(ask: Asks['release']): Verdict {
    const { claims, pair, record, device } = this.#authorise(ask, 'deliver');
    const { encryptedKey, content, oaepHash } = this.hsm.rewrap(pair, ask.device.deliveryKey);
    const delivery = envelopedKey({ encryptedKey, content, oaepHash, deliveryKey: ask.device.deliveryKey });
    const signature = this.#signDelivery({
      v: 1,
      delivery: base64url(sha256(delivery)),
      device: device.device,
      key: record.id,
      publicKey: record.publicKey,
      time: this.clock.now().toISOString(),
    });
    return { claims, value: { delivery, signature } };
  }

  /** The list in force: the latest that was appointed, which the journal knows, or the ceremony's where there was none. */
  #agents(sealed?: Sealed<AgentsRecord>): { agents: RecoveryAgents | undefined; claim: Claim } {
    const record = sealed && this.#genuine(sealed);
    return {
      agents: record ? agentsOf(record.list) : this.ceremonyAgents,
      claim: { kind: 'version', id: AGENTS_ID, version: record?.version ?? 1 },
    };
  }

  /** Other agents, or other keys of theirs: what a quorum of those in force signed, for this appliance and as the next version. */
  #appoint({ appointment, approvals, before }: Asks['appoint']): Verdict {
    const { agents, claim } = this.#agents(before);
    requireQuorum(appointmentBytes(appointment), approvals, agents);
    const { appliance, version, list } = appointment;
    if (appliance !== applianceName(this.authorities.root)) throw forbidden('recovery-foreign', 'this list is for another appliance');
    if (version !== (before?.record.version ?? 1) + 1)
      throw new Fault('conflict', 'record-stale', 'this list does not follow the one in force: draw it up anew');
    return verdict(this.#stamp({ type: 'agents', id: AGENTS_ID, version, list }), claim);
  }

  /**
   * A person's key, or one mail's content key, for another's device: only with the signatures of a quorum of the agents whom the ceremony named,
   * over the very request that names key, device and end. What the API believes of the case counts for nothing here.
   */
  #recover(ask: Asks['recover']): Verdict {
    const { request, approvals, mail } = ask;
    const { agents, claim } = this.#agents(ask.agents);
    requireApproved(request, approvals, agents, this.clock.now());
    const record = this.#genuine(ask.key);
    const device = this.#trusted(ask.device);
    if (device.device !== request.device) throw forbidden('recovery-foreign', 'this case was approved for another device');
    // Who is to read a mailbox for a time reads what comes meanwhile, so its later keys count too.
    if (record.employee !== request.employee || !(request.reading || request.keys.includes(record.id)))
      throw forbidden('recovery-foreign', 'this case was approved for other keys');
    const pair = this.#pairOf(record, ask.blob);
    const claims: Claim[] = [
      claim,
      { kind: 'version', id: record.id, version: record.version },
      { kind: 'open', id: device.device, code: 'device-blocked' },
      { kind: 'open', id: device.employee, code: 'employee-blocked' },
      { kind: 'open', id: request.case, code: 'recovery-ended' },
    ];
    if (request.reading) {
      // One message's content key at a time: whoever reads for a time has nothing left when it is over.
      if (!mail) throw forbidden('recovery-foreign', 'this case is for reading one message at a time: it gives no key');
    } else if ((mail === undefined) !== (request.message === undefined) || (mail && !fits(mail.encryptedKey, request.message ?? '')))
      throw forbidden('recovery-foreign', 'this case was approved for another message');
    if (mail) return { claims, value: this.hsm.transport(pair, mail.scheme, mail.encryptedKey, mail.length, ask.device.deliveryKey) };
    const { encryptedKey, content, oaepHash } = this.hsm.rewrap(pair, ask.device.deliveryKey);
    return { claims, value: { delivery: envelopedKey({ encryptedKey, content, oaepHash, deliveryKey: ask.device.deliveryKey }) } };
  }

  /**
   * The same record over the same key, wrapped under the KEK in service. Its version stays: old and new say the same, and whoever read the old row a moment
   * ago is still served. The old one ends with its KEK.
   */
  #renew({ sealed, blob }: Asks['renew']): Verdict {
    const record = this.#genuine(sealed);
    if (!fits(blob.wrapped, record.wrapped) || !fits(blob.publicKey, record.publicKey))
      throw forbidden('blob-forged', 'the wrapped key is not the one that this record was sealed for');
    // Nothing is left of it to be wrapped anew.
    if (record.wrapped === NOTHING) return verdict({ sealed: this.#stamp({ ...record, kek: this.hsm.activeKek }), wrapped: blob.wrapped });
    const { wrapped, kek } = this.hsm.renew({ ...blob, kek: record.kek, kind: { suite: record.suite, bits: record.bits } });
    const value = { sealed: this.#stamp({ ...record, kek, wrapped: base64url(sha256(wrapped)) }), wrapped };
    return record.type === 'key' ? verdict(value, { kind: 'version', id: record.id, version: record.version }) : verdict(value);
  }

  /** Compact JWS (RFC 7515 §7.1), ES256; the token's r ‖ s is JWS's own form. */
  #signDelivery(payload: Record<string, string | number>): string {
    const input = `${this.#deliveryHeader}.${base64url(Buffer.from(canonicalJson(payload)))}`;
    return `${input}.${base64url(this.hsm.sign('delivery', Buffer.from(input)))}`;
  }

  /** The type in the signed header says what this is, so that no statement passes for a delivery's signature. */
  #attest({ kind, statement }: Asks['attest']): string {
    return this.#statement(kind, statement);
  }

  #statement(kind: StatementKind | 'audit-key', statement: Readonly<Record<string, Json>>): string {
    const header = base64url(Buffer.from(canonicalJson({ alg: 'ES256', typ: `ekms-${kind}+jws`, x5c: this.#chain })));
    const payload = base64url(Buffer.from(canonicalJson({ ...statement, v: 1, time: this.clock.now().toISOString() })));
    return `${header}.${payload}.${base64url(this.hsm.sign('delivery', Buffer.from(`${header}.${payload}`)))}`;
  }

  #decrypt(ask: Asks['decrypt']): Verdict {
    const { claims, pair } = this.#authorise(ask, 'remote');
    return { claims, value: this.hsm.transport(pair, ask.ask.scheme, ask.ask.encryptedKey, ask.ask.length, ask.device.deliveryKey) };
  }

  /** Which generation signs what is new is decided here, and with it the addresses in what it signs: nobody who asks has to know. */
  #issuer(name: AuthorityName, urls: AuthorityUrls): Issuer {
    const n = this.generations.find((each) => each.name === name && each.state === 'serving')?.n ?? 1;
    return { certificate: this.authorities[name], signer: signerOf(this.hsm, name), urls: urlsOf(urls, n) };
  }

  async #issueDevice(ask: Asks['issueDevice']): Promise<Verdict> {
    const enrolment = this.#genuine(ask.enrolment);
    const binding = this.#genuine(ask.binding);
    const now = this.clock.now();
    if (enrolment.expires <= now.getTime()) throw new Fault('gone', 'enrolment-expired', 'this enrolment has expired');
    if (!fits(Buffer.from(ask.answer), enrolment.answer)) throw forbidden('answer-wrong', 'the answer does not fit this enrolment');
    if (thumbprint(ask.spki) !== enrolment.jkt) throw forbidden('answer-wrong', 'the identity key is not the one of this enrolment');
    if (binding.address !== enrolment.address || binding.to !== null)
      throw forbidden('binding-ended', 'the address is not bound to this employee');
    const delivery = fromBase64(enrolment.delivery, 'base64url');
    if (delivery?.length !== 32) throw forbidden('record-forged', 'the enrolment names no delivery key');
    const subject = { serial: ask.serial, publicKey: ask.spki, ...validity(now, ask.days) };
    const value = await deviceCertificate(
      this.#issuer('devices', ask.urls),
      { device: ask.device, employee: binding.employee, delivery },
      subject,
    );
    return verdict(
      value,
      { kind: 'version', id: binding.id, version: binding.version },
      { kind: 'version', id: enrolment.id, version: enrolment.version },
      { kind: 'open', id: binding.employee, code: 'employee-blocked' },
    );
  }

  async #issuePerson(ask: Asks['issuePerson']): Promise<Verdict> {
    const key = this.#genuine(ask.key);
    const binding = this.#genuine(ask.binding);
    if (key.state !== 'active') throw new Fault('conflict', 'key-state', `a ${key.state} key gets no certificate`);
    if (binding.employee !== key.employee || binding.to !== null)
      throw forbidden('not-the-owner', 'key and address are not of one employee');
    if (parseAddress(ask.shown).key !== binding.address) throw forbidden('not-the-owner', 'the address is not the one that is bound');
    if (!fits(ask.publicKey, key.publicKey))
      throw forbidden('blob-forged', 'the public key is not the one that this record was sealed for');
    const subject = { serial: ask.serial, publicKey: ask.publicKey, ...validity(this.clock.now(), ask.days) };
    const value = await personCertificate(this.#issuer('people', ask.urls), ask.shown, subject);
    return verdict(
      value,
      { kind: 'version', id: key.id, version: key.version },
      { kind: 'version', id: binding.id, version: binding.version },
    );
  }

  async #issueInfrastructure(ask: Asks['issueInfrastructure']): Promise<Buffer> {
    const most = INFRASTRUCTURE_DAYS[ask.profile];
    if (ask.days > most) throw forbidden('infrastructure-refused', `a ${ask.profile} certificate lives no longer than ${most} days`);
    // EKMS's mail is signed by the token's own mail key, so nothing else is ever certified for it.
    if (ask.profile === 'mail-signing' && !sameBytes(ask.spki, this.hsm.publicKey('mail')))
      throw forbidden('infrastructure-refused', 'a mail-signing certificate is for the token’s mail key only');
    const issuer = this.#issuer('infrastructure', ask.urls);
    const subject = { serial: ask.serial, publicKey: ask.spki, ...validity(this.clock.now(), ask.days) };
    return ask.profile === 'tls-server'
      ? tlsServerCertificate(issuer, ask.names, subject)
      : mailSigningCertificate(issuer, ask.names[0] ?? '', subject);
  }

  /** Nothing but what extends the last head gets a signature, whoever asks: the proof is judged here, and the journal says which head was the last. */
  #signHead({ from, to, proof }: Asks['signHead']): Verdict {
    const extending = from.origin === to.origin && verifyConsistency(hashOf, treeHead(from), treeHead(to), proof);
    if (!extending) throw forbidden('head-forked', 'this head of the audit log does not extend the last one that was signed');
    return verdict(signedCheckpoint(this.hsm, to), { kind: 'head', from, to, by: this.auditKey });
  }

  /**
   * A second log, under another name, only with the signatures of a quorum of the recovery agents in force (two at least) over this very acceptance:
   * which head the token remembers, what is lost, and what is kept, which the new log extends.
   */
  #beginOrigin({ acceptance, approvals, to, proof, ...ask }: Asks['beginOrigin']): Verdict {
    const { agents, claim } = this.#agents(ask.agents);
    requireAccepted(acceptance, approvals, agents, this.clock.now());
    const { signed, kept, origin } = acceptance;
    if (to.origin !== origin || !verifyConsistency(hashOf, treeHead({ ...kept, origin }), treeHead(to), proof))
      throw forbidden('head-forked', 'this head does not extend what was accepted');
    return verdict(signedCheckpoint(this.hsm, to), claim, { kind: 'head', from: signed, to, by: this.auditKey });
  }

  /**
   * A witness forgets nothing: what it cosigned of another's log is in the journal, and only what extends that is cosigned next. The text is made here, and
   * begins as no checkpoint does.
   */
  #cosign({ name, from, to, proof }: Asks['cosign']): Verdict {
    const { type, publicKey } = logKey(this.hsm, name);
    if (type !== 'ed25519')
      throw new Fault('unavailable', 'cosigning-unable', 'cosignatures are by Ed25519, which this token does not have');
    const extending = from.origin === to.origin && verifyConsistency(hashOf, treeHead(from), treeHead(to), proof);
    if (!extending) throw forbidden('head-forked', 'this head does not extend the last one of that log that was seen');
    const seconds = Math.floor(this.clock.now().getTime() / 1000);
    const text = cosignedText(seconds, checkpointText({ origin: to.origin, ...treeHead(to) }));
    const signature = Buffer.alloc(8);
    signature.writeBigUInt64BE(BigInt(seconds));
    const id = keyId(hashOf, { name, type: 'cosignature', publicKey });
    const line = signatureLine({ name, keyId: id, signature: Buffer.concat([signature, this.hsm.sign('audit', Buffer.from(text))]) });
    return verdict(line, { kind: 'witnessed', from, to });
  }

  /** What it says is made here: no caller has another key taken for that of the log. */
  #vouchAuditKey(origin: string): string {
    return this.#statement('audit-key', { key: encodeNoteKey(hashOf, logKey(this.hsm, origin)) });
  }

  /** By the key that signed the certificates that it lists, whichever serves now. */
  async #issueCrl(ask: Asks['issueCrl']): Promise<Buffer> {
    const authority = this.generations.find(({ name, n }) => name === ask.authority && n === ask.n);
    if (!authority)
      throw new Fault('not-found', 'authority-unknown', `there is no authority ${authorityId({ name: ask.authority, n: ask.n })}`);
    if (authority.state === 'retired') throw new Fault('gone', 'authority-retired', `${authorityId(authority)} signs nothing any more`);
    const { notAfter: nextUpdate } = validity(this.clock.now(), ask.days);
    const { certificate, name, n, state } = authority;
    const signer = state === 'serving' ? signerOf(this.hsm, name) : signerOf(this.hsm, name, n);
    return certificateRevocationList(
      { certificate, signer },
      {
        number: ask.number,
        thisUpdate: this.clock.now(),
        nextUpdate,
        entries: ask.entries.map((entry) => ({ ...entry, revokedAt: new Date(entry.revokedAt) })),
      },
    );
  }
}

const verdict = (value: unknown, ...claims: Claim[]): Verdict => ({ claims, value });
const fits = (bytes: Uint8Array, digest: string): boolean => base64url(sha256(bytes)) === digest;

function foundRecord({ publicKey, wrapped, kek }: WrappedPair, bits: number): FoundRecord {
  return { type: 'found', suite: 'rsa', bits, kek, publicKey: base64url(sha256(publicKey)), wrapped: base64url(sha256(wrapped)) };
}

/** For reading old mail only: nobody is to encrypt to a key that others may hold. */
function imported(
  { type: _, ...pair }: FoundRecord,
  { key, employee, mode, shared }: AdoptTo,
  state: Extract<KeyState, 'suspended' | 'deactivated' | 'compromised'> = 'deactivated',
): KeyRecord {
  const of = { type: 'key', id: key, version: 1, employee } as const;
  return { ...of, ...pair, state, mode, origin: 'imported', ...(shared ? { shared } : {}) };
}

/**
 * What never changes between versions: a membership only ends; a binding keeps employee, address and start, and its directory id once it has one, and what has ended
 * stays ended; an enrolment keeps everything.
 */
function keeps(before: SealedRecord, after: SealedRecord): boolean {
  if (before.type === 'member' && after.type === 'member')
    return before.to === null && before.mailbox === after.mailbox && before.employee === after.employee && before.from === after.from;
  if (before.type !== 'binding' || after.type !== 'binding' || before.to !== null) return false;
  const same = before.employee === after.employee && before.address === after.address && before.from === after.from;
  return same && (before.directory === undefined || before.directory === after.directory);
}
