import { type AuditActor, type AuditLog, type Clock, Fault, type Storage, type Unit } from '../foundation/index.js';
import type { AuthorityName, Token } from '../tokens/index.js';
import { markRevoked, type RevocationReason } from './certificate-store.js';

/** Life of a CRL, and how old one may get before the next is made, in days. */
const LIFE = 7;
const DAY = 86_400_000;
/** Tries at a list while others publish too. */
const ATTEMPTS = 5;
const RENEW = 1;
export const AUTHORITIES: readonly AuthorityName[] = ['root', 'people', 'devices', 'infrastructure'];

/** Certificate revocation lists (RFC 5280 §5): signed ahead and stored, so that the public listener never waits for the token. */
export class RevocationLists {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly clock: Clock,
  ) {}

  /** Marks a certificate revoked within the caller's unit; `publish` makes it public. */
  async revoke(unit: Unit, serial: string, reason: RevocationReason, by: AuditActor): Promise<void> {
    if (await markRevoked(unit, serial, reason, this.clock.now().getTime()))
      await this.audit.append(unit, { action: 'certificate.revoke', outcome: 'done', reason, actor: by, subject: serial });
  }

  /** Signs and stores the next CRL of an authority; when another was stored meanwhile, once more: that one may not name what this one does. */
  async publish(authority: AuthorityName): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) if (await this.#publish(authority)) return;
  }

  async #publish(authority: AuthorityName): Promise<boolean> {
    const now = this.clock.now().getTime();
    const entries = await this.storage.all<{ serial: string; revoked_at: number; reason: number }>(
      'SELECT serial, revoked_at, reason FROM certificates WHERE authority = ? AND revoked_at IS NOT NULL ORDER BY revoked_at, serial',
      [authority],
    );
    const last = await this.storage.one<{ number: number }>('SELECT number FROM crls WHERE authority = ?', [authority]);
    const number = (last?.number ?? 0) + 1;
    const der = await this.token.issueCrl({
      authority,
      number,
      entries: entries.map(({ serial, revoked_at, reason }) => ({ serial, revokedAt: revoked_at, reason })),
      days: LIFE,
    });
    return this.storage.write(async (unit) => {
      const stored = await unit.run(
        `INSERT INTO crls (authority, number, der, next_update) VALUES (?, ?, ?, ?)
         ON CONFLICT (authority) DO UPDATE SET number = excluded.number, der = excluded.der, next_update = excluded.next_update WHERE crls.number < excluded.number`,
        [authority, number, der, now + LIFE * DAY],
      );
      if (stored > 0)
        await this.audit.append(unit, {
          action: 'crl.issue',
          outcome: 'done',
          actor: { kind: 'system' },
          facts: { authority, number, entries: entries.length },
        });
      return stored > 0;
    });
  }

  /** Publishes every list that is missing or a day old. */
  async publishDue(): Promise<void> {
    const now = this.clock.now().getTime();
    for (const authority of AUTHORITIES) {
      const last = await this.storage.one<{ next_update: number }>('SELECT next_update FROM crls WHERE authority = ?', [authority]);
      const made = (last?.next_update ?? 0) - LIFE * DAY;
      const newer = await this.storage.one('SELECT serial FROM certificates WHERE authority = ? AND revoked_at >= ?', [authority, made]);
      if (newer || made < now - RENEW * DAY) await this.publish(authority);
    }
  }

  /** DER. Throws `crl-unknown`. */
  async find(authority: string): Promise<Buffer> {
    const row = await this.storage.one<{ der: Buffer }>('SELECT der FROM crls WHERE authority = ?', [authority]);
    if (!row) throw new Fault('not-found', 'crl-unknown', 'there is no such revocation list here');
    return row.der;
  }
}
