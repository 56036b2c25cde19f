import { X509Certificate } from 'node:crypto';
import type { RowSeal } from '../access/index.js';
import type { KeyReplacement } from '../certificates/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  isFault,
  newId,
  OneAtATime,
  type Reader,
  type Storage,
  sha256,
  type Unit,
} from '../foundation/index.js';
import { KeyStore, type LifeElsewhere } from '../keys/index.js';
import { fulfil, intend } from '../storage/index.js';
import type { Authorities, KeyState, Token } from '../tokens/index.js';
import { recall, remember } from './backups.js';
import type { TransferredLife } from './transfer-shapes.js';

/** Why a key's state changes; enumerated, so that the log can hold it. */
export const KEY_REASONS = ['superseded', 'compromised', 'departed', 'retention', 'request', 'legal', 'mistake', 'other'] as const;
export type KeyReason = (typeof KEY_REASONS)[number];
/** What the appliance itself gives as a reason beside those. */
type OwnReason = 'renewal' | 'suite-change' | 'birth';

/** A key as it has lived (SP 800-57 part 1 §7); times in ms since 1970. */
export interface KeyLife {
  id: string;
  suite: string;
  bits: number;
  mode: string;
  state: KeyState;
  /** Came from outside. */
  imported: boolean;
  created: number;
  /** Changes of state, oldest first; `elsewhere`: at the appliance that it came from. `statement`: the token's signed word that it was destroyed. */
  changes: { state: KeyState; reason: KeyReason | OwnReason; time: number; statement: string | null; elsewhere?: true }[];
  certificates: { serial: string; notBefore: number; notAfter: number; revokedAt: number | null }[];
}

export interface KeyHold {
  id: string;
  reference: string;
  placed: number;
  lifted: number | null;
}

interface Parts {
  storage: Storage;
  audit: AuditLog;
  token: Token;
  replacement: KeyReplacement;
  clock: Clock;
  seal: RowSeal;
  authorities: Pick<Authorities, 'of'>;
}

/** Years after its end for which a key is kept, as two persons adopted it. */
interface Retention {
  years: number;
}

/**
 * The lives of keys: states with dates and reasons, what is on legal hold, and destruction. A hold is kept here and by the token process, which
 * destroys nothing of a person that it knows to be on hold, whatever the database says.
 */
export class KeyLives {
  readonly #keys = new KeyStore();
  /** What the token process is told, by employee: two words about one person never overtake one another. */
  readonly #telling = new OneAtATime();

  constructor(private readonly parts: Parts) {}

  /**
   * Changes a key's state. What is on hold is not destroyed (`key-held`). Destroying takes the wrapped key out of the database and every kept
   * delivery with it, for good; the token states it, and says what it does not reach.
   */
  async setState(id: string, state: KeyState, reason: KeyReason, by: AuditActor): Promise<{ statement: string } | undefined> {
    const { storage, audit, token, replacement } = this.parts;
    const key = await this.#keys.find(storage, id);
    if (!key) throw new Fault('not-found', 'key-unknown', 'there is no key of this id');
    const { employee, version, publicKey } = key.sealed.record;
    const destroys = state === 'destroyed';
    if (destroys) await this.#requireFree(storage, employee);
    const statement = destroys ? await token.attest('destruction', { key: id, employee, publicKey, reason, reach: REACH }) : null;
    await replacement.setState(id, state, by, reason, async (unit) => {
      // Again, in the unit: a hold that came meanwhile counts.
      if (destroys) await this.#requireFree(unit, employee);
      if (statement) await unit.run('UPDATE key_changes SET statement = ? WHERE key = ? AND version = ?', [statement, id, version + 1]);
      if (statement)
        await audit.append(unit, {
          ...{ action: 'key.destroy', outcome: 'done', actor: by, employee, key: id, subject: id },
          facts: { statement: base64url(sha256(Buffer.from(statement))), publicKey },
        });
    });
    return statement ? { statement } : undefined;
  }

