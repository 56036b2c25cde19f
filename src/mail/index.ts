/**
 * Mail that EKMS sends: composed, S/MIME-signed, queued in the database and handed to SMTP or a Maildir.
 *
 * A mail is delivered once or reported failed; never twice, and never after it expires. Where that cannot be both known and kept, the
 * report wins: when the process dies, or the connection, between handing the bytes over and hearing or writing down the answer, the mail
 * is reported failed with reason `outcome-unknown` and not sent again, though it may have arrived. Whoever asked asks again and gets a
 * new mail; the old one, had it arrived, does no harm. (Sending again under the same Message-ID would leave it to each mail server whether
 * a person sees it twice.) A claim lasts 80 s: that long after a crash such a mail is reported.
 *
 * Each outcome is one audit entry `mail.send` in the unit that records it; retries are none. `expired` and every DeliveryReason are reasons.
 */
export { MailSigner } from './compose.js';
export { MailQueue, type MailQueueParts, MailSealer } from './mail-queue.js';
export { DeliveryFailure, type DeliveryReason, type Envelope, type FailureKind, MailTransport } from './mail-transport.js';
export { MaildirTransport } from './maildir-transport.js';
export { Mailer, type MailState, type PreparedMail } from './mailer.js';
export { MemoryTransport } from './memory-transport.js';
export type { MailKind, OutgoingMail } from './outgoing-mail.js';
export { type SmtpSettings, SmtpTransport } from './smtp-transport.js';
