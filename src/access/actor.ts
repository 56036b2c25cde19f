import type { AuditActor, Role } from '../foundation/index.js';
import type { Request } from './request.js';
import type { Session } from './sessions.js';

/** An enrolled device that has passed the guard: its certificate is ours, known, unrevoked, and its person is active. Only `access` makes one. */
export interface DeviceActor {
  readonly kind: 'device';
  readonly id: string;
  readonly employee: string;
  /** The app credential that it was enrolled with. */
  readonly app: string;
  /** DER. */
  readonly certificate: Buffer;
  /** SPKI, DER. */
  readonly deliveryKey: Buffer;
  readonly request: Request;
}

/** An app credential that signed this request. */
export interface AppActor {
  readonly kind: 'app';
  readonly id: string;
  readonly platform: string;
  readonly nonce: string;
  readonly request: Request;
}

/** An administrator who signed in with a passkey, at the administration listener. */
export interface AdministratorActor {
  readonly kind: 'administrator';
  readonly id: string;
  /** One or none. */
  readonly role: Role | null;
  readonly session: Session;
  readonly request: Request;
}

/** An employee who signed in at the staff listener. */
export interface StaffActor {
  readonly kind: 'staff';
  /** The session's id: who it is stands in the session's first entry. */
  readonly id: string;
  /** The mailbox that the sign-in proved, as `parseAddress` keys it. */
  readonly address: string;
  readonly session: Session;
  readonly request: Request;
}

export const auditActor = (actor: { kind: AuditActor['kind']; id?: string }): AuditActor => ({
  kind: actor.kind,
  ...(actor.id ? { id: actor.id } : {}),
});
