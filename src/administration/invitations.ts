import { randomBytes } from 'node:crypto';
import type { z } from 'zod';
import { type Origins, type Request, type RowSeal, type Sessions } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  isFault,
  newId,
  orRefused,
  parseAddress,
  type Reader,
  type Role,
  type Storage,
  sha256,
  type Unit,
} from '../foundation/index.js';
import type { Administrator, Administrators } from './administrators.js';
import { type attestation, type FreshPasskey, type Passkeys, passkeyFacts } from './passkeys.js';

/** Who is invited, as far as is known. */
export interface Invitee {
  name?: string | undefined;
  address?: string | undefined;
}

/** A link that works once. */
export interface InvitationLink {
  link: string;
  expiresAt: string;
}

/** Why an invitation was made decides what it gives. */
type Why = 'bootstrap' | 'invitation' | 'renewal' | 'break-glass';

interface Invitation {
  /** Whose passkeys it renews; null makes somebody new. */
  administrator: string | null;
  name: string | null;
  address: string | null;
  role: Role | null;
  why: Why;
  expires: number;
}

type InvitationRow = Invitation & { mac: Buffer };

/** Minutes that a link works: long enough to walk over, too short to be found later. */
const MINUTES = 15;

const sealed = ({ administrator, name, address, role, why, expires }: Invitation, digest: Buffer) => ({
  ...{ administrator, name, address, role, why, expires },
  digest: base64url(digest),
});

/** Links by which administrators come in and register their first passkey. The database holds their digests. */
export class Invitations {
  constructor(
    private readonly parts: {
      storage: Storage;
      audit: AuditLog;
      seal: RowSeal;
      clock: Clock;
      origins: Origins;
      passkeys: Passkeys;
      sessions: Sessions;
      administrators: Administrators;
    },
  ) {}

