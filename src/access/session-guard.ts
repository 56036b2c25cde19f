import { type AuditLog, Fault, orRefused, type Role, type Storage } from '../foundation/index.js';
import type { AdministratorActor, StaffActor } from './actor.js';
import type { KnownAdministrators } from './known-administrators.js';
import type { Audience } from './origins.js';
import type { Request } from './request.js';
import type { Session, Sessions } from './sessions.js';

/** Turns a session's cookie into an actor, or refuses and writes the refusal down. */
export class SessionGuard {
  constructor(
    private readonly sessions: Sessions,
    private readonly administrators: KnownAdministrators,
    private readonly log: { storage: Storage; audit: AuditLog },
  ) {}

  /** @param roles any of them will do; none named: every administrator. Rejects as `Sessions.admit`, or with `role-missing`. */
  async administrator(cookies: string | undefined, roles: readonly Role[], request: Request): Promise<AdministratorActor> {
    return this.#orRefused('administration', request, async () => {
      const session = await this.sessions.admit('administration', cookies, request);
      const known = await this.administrators.find(session.subject);
      if (known?.state !== 'active') throw new Fault('unauthenticated', 'session-ended', 'this session is over: sign in again');
      if (roles.length > 0 && !(known.role && roles.includes(known.role)))
        throw new Fault('forbidden', 'role-missing', `this is for ${roles.join(' or ')} only`);
      return { kind: 'administrator', id: known.id, role: known.role, session, request };
    });
  }

  async staff(cookies: string | undefined, request: Request): Promise<StaffActor> {
    return this.#orRefused('staff', request, async () => {
      const session = await this.sessions.admit('staff', cookies, request);
      if (await this.#hasLeft(session)) {
        await this.log.storage.write((unit) => this.sessions.end(unit, session.id, { kind: 'system' }));
        throw new Fault('unauthenticated', 'session-ended', 'this session is over: sign in again');
      }
      return staffActor(session, request);
    });
  }

  /** The address's owner was stopped, or the address has been given up or given away since this session began. */
  async #hasLeft({ subject, began }: Session): Promise<boolean> {
    const sql = `SELECT b.id FROM bindings b JOIN employees e ON e.id = b.employee
      WHERE b.address = ? AND ((b.to_time IS NULL AND (e.state <> 'active' OR b.from_time > ?)) OR b.to_time >= ?) LIMIT 1`;
    return (await this.log.storage.one(sql, [subject, began, began])) !== undefined;
  }

  #orRefused<T>(audience: Audience, request: Request, admit: () => Promise<T>): Promise<T> {
    const personal = { network: request.network };
    const event = { action: 'session.admit', actor: { kind: 'stranger' }, request: request.id, facts: { audience }, personal } as const;
    return orRefused(this.log, event, admit);
  }
}

const staffActor = (session: Session, request: Request): StaffActor => ({
  kind: 'staff',
  id: session.id,
  address: session.subject,
  session,
  request,
});
