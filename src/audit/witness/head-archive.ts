import { type AuditLog, base64url, type Clock, type Storage, type Unit } from '../../foundation/index.js';
import type { LogTree } from '../log-tree.js';

/** Sends the head to people who keep it; a mail each, signed as every mail of the appliance. Prepared before the unit of work, queued in it. */
export type HeadMail = (note: string) => Promise<(unit: Unit) => Promise<void>>;

const SENT = 'head-archived';
const HOUR = 3_600_000;

/**
 * Heads for archives that nobody can ask back, but everybody can look into: an entry that goes wherever the log is forwarded to (syslog, files, OpenTelemetry), and a
 * mail. Once in so many hours in which something happened.
 */
export class HeadArchive {
  constructor(
    private readonly parts: { storage: Storage; audit: AuditLog; tree: LogTree; clock: Clock; mail: HeadMail | undefined },
    private readonly everyHours: number,
  ) {}

  async sendDue(): Promise<void> {
    const { storage, audit, tree, clock, mail } = this.parts;
    const now = clock.now().getTime();
    const kept = await storage.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [SENT]);
    const [time = 0, size = 0] = kept?.value.split(' ').map(Number) ?? [];
    const { note, signed } = await tree.state();
    // The entry and the mails about a head make the log grow: that alone is no news.
    if (note === null || now - time < this.everyHours * HOUR || signed <= size + OWN) return;
    const [origin = '', , root = ''] = note.split('\n');
    const post = await mail?.(note);
    await storage.write(async (unit) => {
      await post?.(unit);
      await unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
        SENT,
        `${now} ${signed}`,
      ]);
      const facts = { origin, size: signed, root: base64url(Buffer.from(root, 'base64')) };
      await audit.append(unit, { action: 'audit.head', outcome: 'done', actor: { kind: 'system' }, facts });
    });
  }
}

/** Entries that an archived head brings about: its own, and one of each mail that was sent. */
const OWN = 1 + 8;
