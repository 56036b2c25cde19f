import { z } from 'zod';
import { Fault, parseAddress } from '../foundation/index.js';

/** What a mail is for; goes into the audit entry. */
export type MailKind = 'challenge' | 'announcement' | 'approval' | 'sign-in';

/** A mail as the room that sends it says it. Everything else (From, Date, Message-ID, the signature) is this room's. */
export interface OutgoingMail {
  kind: MailKind;
  /** One mailbox. */
  to: string;
  subject: string;
  /** Plain text, any Unicode, lines ended by LF or CRLF. */
  text: string;
  /** `Auto-Submitted` (else `auto-generated`) and headers of our own, as `EKMS-Enrolment`. Printable ASCII. */
  headers?: Readonly<Record<string, string>>;
  /** Milliseconds since 1970. From then on the mail is worth nothing: it is reported failed and never sent. */
  expires: number;
}

/** RFC 5322 §2.2: a field body never holds a bare CR, LF or NUL. We take no control character (Cc) and no lone surrogate (Cs): nothing begins a header of its own. */
const plain = z.string().regex(/^[^\p{Cc}\p{Cs}]*$/u, 'control characters are refused');
const shape = z.object({
  kind: z.enum(['challenge', 'announcement', 'approval', 'sign-in']),
  to: z.string(),
  // RFC 5322 §2.1.1 limits a line to 998 octets; folded encoded-words have room, a subject of this size is no subject any more.
  subject: plain.min(1).max(250),
  text: z
    .string()
    .max(64 * 1024)
    .transform((text) => text.replaceAll('\r\n', '\n'))
    .refine((text) => !/[^\P{Cc}\t\n]|\p{Cs}/u.test(text), 'of control characters only tab and line feed are taken'),
  headers: z
    .record(z.string().regex(/^(EKMS-[A-Za-z-]{1,60}|Auto-Submitted)$/), z.string().regex(/^[\x21-\x7e]([\x20-\x7e]{0,898}[\x21-\x7e])?$/))
    .default({}),
  expires: z.number().int(),
});

export type CheckedMail = z.output<typeof shape>;

/** The mail with its address normalised; Fault `mail-malformed` says which part is not fit to be sent. */
export function checkMail(mail: OutgoingMail): CheckedMail {
  const checked = shape.safeParse(mail);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    throw new Fault('malformed', 'mail-malformed', `this mail cannot be sent: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  return { ...checked.data, to: parseAddress(checked.data.to).shown };
}
