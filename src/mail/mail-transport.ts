export interface Envelope {
  from: string;
  to: string;
}

/**
 * Why a mail was not accepted. `temporary`: nothing was taken, try again. `permanent`: nothing was taken, and never will be.
 * `unknown`: all bytes were handed over and no answer came, so the mail may have been taken or not.
 */
export type FailureKind = 'temporary' | 'permanent' | 'unknown';

/** Enumerated, since it goes into the audit entry; what a server said in words stays out, for it may name people. */
export type DeliveryReason =
  | 'smtp-unreachable'
  | 'smtp-timeout'
  | 'smtp-tls'
  | 'smtp-auth'
  | 'smtp-busy'
  | 'smtp-refused'
  | 'maildir-full'
  | 'maildir-unwritable'
  | 'address-unfit'
  | 'outcome-unknown';

export class DeliveryFailure extends Error {
  override readonly name = 'DeliveryFailure';
  constructor(
    readonly kind: FailureKind,
    readonly reason: DeliveryReason,
    options?: ErrorOptions,
  ) {
    super(reason, options);
  }
}

/**
 * A delivery has an outcome within this time, in milliseconds. Long enough for a server on the same intranet that searches a mail before it
 * answers (cut off there, the outcome is unknown), and a fraction of a challenge's life.
 */
export const DELIVERY_DEADLINE = 40_000;

/** Hands one mail to whoever brings it to its mailbox. */
export abstract class MailTransport {
  /** Resolves once the mail is accepted for good; rejects with a DeliveryFailure within the deadline. Never tries twice by itself. */
  abstract deliver(envelope: Envelope, bytes: Buffer): Promise<void>;
}
