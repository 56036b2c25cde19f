import type { Binding, DocumentReader, Employees } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  type Clock,
  Fault,
  isFault,
  newId,
  newSerial,
  type Storage,
  type Unit,
} from '../foundation/index.js';
import { KeyCertificates, KeyStore, OnePlace, type ReadyPool, requireLivingKek, type SecondPlace, type StoredKey } from '../keys/index.js';
import { fulfil, intend } from '../storage/index.js';
import type { Authorities, AuthorityUrls, HeldMode, KeyKind, KeyMode, Token } from '../tokens/index.js';
import { insertCertificate, markRevoked } from './certificate-store.js';
import { certificateTimes, pem } from './certificate-times.js';
import { isOnesOwn } from './one-by-one.js';

/** An address of the person, and the serial of the certificate to come, which the caller wrote down as an intent before. */
export interface Certifiable {
  binding: Binding;
  serial: string;
}

/** A key and its certificates, one for each address, made by the token and not stored yet. */
export interface PreparedKey {
  key: StoredKey;
  n: number;
  certificates: (Certifiable & { der: Buffer })[];
}

export interface KeyIssuanceSettings {
  mode: KeyMode;
  /** Life of an encrypting certificate in days. */
  personDays: number;
  urls: AuthorityUrls;
}

/** Whose list tells of what nobody has. */
const ISSUER = { person: 'people', device: 'devices', authority: 'root' } as const;

const isSameKind = (one: KeyKind, other: KeyKind): boolean => one.suite === other.suite && one.bits === other.bits;

/** Milliseconds until somebody whose key was refused is tried again: each try takes a serial, and leaves an entry. */
const REFUSED = 3_600_000;

/** PEM texts kept, about 1.5 KiB each. */
const KEPT_PEMS = 20_000;

