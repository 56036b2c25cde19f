import type { Origins } from '../access/index.js';
import type { Administrators, Passkeys } from '../administration/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  newId,
  orRefused,
  parseAddress,
  type Reader,
  type Storage,
  sha256,
} from '../foundation/index.js';
import { fulfil, intend } from '../storage/index.js';
import {
  AGENTS_ID,
  type AgentList,
  type AgentsRecord,
  type Appointment,
  agentList,
  agentsOf,
  applianceName,
  appointment,
  appointmentBytes,
  isApproval,
  parsePackage,
  type RecoveryAgents,
  type RecoveryApproval,
  type Sealed,
  type Token,
} from '../tokens/index.js';
import { sign, signaturesOf } from './recovery-signatures.js';

/** One key of an agent: a public key (SPKI DER, base64), or the passkeys of the administrator with this address. */
export type NamedAgent = { name: string; publicKey: string } | { name: string; administrator: string };

export interface FiledAppointment {
  appointment: string;
  /** What each agent in force signs, base64. */
  sign: string;
  list: Appointment;
  quorum: number;
}

export interface AgentsInForce {
  version: number;
  agents: RecoveryAgents;
  /** Absent while the ceremony's agents are in force: the token process knows those by itself. */
  sealed?: Sealed<AgentsRecord>;
}

interface Parts {
  storage: Storage;
  audit: AuditLog;
  token: Token;
  passkeys: Passkeys;
  administrators: Administrators;
  origins: Origins;
  clock: Clock;
  /** DER. */
  root: Buffer;
}

/**
 * Who approves recoveries: whom the ceremony named, until a quorum of them signs another list: other people, or passkeys (docs/formats/recovery.md).
 * The token process verifies those signatures itself and takes no list before the last.
 */
export class RecoveryAgentRegister {
  constructor(private readonly parts: Parts) {}

  /** Throws `no-recovery-agents`. */
  async inForce(): Promise<AgentsInForce> {
    const { storage, token } = this.parts;
    const row = await storage.one<{ version: number; list: string; mac: Buffer }>(
      'SELECT version, list, mac FROM recovery_agents ORDER BY version DESC LIMIT 1',
    );
    if (row) {
      const list = JSON.parse(row.list) as AgentList; // a changed one does not fit its MAC, which the token looks at
      const sealed = { record: { type: 'agents', id: AGENTS_ID, version: row.version, list } as const, mac: row.mac };
      return { version: row.version, agents: agentsOf(list), sealed };
    }
    const text = await token.custody();
    const agents = text === null ? undefined : parsePackage(text).package.recovery;
    if (!agents)
      throw new Fault(
        'forbidden',
        'no-recovery-agents',
        'no recovery agents were named at the ceremony of this token: nobody can approve a recovery',
      );
    return { version: 1, agents };
  }