  /** Every key of a person, oldest first, and the holds on them. */
  async of(employee: string): Promise<{ keys: KeyLife[]; holds: KeyHold[] }> {
    const { storage } = this.parts;
    const rows = await storage.all<Omit<KeyLife, 'imported' | 'changes' | 'certificates'> & { origin: string | null }>(
      'SELECT id, suite, bits, mode, state, origin, created FROM keys WHERE employee = ? ORDER BY created, id',
      [employee],
    );
    const keys = await Promise.all(
      rows.map(async ({ origin, ...row }) => ({
        ...row,
        created: Number(row.created),
        imported: origin !== null,
        changes: (
          await storage.all<KeyLife['changes'][0] & { version: number }>(
            'SELECT version, state, reason, time, statement FROM key_changes WHERE key = ? ORDER BY version',
            [row.id],
          )
        ).map(({ version, ...change }) => ({ ...change, time: Number(change.time), ...(version > 0 ? {} : { elsewhere: true as const }) })),
        certificates: (
          await storage.all<KeyLife['certificates'][0]>(
            `SELECT serial, not_before AS "notBefore", not_after AS "notAfter", revoked_at AS "revokedAt" FROM certificates WHERE subject_key = ? ORDER BY not_before, serial`,
            [row.id],
          )
        ).map((certificate) => ({
          ...certificate,
          notBefore: Number(certificate.notBefore),
          notAfter: Number(certificate.notAfter),
          revokedAt: certificate.revokedAt === null ? null : Number(certificate.revokedAt),
        })),
      })),
    );
    return { keys, holds: await this.#holds(storage, employee) };
  }

  /** What another appliance is told of a key that goes there. */
  async lifeOf(key: string, employee: string): Promise<TransferredLife> {
    const { storage } = this.parts;
    const row = await storage.one<{ created: number }>('SELECT created FROM keys WHERE id = ?', [key]);
    const changes = await storage.all<TransferredLife['changes'][0]>(
      'SELECT state, reason, time FROM key_changes WHERE key = ? ORDER BY version',
      [key],
    );
    const holds = (await this.#holds(storage, employee)).filter(({ lifted }) => lifted === null);
    return {
      created: Number(row?.created ?? 0),
      changes: changes.map((change) => ({ ...change, time: Number(change.time) })),
      holds: holds.map(({ id, reference, placed }) => ({ id, reference, placed })),
    };
  }

  /**
   * How a key lived where it came from, in the unit that stores it: its changes stand before version 1, with the dates of there; whoever was on legal hold there
   * is so here. `settleHold` for the owner follows.
   */
  async received(
    unit: Unit,
    { key, employee, life }: { key: string; employee: string; life: LifeElsewhere },
    by: AuditActor,
  ): Promise<void> {
    const birth = { state: 'active', reason: 'birth', time: life.created } as const;
    const changes = [birth, ...life.changes];
    for (const [index, { state, reason, time }] of changes.entries())
      await unit.run('INSERT INTO key_changes (key, version, state, reason, time) VALUES (?, ?, ?, ?, ?)', [
        ...[key, index + 1 - changes.length, state, reason, time],
      ]);
    await this.#holdReceived(unit, employee, life, by);
  }

  /** The holds alone: of a key that came before. */
  async holdReceived(employee: string, life: LifeElsewhere, by: AuditActor): Promise<void> {
    await this.parts.storage.write((unit) => this.#holdReceived(unit, employee, life, by));
    await this.settleHold(`hold:${employee}`);
  }

  async #holdReceived(unit: Unit, employee: string, { holds }: LifeElsewhere, by: AuditActor): Promise<void> {
    for (const { id, reference, placed } of holds) {
      const known = await unit.all<{ id: string }>(
        'SELECT id FROM key_holds WHERE employee = ? AND reference = ? AND placed = ? AND lifted IS NULL',
        [...[employee, reference, placed]],
      );
      if (known.length > 0) continue;
      // One that was placed here, lifted here and came back is in force once more, beside what was.
      const of = (await unit.one('SELECT id FROM key_holds WHERE id = ?', [id])) ? newId() : id;
      await this.#insertHold(unit, { id: of, employee, reference, placed }, by);
    }
  }

  /** From now on no key of this person is destroyed, the later ones included. @param reference a file number outside of EKMS */
  async hold(employee: string, reference: string, by: AuditActor): Promise<{ hold: string }> {
    const id = newId();
    await this.#place({ id, employee, reference }, by);
    return { hold: id };
  }

  /**
   * A hold that the log tells of and a restored database does not; its reference, which the log does not have, is its id. False where it is known.
   */
  async holdAgain(id: string, employee: string, by: AuditActor): Promise<boolean> {
    const { storage } = this.parts;
    if (await storage.one('SELECT id FROM key_holds WHERE id = ?', [id])) return false;
    if (!(await storage.one('SELECT id FROM employees WHERE id = ?', [employee])))
      throw new Fault('not-found', 'employee-unknown', 'there is no such employee');
    await this.#place({ id, employee, reference: id }, by);
    return true;
  }

  async #place(hold: { id: string; employee: string; reference: string }, by: AuditActor): Promise<void> {
    const { storage, clock } = this.parts;
    await storage.write((unit) => this.#insertHold(unit, { ...hold, placed: clock.now().getTime() }, by));
    await this.settleHold(`hold:${hold.employee}`);
  }

  async #insertHold(
    unit: Unit,
    { id, employee, reference, placed }: Omit<KeyHold, 'lifted'> & { employee: string },
    by: AuditActor,
  ): Promise<void> {
    const { audit, clock } = this.parts;
    await unit.run('INSERT INTO key_holds (id, employee, reference, placed, lifted) VALUES (?, ?, ?, ?, NULL)', [
      ...[id, employee, reference, placed],
    ]);
    await audit.append(unit, { action: 'hold.place', outcome: 'done', actor: by, employee, subject: id });
    await fulfil(unit, `hold:${employee}`);
    await intend(unit, `hold:${employee}`, 'hold', {}, clock);
  }

  /**
   * Only this act ever has the token process forget a hold, never a row: who writes the database has none lifted. Cut off before the token heard of it, the
   * hold stands there; the act may be done again, on a hold that was lifted before too.
   */
  async lift(hold: string, by: AuditActor): Promise<void> {
    const { storage, audit, clock, token } = this.parts;
    const { employee, intent } = await storage.write(async (unit) => {
      const row = await unit.one<{ employee: string }>('SELECT employee FROM key_holds WHERE id = ?', [hold]);
      if (!row) throw new Fault('not-found', 'hold-unknown', 'there is no hold of this id');
      await unit.run('UPDATE key_holds SET lifted = ? WHERE id = ? AND lifted IS NULL', [clock.now().getTime(), hold]);
      await audit.append(unit, { action: 'hold.lift', outcome: 'done', actor: by, employee: row.employee, subject: hold });
      // Of its own: a hold that is placed meanwhile settles and ends another.
      const intent = `hold:${row.employee}:${hold}`;
      await fulfil(unit, intent);
      await intend(unit, intent, 'hold', {}, clock);
      return { ...row, intent };
    });
    await this.#telling.run(employee, async () => {
      if (!(await this.#isHeld(storage, employee))) await token.unhold(employee);
    });
    // Another node may have placed one just now, and been overtaken.
    await this.settleHold(intent);
  }

  /**
   * Tells the token process of a hold on this person's keys, which it remembers outside the database and destroys none of them; also run at start for
   * what a crash cut off. @param intent `hold:` and the employee
   */
  async settleHold(intent: string): Promise<void> {
    const { storage, token } = this.parts;
    const [, employee = ''] = intent.split(':');
    const isTold = await this.#telling.run(employee, async () => {
      const isHeld = await this.#isHeld(storage, employee);
      if (isHeld) await token.hold(employee);
      return isHeld;
    });
    // A hold that was placed since then is not yet told of: whoever placed it settles it.
    await storage.write(async (unit) => {
      if (isTold || !(await this.#isHeld(unit, employee))) await fulfil(unit, intent);
    });
  }

  /** After a restore: the token process hears of every hold that the rows tell of; none that it knows is lifted by that. */
  async tellTokenAll(): Promise<void> {
    for (const { employee } of await this.parts.storage.all<{ employee: string }>(
      'SELECT DISTINCT employee FROM key_holds WHERE lifted IS NULL',
    ))
      await this.parts.token.hold(employee);
  }

  /**
   * From now on keys are destroyed so many years after their end, those on hold excepted: the two persons who adopt this have agreed to each of them. 0: none
   * is destroyed by itself.
   */
  async adoptRetention(years: number, by: AuditActor): Promise<void> {
    const { storage, audit, seal } = this.parts;
    await storage.write(async (unit) => {
      // Who writes the database must not have keys destroyed.
      await remember(unit, RETENTION, { years, mac: seal.mac(RETENTION, { years }).toString('base64') });
      await audit.append(unit, { action: 'retention.adopt', outcome: 'done', actor: by, facts: { years } });
    });
  }

  /** The policy, and what it would have destroyed now. Rejects with `retention-forged`. */
  async retention(): Promise<{ years: number; due: string[] }> {
    const { storage, seal } = this.parts;
    const adopted = await recall<Retention & { mac: string }>(storage, RETENTION);
    if (!adopted) return { years: 0, due: [] };
    const { years, mac } = adopted;
    if (!seal.holds(RETENTION, { years }, Buffer.from(mac, 'base64')))
      throw new Fault(
        'forbidden',
        'retention-forged',
        'the policy for keeping keys is not the one that was adopted here: nothing is destroyed by it',
      );
    if (years === 0) return { years, due: [] };
    const before = this.parts.clock.now().getTime() - years * YEAR;
    const due: string[] = [];
    for (const { id } of await storage.all<{ id: string }>(OVER, [before, before])) if ((await this.#vouchedEnd(id)) < before) due.push(id);
    return { years, due };
  }

  /**
   * When the last certificate of a key ends, by the certificates themselves: whoever writes the database can set a column, and not what our authority signed.
   * Of a key that came from outside, by whatever names it. Never, where nothing says it.
   */
  async #vouchedEnd(id: string): Promise<number> {
    const { storage, authorities } = this.parts;
    const key = await this.#keys.find(storage, id);
    const rows = await storage.all<{ der: Buffer }>('SELECT der FROM certificates WHERE subject_key = ?', [id]);
    // Who has the key of one that is retired can date back what it signs, not make it last beyond itself: such a key is kept until the authority's own end.
    const signers = authorities.of('people').map(({ certificate, state }) => {
      const { publicKey, validToDate } = new X509Certificate(certificate);
      return { publicKey, least: state === 'retired' ? validToDate.getTime() : 0 };
    });
    const ends = rows.map(({ der }) => {
      const certificate = readable(der);
      if (!key || !certificate) return Number.POSITIVE_INFINITY;
      const { publicKey, origin } = key.sealed.record;
      const isItsOwn = base64url(sha256(certificate.publicKey.export({ type: 'spki', format: 'der' }))) === publicKey;
      if (!isItsOwn) return Number.POSITIVE_INFINITY;
      const least = origin === 'imported' ? 0 : signers.find((signer) => certificate.verify(signer.publicKey))?.least;
      return least === undefined ? Number.POSITIVE_INFINITY : Math.max(certificate.validToDate.getTime(), least);
    });
    return ends.length > 0 ? Math.max(...ends) : Number.POSITIVE_INFINITY;
  }

  /** Destroys what is due by the policy, each as `setState` does. Resolves with how many. */
  async destroyDue(): Promise<number> {
    let destroyed = 0;
    for (const id of (await this.retention()).due)
      try {
        await this.setState(id, 'destroyed', 'retention', { kind: 'system' });
        destroyed += 1;
      } catch (error) {
        // A hold that came meanwhile, or that the token process alone knows of: that key stays.
        if (!isFault(error) || error.kind === 'unavailable') throw error;
      }
    return destroyed;
  }

  async #holds(reader: Reader, employee: string): Promise<KeyHold[]> {
    const rows = await reader.all<KeyHold>('SELECT id, reference, placed, lifted FROM key_holds WHERE employee = ? ORDER BY placed, id', [
      employee,
    ]);
    return rows.map((row) => ({ ...row, placed: Number(row.placed), lifted: row.lifted === null ? null : Number(row.lifted) }));
  }

  async #isHeld(reader: Reader, employee: string): Promise<boolean> {
    return (await this.#holds(reader, employee)).some(({ lifted }) => lifted === null);
  }

  async #requireFree(reader: Reader, employee: string): Promise<void> {
    if (await this.#isHeld(reader, employee))
      throw new Fault('conflict', 'key-held', 'keys of this person are on legal hold: nothing of them is destroyed until it is lifted');
  }
}

function readable(der: Buffer): X509Certificate | undefined {
  try {
    return new X509Certificate(der);
  } catch {
    return undefined;
  }
}

const RETENTION = 'custody.key-retention';
/** Of a year, so that a leap year costs nobody a day. */
const YEAR = 366 * 86_400_000;
/**
 * Keys whose end lies before a time, as far as columns say: nothing is encrypted to them any more, their last certificate had run out and their last change
 * was made. One that never had a certificate stays: nothing vouches for its age.
 */
const OVER = `SELECT k.id FROM keys k JOIN employees e ON e.id = k.employee WHERE k.state <> 'destroyed' AND k.mode <> 'quorum'
  AND (k.state IN ('deactivated', 'compromised') OR e.state <> 'active')
  AND NOT EXISTS (SELECT 1 FROM key_holds h WHERE h.employee = k.employee AND h.lifted IS NULL)
  AND (SELECT max(c.not_after) FROM certificates c WHERE c.subject_key = k.id) < ?
  AND COALESCE((SELECT max(g.time) FROM key_changes g WHERE g.key = k.id AND g.version > 0), k.created) < ? ORDER BY k.created, k.id LIMIT 1000`;

/** What a destruction does and does not reach, in the signed statement itself. */
const REACH =
  'The wrapped key and every kept delivery are gone from the database and from later backups. Earlier backups, the escrow journal and free pages of the database hold the wrapped key until they are overwritten or their key-encryption key is destroyed; copies that devices hold stay with them.';
