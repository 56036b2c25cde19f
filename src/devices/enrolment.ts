import { createPublicKey, randomBytes, verify } from 'node:crypto';
import {
  type AppActor,
  type AppCredentials,
  auditActor,
  type Binding,
  type Budgets,
  type ClientVersions,
  type DeviceActor,
  type EmailChallenge,
  type Employees,
  type RowSeal,
  type SharedMailboxes,
  type StaffActor,
} from '../access/index.js';
import { certificateTimes, insertCertificate, type KeyIssuance, type PreparedKey, pem } from '../certificates/index.js';
import { thumbprint } from '../codec/jwk.js';
import { readCertificationRequest } from '../codec/x509/index.js';
import {
  type Address,
  type AuditActor,
  type AuditAttempt,
  type AuditLog,
  base64url,
  type Clock,
  canonicalJson,
  Fault,
  fromBase64,
  isFault,
  newId,
  newSerial,
  OneAtATime,
  orRefused,
  parseAddress,
  type Storage,
  sameBytes,
  sha256,
  type Unit,
} from '../foundation/index.js';
import { fulfil, intend } from '../storage/index.js';
import type { Authorities, AuthorityUrls, EnrolmentRecord, Token } from '../tokens/index.js';
import type { AddressOwners } from './address-owners.js';
import type { Announcement, Announcements } from './announcements.js';
import { requireDeliveryKey, sealNonce } from './delivery-key.js';
import type { DeviceRegistry } from './device-registry.js';
import {
  type Enrolment,
  type EnrolmentState,
  findEnrolment,
  insertEnrolment,
  moveEnrolment,
  type SecondProof,
  waitingEnrolments,
} from './enrolment-store.js';
import type { RegisteredDevices, RegistrationClaim } from './registered-devices.js';

export interface EnrolmentRequest {
  address: Address;
  /** PKCS#10, DER. */
  csr: Buffer;
  /** SPKI, DER. */
  delivery: Buffer;
  platform: string;
  /** Of the client, as it says itself. */
  version: string | undefined;
  name: string | null;
  /** Which registered machine it says it is. */
  registration: RegistrationClaim | undefined;
}

export interface EnrolmentAnswer {
  answer: string;
  /** r ‖ s by the identity key over the ASCII of `answer`. */
  signature: Buffer;
  /** The opened nonce. */
  nonce: Buffer;
}

export type AnswerOutcome =
  | { state: 'enrolled'; device: string; employee: string; certificates: string[] }
  | { state: 'waiting'; for: SecondProof };

export interface EnrolmentSettings {
  second: 'none' | SecondProof;
  domains: readonly string[];
  /** Times in which devices may be enrolled; none: always. */
  windows: readonly { from: string; to: string }[];
  /** SHA-256 of the root certificate, base64url. */
  server: string;
  deviceDays: number;
  urls: AuthorityUrls;
  authorities: Pick<Authorities, 'signerOf'>;
}

/** Wrong answers by the rightful identity key before an enrolment is closed. */
const ATTEMPTS = 5;
/** How long an answered enrolment may wait for its second proof, in milliseconds. */
const APPROVAL_TIME = 7 * 86_400_000;

/** Ways of signing in at the staff page that are more than control of the mailbox, and how fresh they must be, in milliseconds. */
const DIRECTORY_METHODS: readonly string[] = ['oidc', 'ldap'];
const FRESH = 10 * 60_000;

/** What an approval seals. */
const approval = (id: string) => ({ id, decision: 'approved' });

const spent = () => new Fault('conflict', 'enrolment-spent', 'this enrolment has been finished already; begin a new one');

function fulfilled<T>(settled: PromiseSettledResult<T>): T {
  if (settled.status === 'rejected') throw settled.reason;
  return settled.value;
}

/** Enrolment of a device by control of the mailbox (design §5, docs/formats/enrolment.md). */
export class EnrolmentDesk {
  readonly #byAddress = new OneAtATime();
  readonly #asking = new OneAtATime();