  /** Draws up another list, which a quorum of the agents in force must sign. */
  async file(ask: { quorum: number; agents: readonly NamedAgent[] }, by: AuditActor): Promise<FiledAppointment> {
    const { storage, audit, clock, root } = this.parts;
    return orRefused({ storage, audit }, { action: 'agents.file', actor: by }, async () => {
      const { version, agents } = await this.inForce();
      const list = agentList.safeParse({
        quorum: ask.quorum,
        agents: (await Promise.all(ask.agents.map((one) => this.#keysOf(one)))).flat(),
      });
      if (!list.success) {
        const [issue] = list.error.issues;
        throw new Fault('malformed', 'recovery-malformed', `${issue?.path.join('.')} ${issue?.message}`.trim());
      }
      const wanted: Appointment = { v: 1, appliance: applianceName(root), version: version + 1, list: list.data };
      const id = newId();
      await storage.write(async (unit) => {
        await unit.run('INSERT INTO recovery_appointments (id, appointment, created) VALUES (?, ?, ?)', [
          id,
          JSON.stringify(wanted),
          clock.now().getTime(),
        ]);
        await audit.append(unit, { action: 'agents.file', outcome: 'done', actor: by, subject: id, facts: factsOf(wanted) });
      });
      return { appointment: id, sign: appointmentBytes(wanted).toString('base64'), list: wanted, quorum: agents.quorum };
    });
  }

  /** Takes one agent's signature; with the last that is needed the token seals the list and it is in force. Throws `approval-invalid`, `record-stale`. */
  async approve(id: string, approval: RecoveryApproval, by: AuditActor): Promise<{ approvals: number; quorum: number; inForce: boolean }> {
    const { storage, audit, token, clock } = this.parts;
    return orRefused({ storage, audit }, { action: 'agents.approve', actor: by, subject: id }, async () => {
      const wanted = await this.#appointment(storage, id);
      const { version, agents, sealed: before } = await this.inForce();
      if (wanted.version !== version + 1)
        throw new Fault('conflict', 'record-stale', 'this list does not follow the one in force: draw it up anew');
      if (!isApproval(appointmentBytes(wanted), approval, agents))
        throw new Fault('forbidden', 'approval-invalid', 'this is not the signature of that recovery agent over this list');
      const approvals = await storage.write(async (unit) => {
        const count = await sign(unit, id, approval, clock.now().getTime());
        await audit.append(unit, {
          ...{ action: 'agents.approve', outcome: 'done', actor: by, subject: id },
          facts: { request: digestOf(wanted), approvals: count },
        });
        return count;
      });
      if (approvals < agents.quorum) return { approvals, quorum: agents.quorum, inForce: false };
      const given = await signaturesOf(storage, id);
      const sealed = await token.appoint({ appointment: wanted, approvals: given, ...(before ? { before } : {}) });
      await storage.write(async (unit) => {
        await unit.run('INSERT INTO recovery_agents (version, list, mac, created) VALUES (?, ?, ?, ?)', [
          sealed.record.version,
          JSON.stringify(sealed.record.list),
          sealed.mac,
          clock.now().getTime(),
        ]);
        await audit.append(unit, { action: 'agents.appoint', outcome: 'done', actor: by, subject: id, facts: factsOf(wanted) });
        await intend(unit, AGENTS_ID, 'raise-agents', {}, clock);
      });
      await this.settleRaise();
      return { approvals, quorum: agents.quorum, inForce: true };
    });
  }

  /** Tells the token process which list counts from now on; also run at start for what a crash cut off. */
  async settleRaise(): Promise<void> {
    const { sealed } = await this.inForce();
    if (sealed) await this.parts.token.raise(sealed);
    await this.parts.storage.write((unit) => fulfil(unit, AGENTS_ID));
  }

  /** What waits for signatures, newest first. */
  async waiting(): Promise<{ appointment: string; list: Appointment; challenge: string; approvals: string[] }[]> {
    const { storage } = this.parts;
    const rows = await storage.all<{ id: string; appointment: string }>(
      'SELECT id, appointment FROM recovery_appointments ORDER BY created DESC, id LIMIT 20',
    );
    const { version } = await this.inForce();
    const open = rows
      .map((row) => ({ id: row.id, list: parsedAppointment(row.appointment) }))
      .filter(({ list }) => list.version === version + 1);
    return Promise.all(
      open.map(async ({ id, list }) => ({
        appointment: id,
        list,
        challenge: digestOf(list),
        approvals: (await signaturesOf(storage, id)).map(({ agent }) => agent),
      })),
    );
  }

  async #keysOf(agent: NamedAgent): Promise<AgentList['agents']> {
    const { passkeys, administrators, origins } = this.parts;
    if ('publicKey' in agent) return [{ name: agent.name, publicKey: Buffer.from(agent.publicKey, 'base64').toString('base64url') }];
    const administrator = await administrators.byAddress(parseAddress(agent.administrator).key);
    const own = administrator ? await passkeys.of(administrator.id) : [];
    if (administrator?.role !== 'recovery-agent' || own.length === 0)
      throw new Fault('not-found', 'agent-unknown', `${agent.name}: no administrator of this address is a recovery agent with a passkey`);
    const page = { rp: origins.publicName, origin: origins.of('administration') };
    return own.map((passkey) => ({
      name: agent.name,
      publicKey: base64url(passkeys.publicKeyOf(passkey)),
      passkey: { id: passkey.id, ...page },
    }));
  }

  async #appointment(reader: Reader, id: string): Promise<Appointment> {
    const row = await reader.one<{ appointment: string }>('SELECT appointment FROM recovery_appointments WHERE id = ?', [id]);
    if (!row) throw new Fault('not-found', 'recovery-unknown', 'there is no list of recovery agents of this id');
    return parsedAppointment(row.appointment);
  }
}

const parsedAppointment = (text: string): Appointment => appointment.parse(JSON.parse(text));
const digestOf = (of: Appointment): string => base64url(sha256(appointmentBytes(of)));
const factsOf = (of: Appointment) => ({
  request: digestOf(of),
  version: of.version,
  agents: new Set(of.list.agents.map(({ name }) => name)).size,
  quorum: of.list.quorum,
});
