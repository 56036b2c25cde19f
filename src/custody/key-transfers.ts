import { createPublicKey } from 'node:crypto';
import type { Employees } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  isFault,
  newId,
  orRefused,
  type Reader,
  type Storage,
  sha256,
} from '../foundation/index.js';
import { KeyStore, type StoredKey } from '../keys/index.js';
import type { Mailer, PreparedMail } from '../mail/index.js';
import { fulfil, intend } from '../storage/index.js';
import {
  type Authorities,
  applianceName,
  isApproval,
  type RecoveryApproval,
  type Token,
  TRANSFER_DAYS,
  type TransferAcceptance,
  type TransferRequest,
  transferAcceptanceBytes,
  transferBytes,
  transferRequest,
} from '../tokens/index.js';
import type { KeyLives } from './key-lives.js';
import type { RecoveryAgentRegister } from './recovery-agents.js';
import { sign, signaturesOf } from './recovery-signatures.js';
import type { TransferHead, TransferLine } from './transfer-shapes.js';

const DAY = 86_400_000;
/** Bits of RSA below which nobody's keys are sealed to it. */
const LEAST_BITS = 3_072;
/** Keys in one answer: some 0.2 s of the token's low-priority lane. */
const TRANSFER_PAGE = 50;

export interface TransferAsk {
  /** The recipient's public key, SPKI DER. */
  recipient: Buffer;
  /** Whose keys; without it, everybody's. */
  employees?: readonly string[] | undefined;
  reason: TransferRequest['reason'];
  reference: string;
  /** Until the transfer ends. */
  days: number;
}

export interface FiledTransfer {
  transfer: string;
  /** What each agent signs, base64. */
  sign: string;
  request: TransferRequest;
  quorum: number;
}

/** What agents sign: of keys that leave, or of keys that come in. */
type Paper = TransferRequest | TransferAcceptance;

interface TransferRow {
  id: string;
  request: string;
  recipient: Buffer;
  ended: number | null;
}

/** What the token says of one key, and what keeps that key back alone. */
const OF_ONE_KEY: ReadonlySet<string> = new Set([
  'record-forged',
  'record-stale',
  'blob-forged',
  'blob-corrupt',
  'key-not-deliverable',
  'token-call-refused',
]);

interface Parts {
  storage: Storage;
  audit: AuditLog;
  token: Token;
  employees: Employees;
  agents: RecoveryAgentRegister;
  mail: Mailer;
  lives: Pick<KeyLives, 'lifeOf'>;
  clock: Clock;
  /** DER. */
  authorities: Pick<Authorities, 'of' | 'root'>;
}

/**
 * Keys that leave this appliance (docs/formats/transfer.md): a person's or everybody's, sealed to one key that a quorum of the recovery agents signed:
 * another appliance's, or the organisation's own. The token verifies each signature itself; each key that leaves is an entry, and its owner is told.
 */
export class KeyTransfers {
  readonly #keys = new KeyStore();

  constructor(private readonly parts: Parts) {}

  async file(ask: TransferAsk, by: AuditActor): Promise<FiledTransfer> {
    const { storage, audit, clock, agents, authorities } = this.parts;
    return orRefused({ storage, audit }, { action: 'transfer.file', actor: by }, async () => {
      const { quorum } = (await agents.inForce()).agents;
      const now = clock.now().getTime();
      if (ask.days < 1 || ask.days > TRANSFER_DAYS)
        throw new Fault('malformed', 'transfer-malformed', `a transfer lasts 1 to ${TRANSFER_DAYS} days`);
      requireRecipient(ask.recipient);
      const known = transferRequest.safeParse({
        v: 1,
        transfer: newId(),
        appliance: applianceName(authorities.root),
        to: base64url(sha256(ask.recipient)),
        ...(ask.employees ? { employees: ask.employees } : {}),
        reason: ask.reason,
        reference: ask.reference,
        expires: now + ask.days * DAY,
      });
      if (!known.success)
        throw new Fault('malformed', 'transfer-malformed', `${known.error.issues[0]?.path.join('.')}: ${known.error.issues[0]?.message}`);
      const request = known.data;
      await storage.write(async (unit) => {
        await unit.run('INSERT INTO transfers (id, request, recipient, created, expires) VALUES (?, ?, ?, ?, ?)', [
          ...[request.transfer, JSON.stringify(request), ask.recipient],
          ...[now, request.expires],
        ]);
        await audit.append(unit, {
          ...{ action: 'transfer.file', outcome: 'done', actor: by, subject: request.transfer },
          facts: { request: digestOf(request), to: request.to, reason: request.reason, people: request.employees?.length ?? 0 },
        });
      });
      return { transfer: request.transfer, sign: transferBytes(request).toString('base64'), request, quorum: Math.max(2, quorum) };
    });
  }

