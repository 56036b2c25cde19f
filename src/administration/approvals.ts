import type { z } from 'zod';
import { type AdministratorActor, type RowSeal } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  canonicalJson,
  Fault,
  isFault,
  type Json,
  newId,
  orRefused,
  type Reader,
  type Role,
  type Storage,
  sha256,
  type Unit,
} from '../foundation/index.js';
import type { Administrators } from './administrators.js';
import { type Assertion, type assertion, boundChallenge, type Passkeys, passkeyDigest } from './passkeys.js';
import type { SpendingStorage } from './spending-storage.js';

/** Who has to approve: so many different holders of a role, none of them the requester. */
export interface Quorum {
  role: Role;
  needed: number;
}

/** `spent`: its act has begun to change something. `interrupted`: a crash or an outage came in between. */
type StoredState = 'open' | 'spent' | 'done' | 'failed' | 'denied' | 'interrupted';
/** What follows from approvals and time is not stored. */
export type RequestState = StoredState | 'approved' | 'expired';

/** An act that somebody asked for and others have to approve. */
export interface ActRequest extends Quorum {
  id: string;
  act: string;
  args: Json;
  requester: { kind: 'operator' | 'administrator'; id: string };
  created: number;
  expires: number;
  state: RequestState;
  /** Code of the Fault in which its act ended. */
  reason: string | null;
  /** What approvals sign: SHA-256 over the canonical JSON of all that was asked for. */
  hash: Buffer;
  /** Those that hold now. */
  approvals: { administrator: string; time: number }[];
}

interface RequestRow {
  id: string;
  act: string;
  args: string;
  role: Role;
  needed: number;
  requester_kind: 'operator' | 'administrator';
  requester: string;
  created: number;
  expires: number;
  state: StoredState;
  performance: string | null;
  reason: string | null;
  mac: Buffer;
}

interface ApprovalRow {
  request: string;
  administrator: string;
  passkey: string;
  nonce: Buffer;
  client_data: Buffer;
  authenticator_data: Buffer;
  signature: Buffer;
  time: number;
}

/** docs/formats/approvals.md */
const asked = (row: RequestRow) => ({
  v: 1,
  id: row.id,
  act: row.act,
  args: JSON.parse(row.args) as Json, // only `file` writes this column, and the MAC covers it
  role: row.role,
  needed: row.needed,
  requester: { kind: row.requester_kind, id: row.requester },
  created: row.created,
  expires: row.expires,
});
const hashOf = (row: RequestRow): Buffer => sha256(canonicalJson(asked(row)));
const sealed = (row: Omit<RequestRow, 'mac'>) => ({ ...row });

/**
 * The rule of two persons, in general M of N: an act is asked for, others approve just that by their passkeys, then it is done once.
 * An approval is a WebAuthn assertion whose challenge is made of the request's hash, so it is of no use for a request that differs in
 * anything; it is verified when it is given, again when the act is performed, and in the unit that spends it. What is kept can be verified by anybody who has the passkey's public key.
 */
export class Approvals {
  readonly #underWay = new Set<string>();

  constructor(
    private readonly parts: {
      storage: SpendingStorage;
      audit: AuditLog;
      seal: RowSeal;
      clock: Clock;
      passkeys: Passkeys;
      administrators: Administrators;
    },
    /** Hours until a request expires. */
    private readonly hours: number,
  ) {}

  /** @param args JSON that the act's shape took */
  async file(act: string, args: Json, quorum: Quorum, by: ActRequest['requester']): Promise<ActRequest> {
    const created = this.#now();
    const row: Omit<RequestRow, 'mac'> = {
      ...{ id: newId(), act, args: canonicalJson(args), ...quorum, requester_kind: by.kind, requester: by.id },
      ...{ created, expires: created + this.hours * 3_600_000, state: 'open', performance: null, reason: null },
    };
    const { storage, audit, seal } = this.parts;
    const mac = seal.mac('requests', sealed(row));
    const hash = hashOf({ ...row, mac });
    await storage.write(async (unit) => {
      await unit.run(
        `INSERT INTO requests (id, act, args, role, needed, requester_kind, requester, created, expires, state, performance, reason, mac)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?)`,
        [row.id, act, row.args, row.role, row.needed, by.kind, by.id, created, row.expires, row.state, mac],
      );
      await audit.append(unit, {
        action: 'request.file',
        outcome: 'done',
        actor: by,
        subject: row.id,
        facts: { act, hash: base64url(hash), role: row.role, needed: row.needed, expires: row.expires },
      });
    });
    return this.find(row.id);
  }

