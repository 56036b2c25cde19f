import { randomBytes } from 'node:crypto';
import {
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  fromBase64,
  orRefused,
  type Storage,
  sha256,
  type Unit,
} from '../foundation/index.js';
import type { Mailer, PreparedMail } from '../mail/index.js';
import type { DeviceRegistry } from './device-registry.js';
import type { SecondProof } from './enrolment-store.js';

const DAY = 86_400_000;
/** How long "this was not me" works, in days. */
const FREEZE_DAYS = 30;

export interface Announcement {
  mail: PreparedMail;
  tokenDigest: Buffer;
}

/** Tells a person of each new device, and gives them one way to say that it was not them, which needs no device of their own. */
export class Announcements {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly mailer: Mailer,
    private readonly registry: DeviceRegistry,
    private readonly clock: Clock,
    /** Base address of the client listener. */
    private readonly base: string,
    private readonly staffPage: () => string,
  ) {}

  async prepareEnrolled(address: string, device: { platform: string; name: string | null }): Promise<Announcement> {
    const token = base64url(randomBytes(16));
    const now = this.clock.now();
    const mail = await this.mailer.prepare({
      kind: 'announcement',
      to: address,
      subject: 'A new device can read your encrypted mail',
      text: `A device was set up for your encrypted mail.\n\n  Device: ${describe(device)}\n  Time: ${now.toISOString()}\n\nIf it was you, there is nothing to do.\n\nIf this was not you, stop it here:\n${this.base}/v1/freezes/${token}\n\nThe device gets no key from then on. Tell your IT department as well.\n`,
      expires: now.getTime() + 7 * DAY,
    });
    return { mail, tokenDigest: sha256(token) };
  }

  async prepareWaiting(address: string, device: { platform: string; name: string | null }, waitsFor: SecondProof): Promise<PreparedMail> {
    const who = {
      device: 'Confirm it on a device that you already use, or ask your administrator.',
      approval: 'An administrator has to approve it.',
      directory: `Sign in with your organisation’s account at ${this.staffPage()} and confirm it there.`,
    }[waitsFor];
    return this.mailer.prepare({
      kind: 'approval',
      to: address,
      subject: 'A new device waits to read your encrypted mail',
      text: `A device asks to be set up for your encrypted mail and waits.\n\n  Device: ${describe(device)}\n\n${who}\n\nIf this is not you, do not confirm it, and tell your IT department: somebody has read a message in your mailbox.\n`,
      expires: this.clock.now().getTime() + 7 * DAY,
    });
  }

  async queue(unit: Unit, mail: PreparedMail): Promise<void> {
    await this.mailer.enqueue(unit, mail);
  }

  async insert(unit: Unit, announcement: Announcement, device: string): Promise<void> {
    await this.mailer.enqueue(unit, announcement.mail);
    await unit.run('INSERT INTO freezes (token_digest, device, expires) VALUES (?, ?, ?)', [
      announcement.tokenDigest,
      device,
      this.clock.now().getTime() + FREEZE_DAYS * DAY,
    ]);
  }

  /** "This was not me." Throws `freeze-unknown`; the same for used, expired and invented ones. */
  async freeze(token: string): Promise<void> {
    const event = { action: 'device.freeze', actor: { kind: 'stranger' } } as const;
    await orRefused({ storage: this.storage, audit: this.audit }, event, () => this.#freeze(token));
  }

  async #freeze(token: string): Promise<void> {
    const bytes = fromBase64(token, 'base64url');
    const row =
      bytes?.length === 16
        ? await this.storage.one<{ device: string }>('SELECT device FROM freezes WHERE token_digest = ? AND expires > ?', [
            sha256(token),
            this.clock.now().getTime(),
          ])
        : undefined;
    if (!row) throw new Fault('not-found', 'freeze-unknown', 'this link is not valid, or not any more; ask your IT department');
    await this.registry.end(row.device, 'frozen', { kind: 'stranger' });
    await this.storage.write((unit) => unit.run('DELETE FROM freezes WHERE device = ?', [row.device]));
  }
}

const describe = (device: { platform: string; name: string | null }): string =>
  device.name ? `${device.name} (${device.platform})` : device.platform;