  /** Takes one agent's signature over a transfer from here, or over one that is to come in. Throws `approval-invalid`, `transfer-expired`. The token looks at it again for each key. */
  async approve(id: string, approval: RecoveryApproval, by: AuditActor): Promise<{ approvals: number; quorum: number }> {
    const { storage, audit, clock } = this.parts;
    const event = { action: 'transfer.approve', actor: by, subject: id } as const;
    return orRefused({ storage, audit }, event, async () => {
      const { paper: request } = await this.#paper(storage, id);
      const { agents } = await this.parts.agents.inForce();
      if (request.expires <= clock.now().getTime())
        throw new Fault('gone', 'transfer-expired', 'the time of this transfer is over: file it anew');
      if (!isApproval(bytesOf(request), approval, agents))
        throw new Fault('forbidden', 'approval-invalid', 'this is not the signature of that recovery agent over this request');
      const approvals = await storage.write(async (unit) => {
        const count = await sign(unit, id, approval, clock.now().getTime());
        await audit.append(unit, { ...event, outcome: 'done', facts: { request: digestOf(request), approvals: count } });
        return count;
      });
      return { approvals, quorum: Math.max(2, agents.quorum) };
    });
  }

  /** Takes a transfer back: from the next key on the token gives nothing for it, whatever was approved. Taking away is one person's. Throws `transfer-ended`. */
  async end(id: string, by: AuditActor): Promise<void> {
    const { storage, audit, clock } = this.parts;
    const event = { action: 'transfer.end', actor: by, subject: id } as const;
    await orRefused({ storage, audit }, event, async () => {
      await this.#paper(storage, id);
      await storage.write(async (unit) => {
        const sql = 'UPDATE transfers SET ended = ? WHERE id = ? AND ended IS NULL';
        if ((await unit.run(sql, [clock.now().getTime(), id])) === 0)
          throw new Fault('conflict', 'transfer-ended', 'this transfer was taken back before');
        await audit.append(unit, { ...event, outcome: 'done' });
        await intend(unit, id, 'end-transfer', {}, clock);
      });
    });
    await this.settleEnd(id);
  }

  /** Tells the token process that a transfer was taken back; also run at start for what a crash cut off. */
  async settleEnd(id: string): Promise<void> {
    await this.parts.token.block(id);
    await this.parts.storage.write((unit) => fulfil(unit, id));
  }

  /** After a restore: the token process hears of every transfer that was taken back. */
  async tellTokenAll(): Promise<void> {
    for (const { id } of await this.parts.storage.all<{ id: string }>('SELECT id FROM transfers WHERE ended IS NOT NULL'))
      await this.parts.token.block(id);
  }