  /**
   * Invites somebody new. During bootstrap whoever follows the link gets `role` (security officer where none is named); afterwards a role
   * takes two persons. Rejects with `role-needs-two`, `address-taken`.
   */
  async invite({ name, address, role }: Invitee & { role?: Role | undefined }, by: AuditActor): Promise<InvitationLink> {
    const { administrators } = this.parts;
    const isOver = await administrators.bootstrap.isOver();
    if (isOver && role)
      throw new Fault(
        'conflict',
        'role-needs-two',
        'bootstrap is over: invite without a role, then have it given by two persons (ekms admin role)',
      );
    if (address !== undefined && (await administrators.byAddress(address))) throw taken();
    return this.#make(
      {
        administrator: null,
        name: name ?? null,
        address: address === undefined ? null : parseAddress(address).key,
        role: isOver ? null : (role ?? 'security-officer'),
        why: isOver ? 'invitation' : 'bootstrap',
      },
      by,
    );
  }

  /** A link for an administrator who lost their passkeys; the old ones end when it is used. */
  async renew(id: string, by: AuditActor): Promise<InvitationLink> {
    const { name, address } = await this.parts.administrators.active(id);
    return this.#make({ administrator: id, name, address, role: null, why: 'renewal' }, by);
  }

  /** What break-glass ends in: an officer. Where the address is an administrator's, that one gets new passkeys and the role. */
  async breakGlass(officer: { name: string; address: string }, by: AuditActor): Promise<InvitationLink> {
    const known = await this.parts.administrators.byAddress(officer.address);
    const { name, address } = known ?? { ...officer, address: parseAddress(officer.address).key };
    return this.#make({ administrator: known?.id ?? null, name, address, role: 'security-officer', why: 'break-glass' }, by);
  }

  /** The options with which an invited person makes a passkey. Rejects with `invitation-unknown`, `person-missing`, or as `parseAddress`. */
  async options(token: string, invitee: Invitee, request: Request) {
    return this.#orRefused(request, async () => {
      const invitation = await this.#find(this.parts.storage, token);
      const { name, address } = person(invitation, invitee);
      const id = invitation.administrator ?? newId();
      return this.parts.passkeys.creationOptions({ id, name, shown: address }, id, request);
    });
  }

  /** Registers the invited person with their first passkey, and signs them in. Rejects as `options` and `Passkeys.attested`, or with `address-taken`. */
  async accept(
    token: string,
    { invitee, passkey, response }: { invitee: Invitee; passkey: string; response: z.output<typeof attestation> },
    request: Request,
  ): Promise<{ administrator: Administrator; cookie: string }> {
    return this.#orRefused(request, async () => {
      const who = person(await this.#find(this.parts.storage, token), invitee);
      const fresh = await this.parts.passkeys.attested(response, request);
      try {
        return await this.parts.storage.write((unit) => this.#register(unit, token, { who, passkey, fresh }, request));
      } catch (error) {
        throw isFault(error, 'duplicate') ? taken() : error;
      }
    });
  }

  async #register(
    unit: Unit,
    token: string,
    { who, passkey, fresh }: { who: { name: string; address: string }; passkey: string; fresh: FreshPasskey },
    request: Request,
  ): Promise<{ administrator: Administrator; cookie: string }> {
    const { administrators, passkeys, sessions, audit, clock } = this.parts;
    const invitation = await this.#find(unit, token);
    const known = invitation.administrator === null ? undefined : await administrators.active(invitation.administrator, unit);
    // A passkey that was made for another invitation says another id.
    if (known ? fresh.subject !== known.id : await administrators.find(fresh.subject, unit)) throw unknown();
    await unit.run('DELETE FROM invitations WHERE token_digest = ?', [sha256(token)]);
    const administrator: Administrator = {
      ...{ id: fresh.subject, ...who, state: 'active' },
      role: await this.#roleBy(invitation, known, unit),
      created: known?.created ?? clock.now().getTime(),
    };
    const by = { kind: 'administrator', id: administrator.id } as const;
    if (known) {
      await sessions.endAllOf(unit, 'administration', known.id, by);
      for (const { id } of await passkeys.of(known.id, unit)) await passkeys.remove(unit, id);
      await administrators.change(unit, administrator);
    } else await administrators.insert(unit, administrator);
    await passkeys.insert(unit, fresh, administrator.id, passkey);
    await audit.append(unit, {
      action: 'administrator.register',
      outcome: 'done',
      actor: by,
      subject: administrator.id,
      request: request.id,
      facts: { why: invitation.why, role: administrator.role ?? 'none', ...passkeyFacts(fresh) },
      personal: { ...who, network: request.network },
    });
    await administrators.bootstrap.settle(unit);
    const how = { audience: 'administration', subject: administrator.id, method: 'passkey' } as const;
    return { administrator, cookie: (await sessions.begin(unit, how, by, request)).cookie };
  }

  /** What was promised in bootstrap is not given after it. */
  async #roleBy({ why, role }: Invitation, known: Administrator | undefined, reader: Reader): Promise<Role | null> {
    if (why === 'renewal') return known?.role ?? null;
    return why === 'bootstrap' && (await this.parts.administrators.bootstrap.isOver(reader)) ? null : role;
  }

  async #make(wanted: Omit<Invitation, 'expires'>, by: AuditActor): Promise<InvitationLink> {
    const { storage, audit, seal, clock, origins } = this.parts;
    const token = base64url(randomBytes(32));
    const digest = sha256(token);
    const now = clock.now().getTime();
    const invitation: Invitation = { ...wanted, expires: now + MINUTES * 60_000 };
    const { administrator, name, address, role, why, expires } = invitation;
    await storage.write(async (unit) => {
      await unit.run('DELETE FROM invitations WHERE expires < ?', [now]);
      await unit.run(
        'INSERT INTO invitations (token_digest, administrator, name, address, role, why, expires, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
        [...[digest, administrator, name, address, role, why, expires], seal.mac('invitations', sealed(invitation, digest))],
      );
      await audit.append(unit, {
        action: 'administrator.invite',
        outcome: 'done',
        actor: by,
        ...(administrator ? { subject: administrator } : {}),
        facts: { why, role: role ?? 'none' },
        personal: { ...(name ? { name } : {}), ...(address ? { address } : {}) },
      });
    });
    // Behind the #: browsers send that part to nobody, so it stands in no proxy's log.
    return { link: `${origins.of('administration')}/invitation.html#${token}`, expiresAt: new Date(expires).toISOString() };
  }

  async #find(reader: Reader, token: string): Promise<Invitation> {
    const digest = sha256(token);
    const row = await reader.one<InvitationRow>('SELECT * FROM invitations WHERE token_digest = ?', [digest]);
    const { clock, seal } = this.parts;
    if (!row || clock.now().getTime() >= row.expires || !seal.holds('invitations', sealed(row, digest), row.mac)) throw unknown();
    return row;
  }

  #orRefused<T>(request: Request, act: () => Promise<T>): Promise<T> {
    const personal = { network: request.network };
    return orRefused(this.parts, { action: 'administrator.register', actor: { kind: 'stranger' }, request: request.id, personal }, act);
  }
}

/** The inviter's word stands; what they left open the invited person says. */
function person(invitation: Invitation, invitee: Invitee): { name: string; address: string } {
  const name = invitation.name ?? invitee.name;
  const address = invitation.address ?? (invitee.address === undefined ? undefined : parseAddress(invitee.address).key);
  if (!name || !address) throw new Fault('malformed', 'person-missing', 'say your name and your e-mail address');
  return { name, address };
}

const unknown = () => new Fault('not-found', 'invitation-unknown', 'this link is not valid, or not any more: ask for another');
const taken = () =>
  new Fault('conflict', 'address-taken', 'somebody is an administrator under this address, or with this passkey, already');