/** Gives a person an encryption key: a pair from the pool and the certificate for it, both or none. */
export class KeyIssuance extends KeyCertificates {
  readonly #keys = new KeyStore();
  readonly #pems = new Map<string, string>();
  readonly #authorityPems = new WeakMap<Buffer, string>();
  #round: Promise<void> = Promise.resolve();
  /** When, by intent, in milliseconds since 1970. */
  readonly #refused = new Map<string, number>();

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly pool: ReadyPool,
    private readonly employees: Employees,
    private readonly clock: Clock,
    private readonly authorities: Authorities,
    private readonly settings: KeyIssuanceSettings,
    private readonly reader: Pick<DocumentReader, 'is'>,
    private readonly second: SecondPlace = new OnePlace(),
  ) {
    super();
  }

  async hasActiveKey(employee: string): Promise<boolean> {
    return (
      (await this.storage.one("SELECT id FROM keys WHERE employee = ? AND state IN ('active', 'suspended')", [employee])) !== undefined
    );
  }

  /** Takes a pair of the person's kind and has its certificates signed. Undefined: the pool is empty. */
  async prepare(first: Certifiable, ...further: Certifiable[]): Promise<PreparedKey | undefined> {
    const { employee } = first.binding.sealed.record;
    const { kind, ...wish } = await this.#wishOf(employee);
    const take = () => this.pool.take({ key: newId(), employee, ...wish }, kind);
    let taken = await take();
    if (!taken && !isSameKind(kind, this.pool.settings.kind)) {
      // The pool keeps pairs of one kind ready; of another, each is made when it is wanted.
      await this.pool.make(kind);
      taken = await take();
    }
    if (!taken) return undefined;
    try {
      const { urls, personDays: days } = this.settings;
      const { sealed: key, publicKey } = taken.key;
      const certified = async ({ binding, serial }: Certifiable) => {
        const { sealed, shown } = binding;
        return { binding, serial, der: await this.token.issuePerson({ key, binding: sealed, shown, publicKey, serial, urls, days }) };
      };
      const certificates = [await certified(first)];
      for (const one of further) certificates.push(await certified(one));
      for (const [n, { binding, serial, der: certificate }] of certificates.entries()) {
        const { address } = binding.sealed.record;
        if (n === 0) await this.second.given({ ...taken, binding, certificate });
        else await this.second.certified({ key: key.record.id, employee: key.record.employee, address, serial, certificate });
      }
      for (const { der } of certificates) await this.authorities.requireRevocable(der);
      return { ...taken, certificates };
    } catch (error) {
      this.pool.released(taken.n);
      throw error;
    }
  }

  /** Makes a pair of this person's kind unless there is one to spare: a renewal leaves half of the pool to those who enrol today. */
  async stock(employee: string): Promise<void> {
    const { kind } = await this.#wishOf(employee);
    const spared = isSameKind(kind, this.pool.settings.kind) ? this.pool.settings.target / 2 : 0;
    if ((await this.pool.level(kind)) <= spared) await this.pool.make(kind);
  }

  /** Rejects as the token does where it makes no pairs of this kind: asked before anybody is to have one. */
  async requireKind(kind: KeyKind): Promise<void> {
    if ((await this.pool.level(kind)) === 0) await this.pool.make(kind);
  }

  async #wishOf(employee: string): Promise<{ mode: HeldMode; kind: KeyKind; shared?: true }> {
    const row = await this.storage.one<{
      mode: HeldMode | null;
      suite: KeyKind['suite'] | null;
      bits: number | null;
      kind: string | null;
    }>('SELECT mode, suite, bits, kind FROM employees WHERE id = ?', [employee]);
    const { suite = null, bits = null } = row ?? {};
    // That only a quorum may use somebody's keys is not for a row to say.
    const own = row?.mode && row.mode !== 'quorum' ? row.mode : this.settings.mode;
    const mode = (await this.reader.is(employee)) ? 'quorum' : own;
    return {
      mode,
      ...(row?.kind === 'mailbox' ? { shared: true } : {}),
      kind: suite === null || bits === null ? this.pool.settings.kind : { suite, bits },
    };
  }

  /** Stores key and certificate, in the unit of whatever made the person get one. Rejects with `duplicate` when they have an active key by now, `binding-ended`, `kek-destroyed`. */
  async insert(unit: Unit, prepared: PreparedKey, by: AuditActor): Promise<void> {
    const { key, n, certificates } = prepared;
    const { record } = key.sealed;
    await requireLivingKek(unit, record.kek);
    await this.pool.remove(unit, n);
    await this.#keys.insert(unit, key, this.clock.now().getTime());
    const common = { outcome: 'done', actor: by, employee: record.employee } as const;
    await this.audit.append(unit, {
      ...common,
      action: 'key.assign',
      subject: record.id,
      facts: { n, publicKey: record.publicKey, mode: record.mode },
    });
    for (const { serial, der, binding } of certificates) {
      const { id, address } = binding.sealed.record;
      if (!(await unit.one('SELECT id FROM bindings WHERE id = ? AND to_time IS NULL', [id])))
        throw new Fault('conflict', 'binding-ended', 'this address ended while its certificate was signed');
      await insertCertificate(unit, {
        ...{ serial, authority: 'people', profile: 'person', der, ...certificateTimes(der) },
        ...{ key: record.id, employee: record.employee, address },
      });
      await this.audit.append(unit, { ...common, action: 'certificate.issue', subject: serial, personal: { address } });
    }
  }

  /** Ends the pool's reservation; call when `insert` was committed or given up. */
  settled(prepared: PreparedKey): void {
    this.pool.released(prepared.n);
  }

  /** A serial that may have been signed and was never stored: known from now on, and revoked. */
  async disown(unit: Unit, serial: string, profile: 'person' | 'device' | 'authority'): Promise<void> {
    const now = this.clock.now().getTime();
    const known = await unit.one('SELECT serial FROM certificates WHERE serial = ?', [serial]);
    if (known) return;
    await insertCertificate(unit, {
      serial,
      authority: ISSUER[profile],
      profile,
      der: Buffer.alloc(0),
      notBefore: now,
      notAfter: now,
    });
    await markRevoked(unit, serial, profile === 'authority' ? 'cACompromise' : 'cessationOfOperation', now);
    await this.audit.append(unit, {
      action: 'certificate.revoke',
      outcome: 'done',
      reason: 'never-delivered',
      actor: { kind: 'system' },
      subject: serial,
    });
  }

  /** Remembers that this employee waits for a key; `serveWaiting` gives it. */
  async wait(unit: Unit, employee: string): Promise<void> {
    // A second device may come while the first still waits: they wait for the same key.
    if (await unit.one('SELECT id FROM intents WHERE id = ?', [`key:${employee}`])) return;
    await intend(unit, `key:${employee}`, 'give-key', { employee }, this.clock);
    await this.audit.append(unit, { action: 'key.pending', outcome: 'done', actor: { kind: 'system' }, employee });
  }

  override async isPending(employee: string): Promise<boolean> {
    return (await this.storage.one('SELECT id FROM intents WHERE id = ?', [`key:${employee}`])) !== undefined;
  }

  /** Gives keys to those who wait, oldest first, while the pool lasts. One round at a time; a call during a round is followed by one more. */
  async serveWaiting(): Promise<void> {
    this.#round = this.#round.then(
      () => this.#serveRound(),
      () => this.#serveRound(),
    );
    await this.#round;
  }

  async #serveRound(): Promise<void> {
    // Who was stopped meanwhile waits until they return; the token would refuse them, and nobody else waits for that.
    const waiting = await this.storage.all<{ id: string; body: string; suite: KeyKind['suite'] | null; bits: number | null }>(
      `SELECT i.id AS "id", i.body AS "body", e.suite AS "suite", e.bits AS "bits" FROM intents i LEFT JOIN employees e ON e.id = SUBSTR(i.id, 5)
       WHERE i.kind = 'give-key' AND (e.state IS NULL OR e.state = 'active') ORDER BY i.created, i.id`,
    );
    const { kind } = this.pool.settings;
    let isEmpty = false;
    for (const { id, body, suite, bits } of waiting) {
      const isPooled = suite === null || bits === null || isSameKind({ suite, bits }, kind);
      // A pair of another kind is made when it is wanted, whatever is ready here.
      if (isPooled && !isEmpty) isEmpty = (await this.pool.level()) === 0;
      if ((isPooled && isEmpty) || this.#isRefused(id)) continue;
      const { employee, serial } = JSON.parse(body) as { employee: string; serial?: string }; // only this class writes these intents
      try {
        if (!(await this.#serve(id, employee, serial)) && isPooled) isEmpty = true;
      } catch (error) {
        if (!isFault(error) || !isOnesOwn(error)) throw error;
        // One whose key the token cannot make keeps nobody else from theirs, and the appliance from no start.
        this.#refused.set(id, this.clock.now().getTime());
        const event = { action: 'key.assign', outcome: 'refused', reason: error.code, actor: { kind: 'system' }, employee } as const;
        await this.storage.write((unit) => this.audit.append(unit, event));
      }
    }
  }

  #isRefused(intent: string): boolean {
    const since = this.#refused.get(intent);
    if (since === undefined) return false;
    const isYoung = this.clock.now().getTime() - since < REFUSED;
    if (!isYoung) this.#refused.delete(intent);
    return isYoung;
  }

  /** `before`: the serial of an earlier try that a crash cut off; it may have been signed. Each try has a serial of its own, written down first. */
  async #serve(intent: string, employee: string, before: string | undefined): Promise<boolean> {
    const [binding] = await this.employees.bindingsOf(employee);
    const needless = !binding || (await this.hasActiveKey(employee));
    const serial = newSerial();
    await this.storage.write(async (unit) => {
      if (before) await this.disown(unit, before, 'person');
      if (needless) await fulfil(unit, intent);
      else await unit.run('UPDATE intents SET body = ? WHERE id = ?', [JSON.stringify({ employee, serial }), intent]);
    });
    if (!binding || needless) return true;
    const prepared = await this.prepare({ binding, serial });
    if (!prepared) return false;
    try {
      await this.storage.write(async (unit) => {
        await this.insert(unit, prepared, { kind: 'system' });
        await fulfil(unit, intent);
      });
    } catch (error) {
      if (!isFault(error, 'duplicate')) throw error;
      // Another node was faster; this certificate was signed and is nobody's.
      await this.storage.write((unit) => this.disown(unit, serial, 'person'));
    } finally {
      this.settled(prepared);
    }
    return true;
  }

  override async ofEmployee(employee: string): Promise<Map<string, string[]>> {
    const rows = await this.storage.all<{ serial: string; subject_key: string; not_before: number; authority: string }>(
      'SELECT serial, subject_key, not_before, authority FROM certificates WHERE employee = ? AND subject_key IS NOT NULL',
      [employee],
    );
    rows.sort((a, b) => b.not_before - a.not_before || (a.serial < b.serial ? -1 : 1));
    const chains = new Map<string, string[]>();
    const issuers = new Map<string, Set<string>>();
    for (const { serial, subject_key: key, authority } of rows) {
      chains.set(key, [...(chains.get(key) ?? []), await this.#pemOf(serial)]);
      issuers.set(key, (issuers.get(key) ?? new Set()).add(authority));
    }
    for (const [key, chain] of chains) for (const id of issuers.get(key) ?? []) chain.push(...(await this.#authorityPem(id)));
    return chains;
  }

  async #authorityPem(id: string): Promise<string[]> {
    const authority = await this.authorities.find(id);
    if (!authority) return [];
    let text = this.#authorityPems.get(authority.certificate);
    if (text === undefined) {
      text = pem(authority.certificate);
      this.#authorityPems.set(authority.certificate, text);
    }
    return [text];
  }

  /** A certificate never changes under its serial, so its PEM is kept; whose it is, and whether it is listed, is asked each time. */
  async #pemOf(serial: string): Promise<string> {
    let text = this.#pems.get(serial);
    if (text === undefined) {
      const row = await this.storage.one<{ der: Buffer }>('SELECT der FROM certificates WHERE serial = ?', [serial]);
      text = pem(row?.der ?? Buffer.alloc(0));
      if (this.#pems.size >= KEPT_PEMS) this.#pems.clear();
      this.#pems.set(serial, text);
    }
    return text;
  }
}