  constructor(
    private readonly parts: {
      storage: Storage;
      audit: AuditLog;
      token: Token;
      apps: AppCredentials;
      challenges: EmailChallenge;
      employees: Employees;
      mailboxes: SharedMailboxes;
      issuance: KeyIssuance;
      registry: DeviceRegistry;
      registered: RegisteredDevices;
      announcements: Announcements;
      budgets: Budgets;
      versions: ClientVersions;
      seal: RowSeal;
      clock: Clock;
      owners: AddressOwners | undefined;
    },
    private readonly settings: EnrolmentSettings,
  ) {}

  /** Known and unknown addresses go the same way and get the same answer. */
  async request(app: AppActor, ask: EnrolmentRequest): Promise<{ id: string; half: string; nonce: string; expiresAt: string }> {
    const { clock, storage, audit, challenges, token, registry, registered } = this.parts;
    const event = {
      action: 'enrolment.request',
      actor: auditActor(app),
      request: app.request.id,
      personal: { address: ask.address.key, network: app.request.network },
    } as const;
    return orRefused({ storage, audit }, event, async () => {
      if (!this.settings.domains.includes(ask.address.domain))
        throw new Fault('forbidden', 'domain-not-served', 'this appliance does not serve mail addresses of this domain');
      if (await this.parts.employees.isReserved(ask.address.key))
        throw new Fault('forbidden', 'address-reserved', 'this address is the organisation’s own: no device enrols with it');
      this.#requireOpen();
      this.parts.versions.require(app.platform, ask.version);
      requireDeliveryKey(ask.delivery);
      const spki = await readCertificationRequest(ask.csr);
      const jkt = thumbprint(spki);
      const deliveryDigest = sha256(ask.delivery);
      await this.parts.budgets.take(this.parts.budgets.ofChallenge(app, ask.address.key));
      const delivery = base64url(deliveryDigest);
      const registration = await registered.require(app, ask.registration, { address: ask.address.key, jkt, delivery });
      await registry.requireFresh(jkt, deliveryDigest);
      const id = newId();
      const half2 = base64url(randomBytes(16));
      const nonce = randomBytes(32);
      // Two at once would find no live challenge and send two mails.
      return this.#asking.run(ask.address.key, async () => {
        const challenge = await challenges.prepare(ask.address, id);
        const answer = base64url(
          sha256(
            canonicalJson({
              v: 1,
              enrolment: id,
              address: ask.address.key,
              half1: challenge.half,
              half2,
              jkt,
              delivery,
              server: this.settings.server,
            }),
          ),
        );
        const requested = clock.now().getTime();
        const record: EnrolmentRecord = {
          type: 'enrolment',
          id,
          version: 1,
          address: ask.address.key,
          answer: base64url(sha256(answer)),
          jkt,
          delivery,
          expires: challenge.expires + (this.settings.second === 'none' ? 0 : APPROVAL_TIME),
        };
        const sealed = await token.seal(record);
        await storage.write(async (unit) => {
          await this.parts.apps.spendNonce(unit, app);
          await challenges.insert(unit, challenge, ask.address, id);
          await insertEnrolment(unit, {
            sealed,
            shown: ask.address.shown,
            deliveryKey: ask.delivery,
            spki,
            nonceDigest: sha256(nonce),
            platform: ask.platform,
            name: ask.name,
            app: app.id,
            challenge: challenge.id,
            state: 'open',
            waitsFor: null,
            decision: null,
            registration: registration ?? null,
            registrationMac: registration ? registered.mac(id, registration) : null,
            attempts: 0,
            answerBy: challenge.expires,
            requested,
          });
          await audit.append(unit, { ...event, outcome: 'done', subject: id, facts: { platform: ask.platform } });
        });
        return {
          id,
          half: half2,
          nonce: sealNonce(ask.delivery, nonce).toString('base64'),
          expiresAt: new Date(challenge.expires).toISOString(),
        };
      });
    });
  }

  #requireOpen(): void {
    const { windows } = this.settings;
    const now = this.parts.clock.now().getTime();
    if (windows.length > 0 && !windows.some(({ from, to }) => Date.parse(from) <= now && now < Date.parse(to)))
      throw new Fault('forbidden', 'enrolment-closed', 'devices are enrolled at announced times only; ask your administrator for the next');
  }

  /** Exactly one of any number of right answers enrols the device; the others are `enrolment-spent`. */
  async answer(app: AppActor, id: string, given: EnrolmentAnswer): Promise<AnswerOutcome> {
    const { storage, audit } = this.parts;
    const event = {
      action: 'enrolment.answer',
      actor: auditActor(app),
      subject: id,
      request: app.request.id,
      personal: { network: app.request.network },
    } as const;
    return orRefused({ storage, audit }, event, async () => {
      const asked = await this.#require(app, id, given);
      // One answer at a time per address: whether a device is a person's first is judged where no other can become it meanwhile.
      return this.#byAddress.run<AnswerOutcome>(asked.sealed.record.address, async () => {
        const enrolment = await this.#ofPresentOwner(asked, () => this.#require(app, id, given));
        const { registration, registrationMac, sealed } = enrolment;
        await this.parts.registered.requireStill(app, id, registration, registrationMac, sealed.record.address);
        const waitsFor =
          enrolment.state === 'open'
            ? await this.#secondProof(enrolment)
            : enrolment.state === 'waiting'
              ? (enrolment.waitsFor ?? 'approval')
              : null;
        if (!waitsFor) return this.#finish(app, enrolment, given.answer);
        if (enrolment.state === 'open') await this.#wait(app, enrolment, waitsFor);
        return { state: 'waiting', for: waitsFor };
      });
    });
  }

  /** Asks whose the address is now; with a former owner ends what was begun under them, so the enrolment is looked at `again`. */
  async #ofPresentOwner(enrolment: Enrolment, again: () => Promise<Enrolment>): Promise<Enrolment> {
    if (!this.parts.owners || enrolment.state === 'waiting') return enrolment;
    await this.parts.owners.settle(parseAddress(enrolment.shown));
    return again();
  }

  /** What waits for a word from this person's devices. */
  async waitingFor(actor: DeviceActor): Promise<Enrolment[]> {
    return waitingEnrolments(this.parts.storage, 'device', await this.#addressesOf(actor.employee));
  }

  /** A device of the same person says yes or no to a further one. */
  async confirm(actor: DeviceActor, id: string, confirm: boolean): Promise<void> {
    const { storage, audit } = this.parts;
    const event = {
      action: 'enrolment.confirm',
      actor: auditActor(actor),
      device: actor.id,
      employee: actor.employee,
      subject: id,
      request: actor.request.id,
    } as const;
    await orRefused({ storage, audit }, event, async () => {
      const mine = (await this.waitingFor(actor)).some((enrolment) => enrolment.sealed.record.id === id);
      // Whatever the row says it waits for: by policy `approval` an administrator decides.
      if (!mine || this.settings.second !== 'device')
        throw new Fault('not-found', 'enrolment-unknown', 'no enrolment of this id waits for you');
      await this.#decide(id, confirm, { ...event, facts: { confirm } });
    });
  }

  /** What waits for this person to sign in by what their organisation vouches for. */
  async waitingForStaff(actor: StaffActor): Promise<Enrolment[]> {
    return waitingEnrolments(this.parts.storage, 'directory', [actor.address]);
  }

  /**
   * A person says yes or no at the staff page. Rejects with `directory-proof-needed` when they signed in by a mailed code, which proves no more
   * than the enrolment itself did, with `proof-needed` when they did so too long ago, with `enrolment-unknown`.
   */
  async decideAsStaff(actor: StaffActor, id: string, confirm: boolean): Promise<void> {
    const { storage, audit, clock } = this.parts;
    const event = {
      action: 'enrolment.confirm',
      actor: auditActor(actor),
      subject: id,
      request: actor.request.id,
      facts: { confirm, method: actor.session.method },
      personal: { address: actor.address, network: actor.request.network },
    } as const;
    await orRefused({ storage, audit }, event, async () => {
      if (!DIRECTORY_METHODS.includes(actor.session.method))
        throw new Fault('forbidden', 'directory-proof-needed', 'sign in with your organisation’s account for this, not by a mailed code');
      if (clock.now().getTime() - actor.session.proved > FRESH)
        throw new Fault('forbidden', 'proof-needed', 'you signed in too long ago for this: sign out, and in again');
      const mine = (await this.waitingForStaff(actor)).some((enrolment) => enrolment.sealed.record.id === id);
      if (!mine || this.settings.second !== 'directory')
        throw new Fault('not-found', 'enrolment-unknown', 'no enrolment of this id waits for you');
      await this.#decide(id, confirm, event);
    });
  }

  /** An administrator says yes or no. */
  async approve(id: string, approve: boolean, by: AuditActor): Promise<void> {
    await this.#decide(id, approve, { action: approve ? 'enrolment.approve' : 'enrolment.deny', actor: by, subject: id });
  }

  waiting(): Promise<Enrolment[]> {
    return waitingEnrolments(this.parts.storage, undefined);
  }

  async #decide(id: string, yes: boolean, event: AuditAttempt): Promise<void> {
    await this.parts.storage.write(async (unit) => {
      if (!(await moveEnrolment(unit, id, 'waiting', yes ? 'approved' : 'denied')))
        throw new Fault('not-found', 'enrolment-unknown', 'no enrolment of this id waits for a decision');
      if (yes) await unit.run('UPDATE enrolments SET decision = ? WHERE id = ?', [this.parts.seal.mac('enrolments', approval(id)), id]);
      await this.parts.audit.append(unit, { ...event, outcome: 'done' });
    });
  }

  async #addressesOf(employee: string): Promise<string[]> {
    return (await this.parts.employees.bindingsOf(employee)).map((binding) => binding.sealed.record.address);
  }

  /** The guards of an answer, in order: known, not over, in time, by the same app and identity key, right, and with the opened nonce. */
  async #require(app: AppActor, id: string, given: EnrolmentAnswer): Promise<Enrolment> {
    const enrolment = await findEnrolment(this.parts.storage, id);
    if (!enrolment || enrolment.app !== app.id) throw new Fault('not-found', 'enrolment-unknown', 'there is no such enrolment');
    if (enrolment.state === 'spent') throw spent();
    if (enrolment.state === 'denied')
      throw new Fault('forbidden', 'enrolment-denied', 'this enrolment was refused; begin a new one if it was you');
    const { record } = enrolment.sealed;
    const until = enrolment.state === 'open' ? enrolment.answerBy : record.expires;
    if (this.parts.clock.now().getTime() >= until)
      throw new Fault('gone', 'enrolment-expired', 'this enrolment has expired; begin a new one');
    const key = createPublicKey({ key: enrolment.spki, format: 'der', type: 'spki' });
    const signed = verify('sha256', Buffer.from(given.answer, 'ascii'), { key, dsaEncoding: 'ieee-p1363' }, given.signature);
    if (!signed) throw new Fault('forbidden', 'answer-wrong', 'the answer is not signed by the identity key of this enrolment');
    const digest = fromBase64(record.answer, 'base64url') ?? Buffer.alloc(0);
    if (!sameBytes(sha256(given.answer), digest) || !sameBytes(sha256(given.nonce), enrolment.nonceDigest)) {
      await this.#countWrong(enrolment);
      throw new Fault(
        'forbidden',
        'answer-wrong',
        'the answer does not fit: mailed half, returned half, keys and server must be those of this enrolment',
      );
    }
    // The state is a word in a row; that somebody said yes is sealed.
    const { decision } = enrolment;
    if (enrolment.state === 'approved' && !(decision && this.parts.seal.holds('enrolments', approval(id), decision)))
      throw new Fault('forbidden', 'decision-forged', 'the decision on this enrolment is not one that was made here');
    return enrolment;
  }

  async #countWrong(enrolment: Enrolment): Promise<void> {
    const { id } = enrolment.sealed.record;
    await this.parts.storage.write(async (unit) => {
      await unit.run('UPDATE enrolments SET attempts = attempts + 1 WHERE id = ?', [id]);
      if (enrolment.attempts + 1 >= ATTEMPTS) await moveEnrolment(unit, id, enrolment.state, 'denied');
    });
  }

  async #secondProof(enrolment: Enrolment): Promise<SecondProof | null> {
    if (this.settings.second === 'none') return null;
    if (this.settings.second === 'approval' || this.settings.second === 'directory') return this.settings.second;
    const binding = await this.parts.employees.bindingOf(enrolment.sealed.record.address);
    if (!binding) return null;
    const devices = await this.parts.registry.ofEmployee(binding.sealed.record.employee);
    // Former devices count too: whoever can have all of a person's devices ended must not become the "first" one.
    return devices.length > 0 ? 'device' : null;
  }

  /** Where a further device wants a second proof, one that came in without is still the first: others may have been judged so at the same moment. */
  async #requireFirst(unit: Unit, { state }: Enrolment, employee: string): Promise<void> {
    if (this.settings.second !== 'device' || state !== 'open') return;
    if (await unit.one('SELECT id FROM devices WHERE employee = ?', [employee]))
      throw new Fault('conflict', 'enrolment-spent', 'another device of yours was enrolled at the same moment; begin a new enrolment');
  }

  async #wait(app: AppActor, enrolment: Enrolment, waitsFor: SecondProof): Promise<void> {
    const { id } = enrolment.sealed.record;
    const mail = await this.parts.announcements.prepareWaiting(enrolment.shown, enrolment, waitsFor);
    await this.parts.storage.write(async (unit) => {
      await this.parts.apps.spendNonce(unit, app);
      if (!(await moveEnrolment(unit, id, 'open', 'waiting', waitsFor))) throw spent();
      await this.parts.announcements.queue(unit, mail);
      await this.parts.audit.append(unit, {
        action: 'enrolment.answer',
        outcome: 'done',
        actor: auditActor(app),
        subject: id,
        request: app.request.id,
        facts: { waits: waitsFor },
      });
    });
  }

  /** Intent committed → token signs → device, key, certificates, entries and announcement committed together → answer. */
  async #finish(app: AppActor, enrolment: Enrolment, answer: string): Promise<AnswerOutcome> {
    const { employees, mailboxes, issuance, token, announcements } = this.parts;
    const { address, id } = enrolment.sealed.record;
    const found = await employees.bindingOf(address);
    // Who reads a shared mailbox does so by their own name.
    if (found && (await mailboxes.isMailbox(found.sealed.record.employee)))
      throw new Fault('forbidden', 'mailbox-shared', 'this is a shared mailbox: enrol by your own address; whoever runs it lets you in');
    const binding = found ?? (await employees.propose({ key: address, shown: enrolment.shown }));
    const { employee } = binding.sealed.record;
    const needsKey = !found || !(await issuance.hasActiveKey(employee));
    const begun: BegunEnrolment = {
      enrolment: id,
      state: enrolment.state,
      binding: binding.sealed.record.id,
      device: newId(),
      serial: newSerial(),
      ...(needsKey ? { keySerial: newSerial() } : {}),
    };
    await this.#begin(app, enrolment, found ? { known: employee } : { proposed: binding }, begun);
    let prepared: PreparedKey | undefined;
    try {
      // Side by side, each waited for whatever becomes of the others: what was begun is settled below.
      const [device, key, told] = await Promise.allSettled([
        token.issueDevice({
          enrolment: enrolment.sealed,
          answer,
          binding: binding.sealed,
          device: begun.device,
          serial: begun.serial,
          spki: enrolment.spki,
          urls: this.settings.urls,
          days: this.settings.deviceDays,
        }),
        begun.keySerial ? issuance.prepare({ binding, serial: begun.keySerial }) : undefined,
        announcements.prepareEnrolled(enrolment.shown, enrolment),
      ]);
      if (key.status === 'fulfilled') prepared = key.value;
      const certificate = fulfilled(device);
      const announcement = fulfilled(told);
      fulfilled(key);
      // Before the device exists: what nobody could verify is no enrolment.
      const issuer = await this.settings.authorities.signerOf(certificate);
      await this.#complete(app, enrolment, binding, { ...begun, certificate, announcement, prepared });
      return { state: 'enrolled', device: begun.device, employee, certificates: [pem(certificate), pem(issuer.certificate)] };
    } catch (error) {
      await this.undo(begun);
      throw error;
    } finally {
      if (prepared) issuance.settled(prepared);
    }
  }

  /** @param known the employee, where the address is bound already; else `proposed` is the binding to be */
  async #begin(
    app: AppActor,
    enrolment: Enrolment,
    { known, proposed }: { known?: string; proposed?: Binding },
    begun: BegunEnrolment,
  ): Promise<void> {
    const { storage, apps, employees, budgets, registry, clock } = this.parts;
    const work = async (unit: Unit) => {
      await apps.spendNonce(unit, app);
      if (!(await moveEnrolment(unit, begun.enrolment, enrolment.state, 'spent'))) throw spent();
      if (known) await registry.requireRoom(unit, known);
      if (proposed) await employees.insert(unit, proposed, auditActor(app));
      await intend(unit, begun.device, 'enrol', { ...begun }, clock);
    };
    await budgets.within(budgets.ofEnrolment(app, known), (charge) =>
      storage.write(async (unit) => {
        await work(unit);
        await charge(unit);
      }),
    );
  }

  async #complete(
    app: AppActor,
    enrolment: Enrolment,
    binding: Binding,
    done: BegunEnrolment & { certificate: Buffer; announcement: Announcement; prepared: PreparedKey | undefined },
  ): Promise<void> {
    const { storage, audit, registry, registered, issuance, announcements, challenges } = this.parts;
    const { employee, address } = binding.sealed.record;
    const { device, serial, certificate, prepared } = done;
    const store = async (unit: Unit, key: PreparedKey | undefined) => {
      // Once more: since these were looked at, the address may have ended, and others may have come in by another address of this person.
      if (!(await isOpen(unit, binding.sealed.record.id)))
        throw new Fault('forbidden', 'binding-ended', 'this address ended while its device was enrolled');
      await this.#requireFirst(unit, enrolment, employee);
      await registry.requireRoom(unit, employee);
      await registry.insert(unit, {
        id: device,
        employee,
        certificate,
        serial,
        deliveryKey: enrolment.deliveryKey,
        jkt: enrolment.sealed.record.jkt,
        platform: enrolment.platform,
        name: enrolment.name,
        app: app.id,
      });
      const { registration } = enrolment;
      if (registration && registered.isAsked) await registered.take(unit, device, registration, address);
      await insertCertificate(unit, {
        serial,
        authority: 'devices',
        profile: 'device',
        der: certificate,
        ...certificateTimes(certificate),
        device,
        employee,
      });
      await audit.append(unit, {
        action: 'device.enrol',
        outcome: 'done',
        actor: auditActor(app),
        device,
        employee,
        subject: done.enrolment,
        request: app.request.id,
        facts: { serial, platform: enrolment.platform },
        personal: { address, network: app.request.network },
      });
      if (key) await issuance.insert(unit, key, auditActor(app));
      else if (done.keySerial && prepared) await issuance.disown(unit, done.keySerial, 'person');
      else if (done.keySerial) await issuance.wait(unit, employee);
      await announcements.insert(unit, done.announcement, device);
      await challenges.spend(unit, enrolment.challenge);
      await fulfil(unit, device);
    };
    try {
      await storage.write((unit) => store(unit, prepared));
    } catch (error) {
      // Another node gave this person a key in the same moment: the unique index decided, the device is enrolled all the same.
      if (!prepared || !isFault(error, 'duplicate')) throw error;
      await storage.write((unit) => store(unit, undefined));
    }
  }

  /** What was begun and not completed, by a fault or by a crash: serials that may have been signed are revoked, the enrolment may be tried again. */
  async undo(begun: BegunEnrolment): Promise<void> {
    const { storage, issuance } = this.parts;
    await storage.write(async (unit) => {
      if (await unit.one('SELECT id FROM devices WHERE id = ?', [begun.device])) return fulfil(unit, begun.device);
      await issuance.disown(unit, begun.serial, 'device');
      if (begun.keySerial) await issuance.disown(unit, begun.keySerial, 'person');
      // What was begun under a former owner of the address ends with them, as `endBinding` has it: nobody's yes counts for the next one.
      const isEnded = begun.binding !== undefined && !(await isOpen(unit, begun.binding));
      await moveEnrolment(unit, begun.enrolment, 'spent', isEnded ? 'denied' : begun.state);
      return fulfil(unit, begun.device);
    });
  }
}

/** Also of a binding that is proposed only: there is none to have ended. */
const isOpen = async (unit: Unit, binding: string): Promise<boolean> =>
  (await unit.one('SELECT id FROM bindings WHERE id = ? AND to_time IS NOT NULL', [binding])) === undefined;

export interface BegunEnrolment {
  enrolment: string;
  /** State that the enrolment had before. */
  state: EnrolmentState;
  /** Of the address to the employee; absent in what an older version left open. */
  binding?: string;
  device: string;
  serial: string;
  /** Of the encrypting certificate, when the person has no key yet. */
  keySerial?: string;
}
