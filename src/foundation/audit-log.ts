import { Fault } from './fault.js';
import type { Storage, Unit } from './unit.js';

/** Who asked. Only `access` makes one for people and devices. */
export interface AuditActor {
  kind: 'device' | 'app' | 'operator' | 'administrator' | 'staff' | 'system' | 'stranger';
  /** Id of the device, app credential, administrator or staff session; the Unix user of an operator at the control socket. */
  id?: string;
}

export type AuditAction =
  | 'appliance.init'
  | 'appliance.start'
  | 'appliance.stop'
  | 'appliance.reconcile'
  | 'app.issue'
  | 'app.revoke'
  | 'app.admit'
  | 'enrolment.request'
  | 'enrolment.answer'
  | 'enrolment.confirm'
  | 'enrolment.approve'
  | 'enrolment.deny'
  | 'device.admit'
  | 'device.enrol'
  | 'device.revoke'
  | 'device.freeze'
  | 'device.list'
  | 'employee.create'
  | 'employee.stop'
  | 'employee.resume'
  | 'binding.begin'
  | 'binding.link'
  | 'binding.end'
  | 'key.birth'
  | 'key.assign'
  | 'key.pending'
  | 'key.deliver'
  | 'key.decrypt'
  | 'key.change'
  | 'certificate.issue'
  | 'certificate.revoke'
  | 'certificate.find'
  | 'crl.issue'
  | 'mail.send'
  | 'request.refuse'
  | 'session.begin'
  | 'session.end'
  | 'session.admit'
  | 'administrator.invite'
  | 'administrator.register'
  | 'administrator.sign-in'
  | 'administrator.role'
  | 'administrator.remove'
  | 'passkey.add'
  | 'passkey.remove'
  | 'bootstrap.end'
  | 'pool.fill'
  | 'pool.destroy'
  | 'policy.change'
  | 'directory.sync';

/** One entry. Everything is enumerated or an id; what names a person goes into `personal`, which the log keeps salted and erasable. */
export interface AuditEvent {
  action: AuditAction;
  outcome: 'done' | 'refused' | 'failed';
  /** The Fault's code when refused or failed. */
  reason?: string;
  actor: AuditActor;
  employee?: string;
  device?: string;
  key?: string;
  subject?: string;
  /** Id of the HTTP request. */
  request?: string;
  /** Further typed facts: counts, digests (base64url), serials. Never free text. */
  facts?: Readonly<Record<string, string | number | boolean>>;
  personal?: Readonly<Record<string, string>>;
}

/** What a caller gets to keep: the entry's leaf index and leaf hash (RFC 9162 §2.1.1, base64url). */
export interface Receipt {
  index: number;
  leaf: string;
}

export abstract class AuditLog {
  /**
   * Appends within the caller's unit of work: the entry is durable exactly when the act is. An event with `key` also advances that
   * key's use counter and names its previous leaf. Rejects with `audit-unavailable`; callers then release nothing.
   */
  abstract append(unit: Unit, event: AuditEvent): Promise<Receipt>;
}

/** Refusals that are an entry already. */
const written = new WeakSet<Fault>();

/**
 * Runs `act`; when it ends in a Fault of the caller's making, the refusal is an entry before the caller hears of it, once however many stand
 * around one another. Outages are not refusals.
 */
export async function orRefused<T>(
  log: { storage: Storage; audit: AuditLog },
  event: Omit<AuditEvent, 'outcome' | 'reason'>,
  act: () => Promise<T>,
): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Fault && error.kind !== 'unavailable' && !written.has(error)) {
      await log.storage.write((unit) => log.audit.append(unit, { ...event, outcome: 'refused', reason: error.code }));
      written.add(error);
    }
    throw error;
  }
}