  /** `owners`: of keys that come in, who there becomes whom here; those who sign hold them against their digest in the request. */
  async list(): Promise<
    { transfer: string; request: Paper; owners?: [string, string][]; challenge: string; approvals: string[]; ended: number | null }[]
  > {
    const { storage } = this.parts;
    const rows = await storage.all<TransferRow>('SELECT id, request, recipient, ended FROM transfers ORDER BY created DESC, id LIMIT 200');
    return Promise.all(
      rows.map(async (row) => ({
        transfer: row.id,
        request: paperOf(row),
        ...(await this.#owners(row)),
        ended: row.ended === null ? null : Number(row.ended),
        challenge: digestOf(paperOf(row)),
        approvals: (await signaturesOf(storage, row.id)).map(({ agent }) => agent),
      })),
    );
  }

  async #owners({ id, ended }: TransferRow): Promise<{ owners?: [string, string][] }> {
    if (ended !== null) return {};
    const row = await this.parts.storage.one<{ owners: string }>('SELECT owners FROM transfer_acceptances WHERE id = ?', [id]);
    return row ? { owners: JSON.parse(row.owners) as [string, string][] } : {}; // only `AcceptedTransfers.file` writes this column
  }

  /** The first line of its file. */
  async head(id: string): Promise<TransferHead> {
    const { authorities } = this.parts;
    // The newest, where there are very many: the head of a file has its size.
    const above = [
      ...authorities
        .of('people')
        .slice(-9)
        .map(({ certificate }) => certificate),
      authorities.root,
    ];
    const { request } = await this.#transfer(this.parts.storage, id);
    return { type: 'ekms-transfer', v: 1, request, authorities: above.map((der) => der.toString('base64')) };
  }

  /**
   * The next keys behind `after` in the order of their ids, each sealed to the recipient and in the log before it leaves. An empty answer is the end; asked
   * again with the same `after`, the same keys leave again, with entries of their own.
   */
  async page(id: string, after: string | undefined, by: AuditActor): Promise<TransferLine[]> {
    const { storage, audit, token } = this.parts;
    return orRefused({ storage, audit }, { action: 'key.export', actor: by, subject: id }, async () => {
      const { request, recipient } = await this.#transfer(storage, id);
      const approvals = await signaturesOf(storage, id);
      const { sealed: agents } = await this.parts.agents.inForce();
      const keys = await this.#keys.undestroyed(storage, after ?? '', TRANSFER_PAGE, request.employees);
      const lines = await Promise.all(
        keys.map(async (key): Promise<TransferLine> => {
          const { id: of, employee } = key.sealed.record;
          const blob = { wrapped: key.wrapped, publicKey: key.publicKey };
          try {
            const content = await token.transferOut({
              request,
              approvals,
              key: key.sealed,
              blob,
              recipient,
              ...(agents ? { agents } : {}),
            });
            return await this.#line(key, content);
          } catch (error) {
            if (!isFault(error) || !OF_ONE_KEY.has(error.code)) throw error;
            return { key: of, employee, problem: error.code };
          }
        }),
      );
      await this.#keep(request, lines, by);
      return lines;
    });
  }

  /** The appliance's signature over a whole file: all but its last line. */
  async close(id: string, { digest, keys }: { digest: string; keys: number }, by: AuditActor): Promise<string> {
    const { storage, audit, token } = this.parts;
    const { request } = await this.#transfer(storage, id);
    const statement = await token.attest('transfer', { transfer: id, appliance: request.appliance, to: request.to, digest, keys });
    await storage.write((unit) =>
      audit.append(unit, { action: 'transfer.close', outcome: 'done', actor: by, subject: id, facts: { digest, keys } }),
    );
    return statement;
  }

