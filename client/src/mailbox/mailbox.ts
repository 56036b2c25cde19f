/** The employee's mailbox, as far as a challenge needs it: read only. */
export abstract class Mailbox {
  /** Mails that this object has not shown yet, whole; empty when there are none, or no mailbox yet. */
  abstract unseen(): Promise<Buffer[]>;
  abstract close(): Promise<void>;
}

/** A challenge mail has a few KiB; larger ones are not looked at. */
export const MAX_MAIL = 256 << 10;
/** Newest first: a live challenge is minutes old, an old mailbox holds very many mails. */
export const MAX_MAILS = 500;
