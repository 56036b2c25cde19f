import type { Reader, Unit } from '../foundation/index.js';
import type { MailKind, OutgoingMail } from './outgoing-mail.js';

/** A mail composed, signed and sealed, ready to be queued. Its bytes can be read by the token alone. */
export interface PreparedMail {
  id: string;
  recipient: string;
  kind: MailKind;
  expires: number;
  sealed: Buffer;
}

export type MailState = 'queued' | 'sent' | 'failed';

export abstract class Mailer {
  /** Composes, signs and seals; asks the token, so it is done before the unit begins. Rejects with `mail-malformed` or the token's faults. */
  abstract prepare(mail: OutgoingMail): Promise<PreparedMail>;
  /** Queues the mail in the caller's unit of work; it goes out as soon as that is committed, or at `notBefore` (ms) where that is later, and never if it is not. */
  abstract enqueue(unit: Unit, mail: PreparedMail, notBefore?: number): Promise<void>;
  /** What became of a mail; undefined for an unknown id. */
  abstract state(reader: Reader, id: string): Promise<MailState | undefined>;
  /** False when the mail failed, or when whoever took it to deliver is not this process: it may have died with it, and nobody will know until its claim ends. */
  abstract isHopeful(reader: Reader, id: string): Promise<boolean>;
}
