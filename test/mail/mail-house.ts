import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { type AuditEvent, AuditLog, Clock, Fault, type Receipt, type Storage, type Unit } from '../../src/foundation/index.js';
import { MailQueue, MailSealer, type MailTransport, type OutgoingMail } from '../../src/mail/index.js';
import type { MailAuthority } from './mail-authority.js';

export const FROM = 'ekms@corp.example';

/** Real time, and as much more of it as a test says. */
export class MovableClock extends Clock {
  ahead = 0;
  override now(): Date {
    return new Date(Date.now() + this.ahead);
  }
}

/** AES-256-GCM with a fixed key: what the token does, so that a second process opens what the first one sealed. */
export class FixedSealer extends MailSealer {
  #key = Buffer.alloc(32, 7);
  away = false;
  /** Called before each opening. */
  onOpen: () => void = () => undefined;

  override async sealBytes(plaintext: Uint8Array, context: string): Promise<Buffer> {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(Buffer.from(context));
    return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }

  override async openBytes(sealed: Uint8Array, context: string): Promise<Buffer> {
    this.onOpen();
    if (this.away) throw new Fault('unavailable', 'token-unavailable', 'the token does not answer', 1);
    const bytes = Buffer.from(sealed);
    const decipher = createDecipheriv('aes-256-gcm', this.#key, bytes.subarray(0, 12))
      .setAAD(Buffer.from(context))
      .setAuthTag(bytes.subarray(-16));
    try {
      return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]);
    } catch {
      throw new Fault('forbidden', 'token-refused', 'these bytes were not sealed here');
    }
  }
}

export class ListAuditLog extends AuditLog {
  readonly events: AuditEvent[] = [];
  away = false;

  override async append(_unit: Unit, event: AuditEvent): Promise<Receipt> {
    if (this.away) throw new Fault('unavailable', 'audit-unavailable', 'the log cannot be written', 1);
    return { index: this.events.push(event) - 1, leaf: '' };
  }
}

/** A queue with everything around it, on a database and a transport of the test's choice. */
export function mailHouse(storage: Storage, transport: MailTransport, authority: Pick<MailAuthority, 'certificates' | 'sign'>) {
  const [clock, sealer, audit] = [new MovableClock(), new FixedSealer(), new ListAuditLog()];
  const signer = { certificates: async () => authority.certificates, signMail: authority.sign };
  const queue = new MailQueue({ storage, audit, clock, transport, signer, sealer, from: FROM });
  const mail = (to: string, more: Partial<OutgoingMail> = {}): OutgoingMail => ({
    kind: 'challenge',
    to,
    subject: 'ACME: 2R_-xhm3SjTUDn4c1a8nRA',
    text: 'Somebody asks.\n',
    expires: clock.now().getTime() + 600_000,
    ...more,
  });
  return {
    clock,
    sealer,
    audit,
    queue,
    mail,
    /** Prepares and queues; gives the mail's id. */
    async send(to: string, more: Partial<OutgoingMail> = {}): Promise<string> {
      const prepared = await queue.prepare(mail(to, more));
      await storage.write((unit) => queue.enqueue(unit, prepared));
      return prepared.id;
    },
    /** Flushes at later and later times, until nothing is queued any more. */
    async settle(): Promise<void> {
      const queued = () => storage.one(`SELECT id FROM mails WHERE state = 'queued'`);
      for (let turn = 0; turn < 30 && (await queued()); turn++) {
        await queue.flush();
        clock.ahead += 61_000;
      }
    },
  };
}
