import { X509Certificate } from 'node:crypto';
import { thisUpdateOf } from '../codec/x509/index.js';
import { type AuditActor, type AuditLog, type Clock, Fault, isFault, type Storage, type Unit } from '../foundation/index.js';
import { type Authorities, type Authority, type AuthorityName, authorityId, type Token } from '../tokens/index.js';
import { markRevoked, type RevocationReason } from './certificate-store.js';

/** Life of a CRL, and how old one may get before the next is made, in days. */
const LIFE = 7;
const DAY = 86_400_000;
/** Tries at a list while others publish too. */
const ATTEMPTS = 5;
const RENEW = 1;
/** Milliseconds that a list may be dated ahead: clocks of nodes and token process differ. */
const AHEAD = 300_000;

/** Made while a clock was ahead: nobody takes it for one in force before that time has come (RFC 5280 §6.3.3). */
export const isAhead = (der: Buffer, now: number): boolean => thisUpdateOf(der).getTime() > now + AHEAD;

/** A serial that was signed and whose certificate nobody has: which generation signed it is not known, so each of the name lists it. */
const LISTED = `FROM certificates WHERE authority IN (?, ?) AND profile <> 'imported' AND (authority = ? OR length(der) = 0)`;
const listedBy = (authority: Authority) => [authorityId(authority), authority.name, authorityId(authority)];

/**
 * Certificate revocation lists (RFC 5280 §5): signed ahead and stored, so that the public listener never waits for the token. Each generation of an authority has its
 * own, with its own numbers; that of a retired one is its last.
 */
export class RevocationLists {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly clock: Clock,
    private readonly authorities: Authorities,
  ) {}

  /** Marks a certificate revoked within the caller's unit; `publish` makes it public. */
  async revoke(unit: Unit, serial: string, reason: RevocationReason, by: AuditActor): Promise<void> {
    if (await markRevoked(unit, serial, reason, this.clock.now().getTime()))
      await this.audit.append(unit, { action: 'certificate.revoke', outcome: 'done', reason, actor: by, subject: serial });
  }

  /** Makes public what was revoked of an authority: by every generation of it that signs lists. */
  async publish(name: AuthorityName): Promise<void> {
    // Another node may have made one, or retired one, since this one looked.
    await this.authorities.refresh();
    for (const authority of this.authorities.of(name))
      if (authority.state !== 'retired')
        await this.#next(authority).catch((error: unknown) => {
          // Retired in this very moment: its last list stands, and the others' are not to wait for it.
          if (!isFault(error, 'authority-retired')) throw error;
        });
  }

  /** The last list of a generation that is about to be retired: it is in force for as long as anything that this generation signed could be. */
  async publishLast(authority: Authority): Promise<void> {
    const end = new X509Certificate(authority.certificate).validToDate.getTime();
    await this.#next(authority, Math.max(LIFE, Math.ceil((end - this.clock.now().getTime()) / DAY)));
  }

  /** Signs and stores the next list; when another was stored meanwhile, once more: that one may not name what this one does. */
  async #next(authority: Authority, days = LIFE): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) if (await this.#publish(authority, days)) return;
  }

  async #publish(of: Authority, wanted: number): Promise<boolean> {
    const now = this.clock.now().getTime();
    const authority = authorityId(of);
    const entries = await this.storage.all<{ serial: string; revoked_at: number; reason: number }>(
      `SELECT serial, revoked_at, reason ${LISTED} AND revoked_at IS NOT NULL ORDER BY revoked_at, serial`,
      listedBy(of),
    );
    const last = await this.storage.one<{ number: number; next_update: number; der: Buffer }>(
      'SELECT number, next_update, der FROM crls WHERE authority = ?',
      [authority],
    );
    // After a last list no shorter one: the key that could follow it up may be gone before this one is stored. One that a clock which was ahead made is not taken for such.
    const wasLast = last !== undefined && last.next_update - thisUpdateOf(last.der).getTime() > (LIFE + RENEW) * DAY;
    const left = Math.ceil(((last?.next_update ?? 0) - now) / DAY);
    const days = wasLast && left > LIFE ? left : wanted;
    // Never below one that a database which is lost gave out (RFC 5280 §5.2.3).
    const number = Math.max((last?.number ?? 0) + 1, Math.floor(now / 1000));
    const der = await this.token.issueCrl({
      ...{ authority: of.name, n: of.n, number, days },
      entries: entries.map(({ serial, revoked_at, reason }) => ({ serial, revokedAt: revoked_at, reason })),
    });
    return this.storage.write(async (unit) => {
      const stored = await unit.run(
        `INSERT INTO crls (authority, number, der, next_update) VALUES (?, ?, ?, ?)
         ON CONFLICT (authority) DO UPDATE SET number = excluded.number, der = excluded.der, next_update = excluded.next_update WHERE crls.number < excluded.number`,
        [authority, number, der, now + days * DAY],
      );
      if (stored > 0)
        await this.audit.append(unit, {
          action: 'crl.issue',
          outcome: 'done',
          actor: { kind: 'system' },
          facts: { authority: of.name, ...(of.n > 1 ? { n: of.n } : {}), number, entries: entries.length },
        });
      return stored > 0;
    });
  }

  /** Publishes every list that is missing, a day old, or dated ahead because the clock was. */
  async publishDue(): Promise<void> {
    const now = this.clock.now().getTime();
    for (const authority of this.authorities.all) {
      if (authority.state === 'retired') continue;
      const last = await this.storage.one<{ der: Buffer }>('SELECT der FROM crls WHERE authority = ?', [authorityId(authority)]);
      // By what the list says: the last one of a generation whose retirement was given up is in force for years.
      const made = last ? thisUpdateOf(last.der).getTime() : 0;
      const newer = await this.storage.one(`SELECT serial ${LISTED} AND revoked_at >= ?`, [...listedBy(authority), made]);
      if (newer || made < now - RENEW * DAY || (last && isAhead(last.der, now))) await this.#next(authority);
    }
  }

  /** DER. Throws `crl-unknown`. */
  async find(authority: string): Promise<Buffer> {
    const row = await this.storage.one<{ der: Buffer }>('SELECT der FROM crls WHERE authority = ?', [authority]);
    if (!row) throw new Fault('not-found', 'crl-unknown', 'there is no such revocation list here');
    return row.der;
  }
}
