import { X509Certificate } from 'node:crypto';
import type { Budgets, DeviceActor, Employees } from '../access/index.js';
import {
  type AuditActor,
  type AuditEvent,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  newId,
  orRefused,
  type Reader,
  type Receipt,
  type Storage,
} from '../foundation/index.js';
import { type KeyCertificates, KeyStore, type RemoteDecryption } from '../keys/index.js';
import type { Mailer } from '../mail/index.js';
import { fulfil, intend } from '../storage/index.js';
import {
  isApproval,
  type OaepHash,
  READING_DAYS,
  RECOVERY_DAYS,
  type RecoveryApproval,
  type RecoveryRequest,
  recoveryBytes,
  recoveryDigest,
  recoveryRequest,
  type Token,
} from '../tokens/index.js';
import type { RecoveryAgentRegister } from './recovery-agents.js';
import { sign, signaturesOf } from './recovery-signatures.js';

const DAY = 86_400_000;
/** Longest time in days that the person may be left unaware, if a quorum signs that. */
const QUIET_DAYS = 366;

export interface RecoveryAsk {
  /** Whose keys. */
  employee: string;
  /** Id of the enrolled device that gets them. */
  device: string;
  reason: RecoveryRequest['reason'];
  reference: string;
  /** Days until the case ends. */
  days: number;
  /** Somebody is to read this person's mailbox until then, one message at a time. */
  reading?: boolean | undefined;
  /** Of which keys; without it, of all that are not destroyed. */
  keys?: readonly string[] | undefined;
  /** Only keys with a certificate that was valid at some time in here; ms since 1970. */
  period?: { from: number; to: number } | undefined;
  /** The one mail that is to be opened: its recipients by certificate serial (hexadecimal), each with SHA-256 (base64url) of their encrypted key. */
  message?: readonly { serial: string; digest: string }[] | undefined;
  /** Milliseconds since 1970: the person hears of it then, not at once. */
  quietUntil?: number | undefined;
}

export interface FiledCase {
  case: string;
  /** What each agent signs, base64. */
  sign: string;
  request: RecoveryRequest;
  quorum: number;
}

/** A case as the device that its keys are sealed to sees it. */
export interface OpenCase {
  case: string;
  expires: number;
  /** SHA-256 of the encrypted key of the one mail that it is about. */
  message: string | null;
  /** Any message of the person, one at a time. */
  reading: boolean;
  approvals: number;
  quorum: number;
  /** Certificates: PEM leaves, newest first, then the issuing authority. */
  keys: { id: string; suite: string; state: string; certificates: string[] }[];
}

/** What one release gives: a person's key as CMS for the device, or the content key of one mail under RSA-OAEP. */
export type Recovered = { delivery: Buffer } | { wrapped: Buffer; hash: OaepHash };

interface CaseRow {
  id: string;
  request: string;
  ended: number | null;
}

/** Who has the token seal something, for the entry. `reader`: whose device it is, where that is said. */
interface From {
  actor: AuditActor;
  request?: string;
  personal?: { network: string };
  reader?: string;
}

interface Parts {
  storage: Storage;
  audit: AuditLog;
  token: Token;
  employees: Employees;
  certificates: KeyCertificates;
  agents: RecoveryAgentRegister;
  mail: Mailer;
  clock: Clock;
  budgets: Budgets;
}

/**
 * Recovery of a person's keys by several people (docs/formats/recovery.md): filed with reason and scope, approved by signatures of the recovery agents,
 * released by the token to one device, which verifies every signature itself. Each step is an entry, and the person is told.
 */
export class RecoveryCases {
  readonly #keys = new KeyStore();

  constructor(private readonly parts: Parts) {}

