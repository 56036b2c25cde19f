import type { Employees } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  newId,
  orRefused,
  type Reader,
  type Storage,
} from '../foundation/index.js';
import { KeyStore } from '../keys/index.js';
import type { Mailer } from '../mail/index.js';
import {
  isApproval,
  parsePackage,
  RECOVERY_DAYS,
  type RecoveryRequest,
  recoveryBytes,
  recoveryDigest,
  recoveryRequest,
  type Token,
  type TransportScheme,
} from '../tokens/index.js';

const DAY = 86_400_000;

export interface RecoveryAsk {
  /** Whose keys. */
  employee: string;
  /** Id of the enrolled device that gets them. */
  device: string;
  reason: RecoveryRequest['reason'];
  reference: string;
  /** Days until the case ends. */
  days: number;
  /** Of which keys; without it, of all that are not destroyed. */
  keys?: readonly string[] | undefined;
  /** SHA-256 (base64url) of the encrypted key of the one mail that is to be opened. */
  message?: string | undefined;
}

export interface FiledCase {
  case: string;
  /** What each agent signs, base64. */
  sign: string;
  request: RecoveryRequest;
  quorum: number;
}

interface CaseRow {
  id: string;
  request: string;
}

/**
 * Recovery of a person's keys by several people (docs/formats/recovery.md): filed with reason and scope, approved by signatures of the agents whom the
 * ceremony named, released by the token to one device, which verifies every signature itself. Each step is an entry, and the person is told.
 */
export class RecoveryCases {
  readonly #keys = new KeyStore();

  constructor(
    private readonly parts: { storage: Storage; audit: AuditLog; token: Token; employees: Employees; mail: Mailer; clock: Clock },
  ) {}