  async #line({ sealed: { record }, publicKey }: StoredKey, content: Buffer): Promise<TransferLine> {
    const { storage, employees } = this.parts;
    const certificates = await storage.all<{ der: Buffer }>(
      'SELECT der FROM certificates WHERE subject_key = ? ORDER BY not_before DESC, serial',
      [record.id],
    );
    if (record.suite !== 'rsa') throw new Fault('conflict', 'key-not-deliverable', 'only RSA keys are sealed to another appliance yet');
    return {
      ...{ key: record.id, employee: record.employee, suite: record.suite, bits: record.bits, state: record.state },
      life: await this.parts.lives.lifeOf(record.id, record.employee),
      ...(record.origin ? { imported: true as const } : {}),
      ...(record.mode === 'quorum' ? { quorum: true as const } : {}),
      publicKey: publicKey.toString('base64'),
      addresses: (await employees.bindingsOf(record.employee)).map(({ shown }) => shown),
      certificates: certificates.map(({ der }) => der.toString('base64')),
      content: content.toString('base64'),
    };
  }

  /** Entries, and a mail to each person whose first key leaves, in one unit. */
  async #keep(request: TransferRequest, lines: readonly TransferLine[], by: AuditActor): Promise<void> {
    const { storage, audit, mail, clock } = this.parts;
    const event = { action: 'key.export', actor: by, subject: request.transfer, facts: { request: digestOf(request) } } as const;
    const notices = new Map<string, PreparedMail[]>();
    for (const line of lines)
      if (!('problem' in line) && !notices.has(line.employee)) notices.set(line.employee, await this.#notices(request, line.addresses));
    await storage.write(async (unit) => {
      for (const line of lines) {
        const of = { ...event, employee: line.employee, key: line.key } as const;
        await audit.append(unit, 'problem' in line ? { ...of, outcome: 'refused', reason: line.problem } : { ...of, outcome: 'done' });
      }
      for (const [employee, prepared] of notices) {
        const isFirst = await unit.run(
          'INSERT INTO transfer_people (transfer, employee, time) VALUES (?, ?, ?) ON CONFLICT (transfer, employee) DO NOTHING',
          [request.transfer, employee, clock.now().getTime()],
        );
        if (isFirst) for (const one of prepared) await mail.enqueue(unit, one);
      }
    });
  }

  async #notices(request: TransferRequest, addresses: readonly string[]): Promise<PreparedMail[]> {
    const { mail, clock } = this.parts;
    const now = clock.now();
    return Promise.all(
      addresses.map((to) =>
        mail.prepare({
          kind: 'announcement',
          to,
          subject: 'Your organisation took encryption keys of yours to another place',
          text: `Your encryption keys were handed out by the recovery agents of your organisation, for another appliance or an archive.\n\n  Transfer: ${request.transfer}\n  Reason: ${request.reason}\n  Time: ${now.toISOString()}\n\nIf you do not know why, ask your data protection officer and name the transfer.\n`,
          expires: now.getTime() + 30 * DAY,
        }),
      ),
    );
  }

  async #transfer(reader: Reader, id: string): Promise<{ request: TransferRequest; recipient: Buffer }> {
    const { paper, recipient } = await this.#paper(reader, id);
    if ('acceptance' in paper) throw new Fault('conflict', 'transfer-incoming', 'these keys come in: nothing leaves by this');
    return { request: paper, recipient };
  }

  async #paper(reader: Reader, id: string): Promise<{ paper: Paper; recipient: Buffer }> {
    const row = await reader.one<TransferRow>('SELECT id, request, recipient, ended FROM transfers WHERE id = ?', [id]);
    if (!row) throw new Fault('not-found', 'transfer-unknown', 'there is no transfer of this id');
    return { paper: paperOf(row), recipient: row.recipient };
  }
}

function requireRecipient(spki: Buffer): void {
  try {
    const key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
    const isSame = key.export({ format: 'der', type: 'spki' }).equals(spki);
    if (isSame && key.asymmetricKeyType === 'rsa' && (key.asymmetricKeyDetails?.modulusLength ?? 0) >= LEAST_BITS) return;
  } catch {
    // as any other that is none
  }
  throw new Fault('malformed', 'recipient-malformed', `keys are sealed to an RSA public key of ${LEAST_BITS} bits or more`);
}

const paperOf = (row: TransferRow): Paper => JSON.parse(row.request) as Paper; // the token parses and verifies it; a changed one has no signatures
const bytesOf = (paper: Paper): Buffer => ('acceptance' in paper ? transferAcceptanceBytes(paper) : transferBytes(paper));
const digestOf = (paper: Paper): string => base64url(sha256(bytesOf(paper)));
