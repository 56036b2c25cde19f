import type { AuditActor } from '../foundation/index.js';

/** An enrolled device that has passed the guard: its certificate is ours, known, unrevoked, and its person is active. Only `access` makes one. */
export interface DeviceActor {
  readonly kind: 'device';
  readonly id: string;
  readonly employee: string;
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

/** Where a request came from. */
export interface Request {
  readonly id: string;
  /** Remote address as the socket says; IPv4-mapped IPv6 is IPv4. */
  readonly network: string;
}

export const auditActor = (actor: { kind: AuditActor['kind']; id?: string }): AuditActor => ({
  kind: actor.kind,
  ...(actor.id ? { id: actor.id } : {}),
});