  async file(ask: RecoveryAsk, by: AuditActor): Promise<FiledCase> {
    const { storage, audit, clock } = this.parts;
    const event = { action: 'recovery.file', actor: by, employee: ask.employee, device: ask.device } as const;
    return orRefused({ storage, audit }, event, async () => {
      const { quorum } = await this.#agents();
      if (ask.days < 1 || ask.days > RECOVERY_DAYS)
        throw new Fault('malformed', 'recovery-malformed', `a recovery case lasts 1 to ${RECOVERY_DAYS} days`);
      const device = await storage.one<{ state: string }>('SELECT state FROM devices WHERE id = ?', [ask.device]);
      if (device?.state !== 'active')
        throw new Fault('not-found', 'device-unknown', 'keys are sealed to an enrolled device that is active; there is none of this id');
      const all = await storage.all<{ id: string }>(
        "SELECT id FROM keys WHERE employee = ? AND state <> 'destroyed' ORDER BY created, id",
        [ask.employee],
      );
      const keys = ask.keys ?? all.map(({ id }) => id);
      if (keys.length === 0 || keys.some((key) => !all.some(({ id }) => id === key)))
        throw new Fault('not-found', 'key-unknown', 'this person has no such key');
      const now = clock.now().getTime();
      const known = recoveryRequest.safeParse({
        v: 1,
        case: newId(),
        employee: ask.employee,
        keys,
        device: ask.device,
        reason: ask.reason,
        reference: ask.reference,
        expires: now + ask.days * DAY,
        ...(ask.message === undefined ? {} : { message: ask.message }),
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
          facts: { request: digestOf(request), reason: request.reason, keys: keys.length, message: request.message !== undefined },
        });
      });
      return { case: request.case, sign: recoveryBytes(request).toString('base64'), request, quorum };
    });
  }

  /** Takes one agent's signature. Throws `approval-invalid`, `recovery-expired`. The token looks at it again when it releases. */
  async approve(id: string, agent: string, signature: Buffer, by: AuditActor): Promise<{ approvals: number; quorum: number }> {
    const { storage, audit, clock } = this.parts;
    const event = { action: 'recovery.approve', actor: by, subject: id } as const;
    return orRefused({ storage, audit }, event, async () => {
      const request = await this.#case(storage, id);
      const agents = await this.#agents();
      if (request.expires <= clock.now().getTime())
        throw new Fault('gone', 'recovery-expired', 'the time of this recovery case is over: file it anew');
      if (!isApproval(request, { agent, signature }, agents))
        throw new Fault('forbidden', 'approval-invalid', 'this is not the signature of that recovery agent over this request');
      const approvals = await storage.write(async (unit) => {
        await unit.run(
          'INSERT INTO recovery_approvals (recovery, agent, signature, time) VALUES (?, ?, ?, ?) ON CONFLICT (recovery, agent) DO UPDATE SET signature = excluded.signature',
          [id, agent, signature, clock.now().getTime()],
        );
        const row = await unit.one<{ n: number }>('SELECT COUNT(*) AS "n" FROM recovery_approvals WHERE recovery = ?', [id]);
        const count = Number(row?.n ?? 0);
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

  /** Has the token seal what the case names to its device. The person is told by mail, in the unit that keeps the entries. */
  async release(
    id: string,
    mail: { scheme: TransportScheme; encryptedKey: Buffer; length: 16 | 24 | 32 } | undefined,
    by: AuditActor,
  ): Promise<{ key: string; delivery: string }[]> {
    const { storage, audit, token } = this.parts;
    return orRefused({ storage, audit }, { action: 'recovery.release', actor: by, subject: id }, async () => {
      const request = await this.#case(storage, id);
      const approvals = await storage.all<{ agent: string; signature: Buffer }>(
        'SELECT agent, signature FROM recovery_approvals WHERE recovery = ? ORDER BY agent',
        [id],
      );
      const device = await this.#device(request.device);
      const released: { key: string; delivery: string }[] = [];
      for (const keyId of request.keys) {
        const key = await this.#keys.find(storage, keyId);
        if (!key) throw new Fault('not-found', 'key-unknown', 'a key of this case is gone');
        const blob = { wrapped: key.wrapped, publicKey: key.publicKey };
        const sealed = await token.recover({ request, approvals, key: key.sealed, blob, device, ...(mail ? { mail } : {}) });
        released.push({ key: keyId, delivery: ('delivery' in sealed ? sealed.delivery : sealed.encryptedKey).toString('base64') });
      }
      const notices = await this.#notices(request);
      await storage.write(async (unit) => {
        for (const { key } of released)
          await audit.append(unit, {
            action: 'recovery.release',
            outcome: 'done',
            actor: by,
            employee: request.employee,
            device: request.device,
            key,
            subject: id,
            facts: { request: digestOf(request), message: request.message !== undefined },
          });
        for (const notice of notices) await this.parts.mail.enqueue(unit, notice);
      });
      return released;
    });
  }

  async list(): Promise<{ case: string; request: RecoveryRequest; approvals: string[] }[]> {
    const { storage } = this.parts;
    const rows = await storage.all<CaseRow>('SELECT id, request FROM recovery_cases ORDER BY created DESC, id LIMIT 200');
    const signed = await storage.all<{ recovery: string; agent: string }>('SELECT recovery, agent FROM recovery_approvals ORDER BY agent');
    return rows.map((row) => ({
      case: row.id,
      request: requestOf(row),
      approvals: signed.filter(({ recovery }) => recovery === row.id).map(({ agent }) => agent),
    }));
  }

  async #agents() {
    const text = await this.parts.token.custody();
    const recovery = text === null ? undefined : parsePackage(text).package.recovery;
    if (!recovery)
      throw new Fault(
        'forbidden',
        'no-recovery-agents',
        'no recovery agents were named at the ceremony of this token: nobody can approve a recovery',
      );
    return recovery;
  }

  async #case(reader: Reader, id: string): Promise<RecoveryRequest> {
    const row = await reader.one<CaseRow>('SELECT id, request FROM recovery_cases WHERE id = ?', [id]);
    if (!row) throw new Fault('not-found', 'recovery-unknown', 'there is no recovery case of this id');
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

  async #notices(request: RecoveryRequest) {
    const { employees, mail, clock } = this.parts;
    const bindings = await employees.bindingsOf(request.employee);
    const what = request.message === undefined ? 'Your encryption keys were' : 'One of your encrypted messages was';
    return Promise.all(
      bindings.map(({ shown }) =>
        mail.prepare({
          kind: 'announcement',
          to: shown,
          subject: 'Your organisation recovered encryption keys of yours',
          text: `${what} recovered by the recovery agents of your organisation.\n\n  Case: ${request.case}\n  Reason: ${request.reason}\n  Time: ${clock.now().toISOString()}\n\nIf you do not know why, ask your data protection officer and name the case.\n`,
          expires: clock.now().getTime() + 30 * DAY,
        }),
      ),
    );
  }
}

const requestOf = (row: CaseRow): RecoveryRequest => JSON.parse(row.request) as RecoveryRequest; // the token parses and verifies it; a changed one has no signatures
const digestOf = (request: RecoveryRequest): string => base64url(recoveryDigest(request));
