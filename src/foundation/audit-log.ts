import type { AuditAction, FactsOf, PersonalOf } from './audit-actions.js';
import { Fault } from './fault.js';
import type { Storage, Unit } from './unit.js';

/** Who asked. Only `access` makes one for people and devices. */
export interface AuditActor {
  kind: 'device' | 'app' | 'operator' | 'administrator' | 'staff' | 'system' | 'stranger';
  /** Id of the device, app credential, administrator or staff session; the Unix user of an operator at the control socket. */
  id?: string;
}

/**
 * One entry of one action; what it may say is its action's schema (`audit-actions.ts`). Everything is enumerated or an id; what names a person
 * goes into `personal`, which the log keeps salted and erasable.
 */
interface EventOf<A extends AuditAction> {
  action: A;
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
  /**
   * Milliseconds since 1970 until which the log holds back what this entry says (lawful, covert recovery); place, key and counter stand at once. Whoever
   * seals has had two persons' yes.
   */
  sealedUntil?: number;
  facts?: FactsOf<A>;
  personal?: PersonalOf<A>;
}
/** Spread over the actions, so that facts are judged by the action they stand with. */
export type AuditEvent<A extends AuditAction = AuditAction> = A extends A ? EventOf<A> : never;
/** An act that is being tried: its entry is complete once it is known how it ended. */
export type AuditAttempt<A extends AuditAction = AuditAction> = A extends A ? Omit<EventOf<A>, 'outcome' | 'reason'> : never;

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

  /** Whether this refusal becomes an entry of its own. A log that says no has counted it. */
  lists(_attempt: AuditAttempt, _reason: string): boolean {
    return true;
  }
}

/** Refusals that are an entry already. */
const written = new WeakSet<Fault>();

/**
 * Runs `act`; when it ends in a Fault of the caller's making, the refusal is an entry before the caller hears of it (or counted, where its source
 * has had its share of entries), once however many stand around one another. Outages are not refusals.
 * @param attempt where it is often made and seldom used: how to make it
 */
export async function orRefused<T>(
  log: { storage: Storage; audit: AuditLog },
  attempt: AuditAttempt | (() => AuditAttempt),
  act: () => Promise<T>,
): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Fault && error.kind !== 'unavailable' && !written.has(error)) {
      const event = typeof attempt === 'function' ? attempt() : attempt;
      // Counted or listed, a refusal takes a turn of the writer: it is as slow as any other.
      await log.storage.write(async (unit) => {
        if (log.audit.lists(event, error.code)) await log.audit.append(unit, { ...event, outcome: 'refused', reason: error.code });
      });
      written.add(error);
    }
    throw error;
  }
}