  async file(ask: RecoveryAsk, by: AuditActor): Promise<FiledCase> {
    const { storage, audit, clock, agents } = this.parts;
    const event = { action: 'recovery.file', actor: by, employee: ask.employee, device: ask.device } as const;
    return orRefused({ storage, audit }, event, async () => {
      const { quorum } = (await agents.inForce()).agents;
      const now = clock.now().getTime();
      const most = ask.reading ? READING_DAYS : RECOVERY_DAYS;
      if (ask.days < 1 || ask.days > most) throw new Fault('malformed', 'recovery-malformed', `such a case lasts 1 to ${most} days`);
      if (ask.reading && (ask.message || ask.keys || ask.period))
        throw new Fault(
          'malformed',
          'recovery-malformed',
          'who reads a mailbox reads all of it until the case ends: no message, keys or period go with that',
        );
      if (ask.quietUntil !== undefined && !(ask.quietUntil > now && ask.quietUntil <= now + QUIET_DAYS * DAY))
        throw new Fault('malformed', 'recovery-malformed', `the person is told within ${QUIET_DAYS} days, and not before now`);
      const device = await storage.one<{ state: string }>('SELECT state FROM devices WHERE id = ?', [ask.device]);
      if (device?.state !== 'active')
        throw new Fault('not-found', 'device-unknown', 'keys are sealed to an enrolled device that is active; there is none of this id');
      const known = recoveryRequest.safeParse({
        v: 1,
        case: newId(),
        employee: ask.employee,
        ...(await this.#scope(ask)),
        device: ask.device,
        reason: ask.reason,
        reference: ask.reference,
        expires: now + ask.days * DAY,
        ...(ask.reading ? { reading: true } : {}),
        ...(ask.quietUntil === undefined ? {} : { quietUntil: ask.quietUntil }),
      });
      if (!known.success)
        throw new Fault('malformed', 'recovery-malformed', `${known.error.issues[0]?.path.join('.')}: ${known.error.issues[0]?.message}`);
      const request = known.data;
      await storage.write(async (unit) => {
        await unit.run('INSERT INTO recovery_cases (id, request, employee, device, created, expires) VALUES (?, ?, ?, ?, ?, ?)', [
          request.case,
          JSON.stringify(request),
          request.employee,
          request.device,
          now,
          request.expires,
        ]);
        await audit.append(unit, {
          ...event,
          outcome: 'done',
          subject: request.case,
          facts: {
            ...{ request: digestOf(request), reason: request.reason, keys: request.keys.length },
            ...{ message: request.message !== undefined, quiet: request.quietUntil !== undefined, reading: request.reading === true },
          },
        });
      });
      return { case: request.case, sign: recoveryBytes(request).toString('base64'), request, quorum };
    });
  }

  /** Takes one agent's signature. Throws `approval-invalid`, `recovery-expired`. The token looks at it again when it releases. */
  async approve(id: string, approval: RecoveryApproval, by: AuditActor): Promise<{ approvals: number; quorum: number }> {
    const { storage, audit, clock } = this.parts;
    const event = { action: 'recovery.approve', actor: by, subject: id } as const;
    return orRefused({ storage, audit }, event, async () => {
      const request = await this.#case(storage, id);
      const { agents } = await this.parts.agents.inForce();
      if (request.expires <= clock.now().getTime())
        throw new Fault('gone', 'recovery-expired', 'the time of this recovery case is over: file it anew');
      if (!isApproval(recoveryBytes(request), approval, agents))
        throw new Fault('forbidden', 'approval-invalid', 'this is not the signature of that recovery agent over this request');
      const approvals = await storage.write(async (unit) => {
        const count = await sign(unit, id, approval, clock.now().getTime());
        await audit.append(unit, {
          ...event,
          outcome: 'done',
          employee: request.employee,
          device: request.device,
          facts: { request: digestOf(request), approvals: count },
        });
        return count;
      });
      return { approvals, quorum: agents.quorum };
    });
  }

  /** Has the token seal all that the case names to its device. */
  async release(id: string, mail: RemoteDecryption | undefined, by: AuditActor): Promise<({ key: string } & Recovered)[]> {
    const { storage, audit } = this.parts;
    return orRefused({ storage, audit }, { action: 'recovery.release', actor: by, subject: id }, async () => {
      const request = await this.#case(storage, id);
      return (await this.#release(request, request.keys, mail, { actor: by })).map(({ receipt: _, ...one }) => one);
    });
  }

  /** One key of a case, or its one mail's content key, for the device that the case names and that asks. Throws `recovery-unknown` for any other. */
  async open(actor: DeviceActor, id: string, key: string, mail: RemoteDecryption | undefined): Promise<Recovered & { receipt: Receipt }> {
    const { storage, audit } = this.parts;
    const { request: asked } = actor;
    const from = { actor: { kind: 'device', id: actor.id }, request: asked.id, personal: { network: asked.network } } as const;
    return orRefused({ storage, audit }, { action: 'recovery.release', ...from, device: actor.id, subject: id }, async () => {
      const request = await this.#case(storage, id);
      if (request.device !== actor.id || !(request.reading || request.keys.includes(key))) throw unknown();
      if (request.reading) {
        await this.parts.budgets.take(this.parts.budgets.ofDevice('decryptions', actor));
        const [one] = await this.#release(request, [key], mail, { ...from, reader: actor.employee });
        if (!one) throw unknown();
        return one;
      }
      const [one] = await this.#release(request, [key], mail, from);
      if (!one) throw unknown();
      return one;
    });
  }

  /**
   * Takes a case back: from the next request on nothing is sealed for it, whatever was approved. Taking away is one person's. Throws `recovery-unknown`,
   * `recovery-ended`.
   */
  async end(id: string, by: AuditActor): Promise<void> {
    const { storage, audit, clock } = this.parts;
    await orRefused({ storage, audit }, { action: 'recovery.end', actor: by, subject: id }, async () => {
      const request = await this.#case(storage, id);
      await storage.write(async (unit) => {
        const sql = 'UPDATE recovery_cases SET ended = ? WHERE id = ? AND ended IS NULL';
        if ((await unit.run(sql, [clock.now().getTime(), id])) === 0)
          throw new Fault('conflict', 'recovery-ended', 'this case was taken back before');
        await audit.append(unit, {
          ...{ action: 'recovery.end', outcome: 'done', actor: by, employee: request.employee, device: request.device, subject: id },
        });
        await intend(unit, id, 'end-case', {}, clock);
      });
    });
    await this.settleEnd(id);
  }

  /** Tells the token process that a case was taken back; also run at start for what a crash cut off. */
  async settleEnd(id: string): Promise<void> {
    await this.parts.token.block(id);
    await this.parts.storage.write((unit) => fulfil(unit, id));
  }

  /** After a restore: the token process hears of every case that was taken back. */
  async tellTokenAll(): Promise<void> {
    for (const { id } of await this.parts.storage.all<{ id: string }>('SELECT id FROM recovery_cases WHERE ended IS NOT NULL'))
      await this.parts.token.block(id);
  }

  /** Cases for this device whose time is not over, newest first. */
  async ofDevice(actor: DeviceActor): Promise<OpenCase[]> {
    const { storage, clock, certificates } = this.parts;
    const rows = await storage.all<CaseRow>(
      'SELECT id, request FROM recovery_cases WHERE device = ? AND expires > ? AND ended IS NULL ORDER BY created DESC, id LIMIT 50',
      [actor.id, clock.now().getTime()],
    );
    if (rows.length === 0) return [];
    const { agents } = await this.parts.agents.inForce();
    return Promise.all(
      rows.map(async (row) => {
        const request = requestOf(row);
        const chains = await certificates.ofEmployee(request.employee);
        const named = request.reading ? await this.#keysOf(request.employee) : request.keys;
        const keys = await Promise.all(named.map((key) => this.#keys.find(storage, key)));
        return {
          ...{ case: row.id, expires: request.expires, message: request.message ?? null, quorum: agents.quorum },
          reading: request.reading === true,
          approvals: (await signaturesOf(storage, row.id)).length,
          keys: keys.flatMap((key) => {
            if (!key) return [];
            const { id, suite, state } = key.sealed.record;
            return [{ id, suite, state, certificates: chains.get(id) ?? [] }];
          }),
        };
      }),
    );
  }

  async list(): Promise<{ case: string; request: RecoveryRequest; challenge: string; approvals: string[]; ended: number | null }[]> {
    const { storage } = this.parts;
    const rows = await storage.all<CaseRow>('SELECT id, request, ended FROM recovery_cases ORDER BY created DESC, id LIMIT 200');
    return Promise.all(
      rows.map(async (row) => ({
        case: row.id,
        request: requestOf(row),
        ended: row.ended === null ? null : Number(row.ended),
        challenge: digestOf(requestOf(row)),
        approvals: (await signaturesOf(storage, row.id)).map(({ agent }) => agent),
      })),
    );
  }

  /** The keys that are asked for, and the digest of the one mail. */
  async #scope(ask: RecoveryAsk): Promise<{ keys: string[]; message?: string }> {
    const { storage } = this.parts;
    const all = (await this.#keysOf(ask.employee)).map((id) => ({ id }));
    if (ask.message) {
      const imported = await this.#importedOf(ask.employee);
      for (const { serial, digest } of ask.message) {
        const row = await storage.one<{ key: string }>(
          'SELECT subject_key AS "key" FROM certificates WHERE serial = ? AND employee = ? AND subject_key IS NOT NULL',
          [serial, ask.employee],
        );
        const key = row?.key ?? imported.find((one) => one.serial === serial)?.key;
        if (key !== undefined && all.some(({ id }) => id === key)) return { keys: [key], message: digest };
      }
      throw new Fault('not-found', 'key-unknown', 'none of the recipients that this mail names is a certificate of this person');
    }
    const within = ask.period && new Set(await this.#keysWithin(ask.employee, ask.period));
    const keys = ask.keys ?? all.map(({ id }) => id).filter((id) => !within || within.has(id));
    if (keys.length === 0 || keys.some((key) => !all.some(({ id }) => id === key)))
      throw new Fault('not-found', 'key-unknown', 'this person has no such key');
    return { keys: [...keys] };
  }

  async #keysOf(employee: string): Promise<string[]> {
    const sql = "SELECT id FROM keys WHERE employee = ? AND state <> 'destroyed' ORDER BY created, id";
    return (await this.parts.storage.all<{ id: string }>(sql, [employee])).map(({ id }) => id);
  }

  /** Certificates of keys that came from outside; their serials are other authorities'. */
  async #importedOf(employee: string): Promise<{ serial: string; key: string }[]> {
    const rows = await this.parts.storage.all<{ der: Buffer; key: string }>(
      `SELECT der, subject_key AS "key" FROM certificates WHERE employee = ? AND profile = 'imported'`,
      [employee],
    );
    return rows.map(({ der, key }) => ({ serial: new X509Certificate(der).serialNumber.toLowerCase(), key }));
  }

  async #keysWithin(employee: string, { from, to }: { from: number; to: number }): Promise<string[]> {
    const rows = await this.parts.storage.all<{ key: string }>(
      `SELECT DISTINCT subject_key AS "key" FROM certificates WHERE employee = ? AND subject_key IS NOT NULL AND not_before <= ? AND not_after >= ?
       AND (revoked_at IS NULL OR revoked_at >= ?)`,
      [employee, to, from, from],
    );
    return rows.map(({ key }) => key);
  }

  /** The person is told by mail in the unit that keeps the entries of the first release, or at the time that the agents signed. */
  async #release(
    request: RecoveryRequest,
    keys: readonly string[],
    mail: RemoteDecryption | undefined,
    { reader, ...from }: From,
  ): Promise<({ key: string; receipt: Receipt } & Recovered)[]> {
    const { storage, audit, token, clock } = this.parts;
    const approvals = await signaturesOf(storage, request.case);
    const { sealed: agents } = await this.parts.agents.inForce();
    const device = await this.#device(request.device);
    const released: ({ key: string } & Recovered)[] = [];
    for (const keyId of keys) {
      const key = await this.#keys.find(storage, keyId);
      if (!key) throw new Fault('not-found', 'key-unknown', 'a key of this case is gone');
      const blob = { wrapped: key.wrapped, publicKey: key.publicKey };
      const ask = { request, approvals, key: key.sealed, blob, device, ...(agents ? { agents } : {}), ...(mail ? { mail } : {}) };
      const given = await token.recover(ask);
      released.push({
        key: keyId,
        ...('delivery' in given ? { delivery: given.delivery } : { wrapped: given.encryptedKey, hash: given.oaepHash }),
      });
    }
    const notices = await this.#notices(request, reader);
    const [binding] = reader === undefined ? [] : await this.parts.employees.bindingsOf(reader);
    const common = {
      ...{ outcome: 'done' as const, ...from, employee: request.employee, device: request.device, subject: request.case },
      // What the quorum signed keeps the mail back, and what the entry says too.
      ...(request.quietUntil !== undefined && request.quietUntil > clock.now().getTime() ? { sealedUntil: request.quietUntil } : {}),
    };
    return storage.write(async (unit) => {
      const out = [];
      for (const one of released) {
        const { key } = one;
        const digest = digestOf(request);
        const event: AuditEvent =
          reader === undefined
            ? { ...common, action: 'recovery.release', key, facts: { request: digest, message: request.message !== undefined } }
            : {
                ...{ ...common, action: 'key.read', key, facts: { request: digest, reader, length: mail?.length ?? 0 } },
                personal: { ...from.personal, ...(binding ? { reader: binding.shown } : {}) },
              };
        out.push({ ...one, receipt: await audit.append(unit, event) });
      }
      const isFirst = await unit.run('UPDATE recovery_cases SET told = ? WHERE id = ? AND told IS NULL', [
        clock.now().getTime(),
        request.case,
      ]);
      if (isFirst) for (const notice of notices) await this.parts.mail.enqueue(unit, notice, request.quietUntil);
      return out;
    });
  }

  async #case(reader: Reader, id: string): Promise<RecoveryRequest> {
    const row = await reader.one<CaseRow>('SELECT id, request, ended FROM recovery_cases WHERE id = ?', [id]);
    if (!row) throw unknown();
    return requestOf(row);
  }

