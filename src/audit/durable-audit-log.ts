import { randomBytes } from 'node:crypto';
import {
  type AuditAction,
  type AuditEvent,
  AuditLog,
  base64url,
  type Clock,
  Fault,
  inadmissible,
  type Receipt,
  type Unit,
} from '../foundation/index.js';
import { ENTRY_BYTES, leafHash, type PersonalValue, type Place, writeEntry } from './entry.js';
import { sealedEvent, type Veil } from './sealed-entries.js';
import { LogStanding } from './standing.js';

/** What every entry says of the network policy. */
export interface PolicyInForce {
  /** 0 while only ekms.yaml has one. */
  version(): number;
  /** The name of the network that an address is in. */
  networkOf(address: string): string | undefined;
}

/**
 * Appends within the caller's unit of work. Units run one after the other (storage's one writer, on PostgreSQL of all nodes), so the last entry says the
 * next one's index, and a unit that is undone gives its index back: the log has no gaps. A row that counts them would be one more page of each commit.
 */
export class DurableAuditLog extends AuditLog {
  constructor(
    private readonly clock: Clock,
    private readonly standing: Pick<LogStanding, 'requireWhole'> = new LogStanding(),
    private readonly salt: () => Buffer = salts(),
    private readonly policy: PolicyInForce = { version: () => 0, networkOf: () => undefined },
    private readonly veil?: Veil,
  ) {
    super();
  }

  override async append(unit: Unit, said: AuditEvent): Promise<Receipt> {
    if (RELEASES.has(said.action) && said.outcome === 'done') this.standing.requireWhole();
    try {
      const wrong = inadmissible(said);
      if (wrong !== undefined) throw new RangeError(wrong);
      const event = said.sealedUntil === undefined ? said : sealedEvent(said);
      const personal = Object.entries(event.personal ?? {}).map(([name, value]) => ({ name, value, salt: this.salt() }));
      const { network } = event.personal ?? {};
      const place = {
        ...(await this.#place(unit, event.key)),
        policy: this.policy.version(),
        from: network === undefined ? undefined : this.policy.networkOf(network),
      };
      const body = writeEntry(event, place, personal);
      if (Buffer.byteLength(body) > ENTRY_BYTES) throw new RangeError(`an entry has at most ${ENTRY_BYTES} bytes`);
      const leaf = leafHash(body);
      const isSealed = said.sealedUntil !== undefined;
      await keep(unit, event, place, body, leaf, isSealed ? [] : personal);
      if (isSealed) await this.#keepSealed(unit, place.index, said.sealedUntil ?? 0, personal);
      return { index: place.index, leaf: base64url(leaf) };
    } catch (error) {
      throw new Fault('unavailable', 'audit-unavailable', `the audit log did not take the entry: ${(error as Error).message}`, 2);
    }
  }

  async #keepSealed(unit: Unit, index: number, until: number, personal: readonly PersonalValue[]): Promise<void> {
    const { veil } = this;
    if (!veil) throw new Error('nothing can be sealed here');
    for (const { salt, value } of personal)
      await unit.run('INSERT INTO audit_sealed (idx, until, salt, content) VALUES (?, ?, ?, ?)', [
        index,
        until,
        salt,
        veil.cover(salt, value),
      ]);
  }

  /** The next index and a time not before the last entry's; for a key that we have, the place in its chain of uses. */
  async #place(unit: Unit, key: string | undefined): Promise<Place> {
    const now = this.clock.now().getTime();
    const [row] = await unit.all<{ next: number | null; time: number | null; covered: number }>(LAST);
    if (!row) throw new Error('the row of its tree is missing');
    // Never an index that the tree covers: where entries are gone from the end, the hole stays for everybody to see.
    const place = { index: Math.max(row.next ?? 0, row.covered), time: Math.max(row.time ?? 0, now) };
    if (key === undefined) return place;
    const last = await unit.one<{ uses: number | null; last_leaf: Buffer | null }>(
      'SELECT (SELECT uses FROM key_uses WHERE key = keys.id) AS uses, (SELECT last_leaf FROM key_uses WHERE key = keys.id) AS last_leaf FROM keys WHERE id = ?',
      [key],
    );
    // A stranger may ask for a key that does not exist: that is an entry, but no key's use.
    return last ? { ...place, use: { count: (last.uses ?? 0) + 1, previous: last.last_leaf ?? undefined } } : place;
  }
}

const LAST = `SELECT size AS covered, (SELECT max(idx) + 1 FROM audit_entries) AS next, (SELECT time FROM audit_entries ORDER BY idx DESC LIMIT 1) AS time
  FROM audit_tree WHERE id = 1`;

/** What hands a key out, or its use: to its owner's device or a member's, by a recovery case, or to another place. */
const RELEASES: ReadonlySet<AuditAction> = new Set(['key.deliver', 'key.decrypt', 'key.read', 'recovery.release', 'key.export']);

async function keep(
  unit: Unit,
  event: AuditEvent,
  place: Place,
  body: string,
  leaf: Buffer,
  personal: readonly PersonalValue[],
): Promise<void> {
  await unit.run(
    'INSERT INTO audit_entries (idx, leaf, body, time, action, outcome, key, device, employee) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
    [place.index, leaf, body, place.time, event.action, event.outcome, event.key ?? null, event.device ?? null, event.employee ?? null],
  );
  if (place.use && event.key)
    await unit.run(
      'INSERT INTO key_uses (key, uses, last_leaf) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET uses = excluded.uses, last_leaf = excluded.last_leaf',
      [event.key, place.use.count, leaf],
    );
  for (const { name, salt, value } of personal)
    await unit.run('INSERT INTO audit_values (idx, name, salt, value) VALUES (?, ?, ?, ?)', [place.index, name, salt, value]);
}

/** 32 random bytes at each call, drawn from the system in blocks: a draw costs as much as an insert. */
function salts(): () => Buffer {
  let block = Buffer.alloc(0);
  return () => {
    if (block.length === 0) block = randomBytes(4096);
    const salt = Buffer.from(block.subarray(0, 32));
    block = block.subarray(32);
    return salt;
  };
}