  /** Newest first. */
  async list(): Promise<ActRequest[]> {
    const rows = await this.parts.storage.all<RequestRow>('SELECT * FROM requests ORDER BY created DESC, id LIMIT 200');
    return Promise.all(rows.filter((row) => this.#genuine(row)).map((row) => this.#read(row)));
  }

  /** Rejects with `request-unknown`, also for one that was changed beside the appliance. */
  async find(id: string): Promise<ActRequest> {
    return this.#read(await this.#row(this.parts.storage, id));
  }

  /** Options for the assertion that approves it. Rejects as `approve` does. */
  async options(actor: AdministratorActor, id: string) {
    return this.#orRefused(actor, id, async () => {
      const row = await this.#row(this.parts.storage, id);
      this.#mayApprove(actor, row);
      const allow = await this.parts.passkeys.of(actor.id);
      return this.parts.passkeys.requestOptions('approve', id, actor.request, { allow, binding: hashOf(row) });
    });
  }

  /**
   * Approves by a fresh assertion over the request's hash; the session alone approves nothing. Rejects with `request-unknown`, `request-closed`, `request-expired`, `requester-approves`, `role-missing`, `approved-already`, or as `Passkeys.asserted`.
   */
  async approve(actor: AdministratorActor, id: string, response: z.output<typeof assertion>): Promise<ActRequest> {
    return this.#orRefused(actor, id, async () => {
      const { storage, passkeys, audit } = this.parts;
      const given = await passkeys.asserted('approve', response, actor.request);
      if (given.passkey.administrator !== actor.id || given.subject !== id)
        throw new Fault('unauthenticated', 'passkey-refused', 'this passkey is not of the person who signed in, or signed another request');
      const hash = hashOf(await this.#row(storage, id));
      // What was signed is a hash that this request no longer has.
      if (!(await passkeys.holds(given.passkey, boundChallenge(hash, given.nonce), given))) throw changed();
      await storage.write(async (unit) => {
        const row = await this.#row(unit, id);
        this.#mayApprove(actor, row);
        await passkeys.settle(unit, given);
        await this.#insert(unit, id, actor.id, given);
        await audit.append(unit, {
          action: 'request.approve',
          outcome: 'done',
          actor: { kind: 'administrator', id: actor.id },
          subject: id,
          request: actor.request.id,
          facts: {
            ...{ act: row.act, hash: base64url(hash), passkey: passkeyDigest(given.passkey.id) },
            assertion: base64url(sha256(given.clientData, given.authenticatorData, given.signature)),
          },
          personal: { network: actor.request.network },
        });
      });
      return this.find(id);
    });
  }

  /** Ends a request that nobody performed yet: by its requester, or by whoever might have approved it. Rejects with `request-closed`, `role-missing`. */
  async deny(id: string, by: AuditActor & { role?: Role | null }): Promise<void> {
    const { storage, audit } = this.parts;
    await storage.write(async (unit) => {
      const row = await this.#row(unit, id);
      if (!isRequester(row, by) && by.role !== row.role) throw roleMissing(row.role);
      if (row.state !== 'open') throw closed(row);
      await this.#turn(unit, row, { state: 'denied' });
      const actor = { kind: by.kind, ...(by.id ? { id: by.id } : {}) };
      await audit.append(unit, { action: 'request.deny', outcome: 'done', actor, subject: id, facts: { act: row.act } });
    });
  }

  /**
   * Performs an approved request, once: the approval is spent in the unit in which the act first changes something. Rejects with `request-closed`,
   * `request-expired`, `approvals-missing`, or with what the act ended in; after an outage that came before any change it may be performed again.
   */
  async perform<T>(id: string, act: (request: ActRequest) => Promise<T>): Promise<T> {
    const { storage } = this.parts;
    const row = await this.#row(storage, id);
    if (row.state !== 'open') throw closed(row);
    this.#requireTime(row);
    await this.#requireApprovals(row, storage);
    const request = await this.#read(row);
    // What an act does before it first writes is done by one of those who have it done at once.
    if (this.#underWay.has(id)) throw new Fault('conflict', 'request-closed', 'this request is just being done');
    this.#underWay.add(id);
    const performance = newId();
    let value: T;
    try {
      value = await storage.performing(
        (unit) => this.#spend(unit, id, performance),
        () => act(request),
      );
    } catch (error) {
      await this.settleOne(id, performance, error);
      throw error;
    } finally {
      this.#underWay.delete(id);
    }
    await this.settleOne(id, performance);
    return value;
  }

  /** At start: what was being done when the process died. Its acts' own intents are settled by then. */
  async settle(): Promise<void> {
    const cut = await this.parts.storage.all<RequestRow>("SELECT * FROM requests WHERE state = 'spent'");
    for (const { id, performance } of cut) await this.settleOne(id, performance ?? '', new Error('the process died'));
  }

  async #spend(unit: Unit, id: string, performance: string): Promise<void> {
    const row = await this.#row(unit, id);
    if (row.state === 'spent' && row.performance === performance) return;
    if (row.state !== 'open') throw closed(row);
    // Between the look and this unit an act may have waited for the token, and a passkey, a role or a person have ended.
    await this.#requireApprovals(row, unit);
    await this.#turn(unit, row, { state: 'spent', performance });
  }

  /** Writes down how a performance ended. An outage before anything changed leaves the request as it was. */
  async settleOne(id: string, performance: string, error?: unknown): Promise<void> {
    const { storage, audit } = this.parts;
    const fault = isFault(error) ? error : undefined;
    await storage.write(async (unit) => {
      const row = await this.#row(unit, id);
      const began = row.performance === performance && (row.state === 'spent' || row.state === 'interrupted');
      const refused = fault !== undefined && fault.kind !== 'unavailable' && fault.code !== 'request-closed';
      if (!began && !(refused && row.state === 'open')) return;
      const state = error === undefined ? 'done' : refused ? 'failed' : 'interrupted';
      const reason = error === undefined ? null : (fault?.code ?? 'interrupted');
      await this.#turn(unit, row, { state, reason });
      await audit.append(unit, {
        action: 'request.perform',
        outcome: state === 'done' ? 'done' : 'failed',
        ...(reason ? { reason } : {}),
        actor: { kind: row.requester_kind, id: row.requester },
        subject: id,
        facts: { act: row.act, hash: base64url(hashOf(row)) },
      });
    });
  }

  async #requireApprovals(row: RequestRow, reader: Reader): Promise<void> {
    const { length } = await this.#holding(row, reader);
    if (length < row.needed)
      throw new Fault(
        'forbidden',
        'approvals-missing',
        `${length} of ${row.needed} approvals hold: each needs its passkey, its person and that person’s role to stand, and this very request`,
      );
  }

  /** Approvals whose passkey, person and role still stand, and whose signature is over this very request. */
  async #holding(row: RequestRow, reader: Reader): Promise<ApprovalRow[]> {
    const { passkeys, administrators } = this.parts;
    const rows = await reader.all<ApprovalRow>('SELECT * FROM approvals WHERE request = ? ORDER BY time, administrator', [row.id]);
    const holding: ApprovalRow[] = [];
    for (const approval of rows) {
      const passkey = await passkeys.find(approval.passkey, reader);
      const person = await administrators.find(approval.administrator, reader);
      const kept = { clientData: approval.client_data, authenticatorData: approval.authenticator_data, signature: approval.signature };
      if (
        passkey?.administrator === approval.administrator &&
        person?.state === 'active' &&
        person.role === row.role &&
        !isRequester(row, { kind: 'administrator', id: approval.administrator }) &&
        (await passkeys.holds(passkey, boundChallenge(hashOf(row), approval.nonce), kept))
      )
        holding.push(approval);
    }
    return holding;
  }

  #mayApprove(actor: AdministratorActor, row: RequestRow): void {
    if (isRequester(row, actor))
      throw new Fault('forbidden', 'requester-approves', 'whoever asks for it cannot approve it: another person has to');
    if (actor.role !== row.role) throw roleMissing(row.role);
    if (row.state !== 'open') throw closed(row);
    this.#requireTime(row);
  }

  #requireTime(row: RequestRow): void {
    if (this.#now() >= row.expires) throw new Fault('conflict', 'request-expired', 'this request has expired: ask for it again');
  }

  async #row(reader: Reader, id: string): Promise<RequestRow> {
    const row = await reader.one<RequestRow>('SELECT * FROM requests WHERE id = ?', [id]);
    if (!row) throw new Fault('not-found', 'request-unknown', 'there is no such request');
    if (!this.#genuine(row)) throw changed();
    return row;
  }

  async #read(row: RequestRow): Promise<ActRequest> {
    const { id, act, args, role, needed, requester, created, expires } = asked(row);
    const approvals = (await this.#holding(row, this.parts.storage)).map(({ administrator, time }) => ({ administrator, time }));
    const waits = this.#now() >= expires ? 'expired' : approvals.length >= needed ? 'approved' : 'open';
    const state = row.state === 'open' ? waits : row.state;
    return { id, act, args, role, needed, requester, created, expires, state, reason: row.reason, hash: hashOf(row), approvals };
  }

  #genuine({ mac, ...row }: RequestRow): boolean {
    return this.parts.seal.holds('requests', sealed(row), mac);
  }

  async #turn(
    unit: Unit,
    { mac: _, ...row }: RequestRow,
    to: Partial<Pick<RequestRow, 'state' | 'performance' | 'reason'>>,
  ): Promise<void> {
    const next = { ...row, ...to };
    await unit.run('UPDATE requests SET state = ?, performance = ?, reason = ?, mac = ? WHERE id = ?', [
      ...[next.state, next.performance, next.reason],
      this.parts.seal.mac('requests', sealed(next)),
      row.id,
    ]);
  }

  async #insert(unit: Unit, request: string, administrator: string, given: Assertion): Promise<void> {
    const { passkey, nonce, clientData, authenticatorData, signature } = given;
    const added = await unit.run(
      `INSERT INTO approvals (request, administrator, passkey, nonce, client_data, authenticator_data, signature, time)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
      [request, administrator, passkey.id, nonce, clientData, authenticatorData, signature, this.#now()],
    );
    if (added === 0) throw new Fault('conflict', 'approved-already', 'you have approved this already');
  }

  #orRefused<T>(actor: AdministratorActor, id: string, act: () => Promise<T>): Promise<T> {
    const { storage, audit } = this.parts;
    const who = {
      actor: { kind: 'administrator', id: actor.id },
      request: actor.request.id,
      personal: { network: actor.request.network },
    } as const;
    return orRefused({ storage: storage as Storage, audit }, { action: 'request.approve', subject: id, ...who }, act);
  }

  #now(): number {
    return this.parts.clock.now().getTime();
  }
}

const isRequester = (row: RequestRow, { kind, id }: Pick<AuditActor, 'kind' | 'id'>): boolean =>
  kind === row.requester_kind && id === row.requester;
const roleMissing = (role: Role) => new Fault('forbidden', 'role-missing', `this is for a ${role} only`);
const changed = () =>
  new Fault('forbidden', 'request-changed', 'this request is not what was filed: it was changed, and nothing of it is done');
const closed = ({ state }: RequestRow) => new Fault('conflict', 'request-closed', `this request is ${state}`);