  async #device(id: string) {
    const row = await this.parts.storage.one<{ delivery_key: Buffer; der: Buffer }>(
      "SELECT d.delivery_key, c.der FROM devices d JOIN certificates c ON c.device = d.id AND c.serial = d.serial WHERE d.id = ? AND d.state = 'active'",
      [id],
    );
    if (!row) throw new Fault('not-found', 'device-unknown', 'the device of this case is not active any more');
    return { certificate: row.der, deliveryKey: row.delivery_key };
  }

  async #notices(request: RecoveryRequest, reader: string | undefined) {
    const { employees, mail, clock } = this.parts;
    const bindings = await employees.bindingsOf(request.employee);
    const [who] = reader === undefined ? [] : await employees.bindingsOf(reader);
    const what = request.reading
      ? `${who?.shown ?? 'Another device'} may read your encrypted mail until ${new Date(request.expires).toISOString()}; that was`
      : request.message === undefined
        ? 'Your encryption keys were'
        : 'One of your encrypted messages was';
    const done = request.reading ? 'approved' : 'recovered';
    return Promise.all(
      bindings.map(({ shown }) =>
        mail.prepare({
          kind: 'announcement',
          to: shown,
          subject: request.reading
            ? 'Somebody may read your encrypted mail for a time'
            : 'Your organisation recovered encryption keys of yours',
          text: `${what} ${done} by the recovery agents of your organisation.\n\n  Case: ${request.case}\n  Reason: ${request.reason}\n  Time: ${clock.now().toISOString()}\n\nIf you do not know why, ask your data protection officer and name the case.\n`,
          expires: Math.max(request.quietUntil ?? 0, clock.now().getTime()) + 30 * DAY,
        }),
      ),
    );
  }
}

const unknown = () => new Fault('not-found', 'recovery-unknown', 'there is no recovery case of this id');
const requestOf = (row: CaseRow): RecoveryRequest => JSON.parse(row.request) as RecoveryRequest; // the token parses and verifies it; a changed one has no signatures
const digestOf = (request: RecoveryRequest): string => base64url(recoveryDigest(request));
