import type { Employees } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  type Clock,
  Fault,
  isFault,
  newId,
  newSerial,
  type Storage,
  type Unit,
} from '../foundation/index.js';
import type { KeyVault } from '../keys/index.js';
import { fulfil, intend } from '../storage/index.js';
import type { KeyKind } from '../tokens/index.js';
import { type AddressCertificates, successionOf } from './address-certificates.js';
import type { KeyIssuance } from './key-issuance.js';
import { OneByOne } from './one-by-one.js';

const DAY = 86_400_000;
/** People looked at, or written, together. */
const PAGE = 50;
/** Another round; what fell due since waits no longer than this. */
const EVERY_MS = 3_600_000;

export interface RenewalPolicy {
  /** Whether the next certificate is for the same key or for a new one. */
  key: 'same' | 'new';
  /** Days before the end of a certificate from which its successor is there; the old one stays valid meanwhile. */
  overlapDays: number;
}

/** Why a person's key is followed by another while nothing is wrong with it. */
type Occasion = 'renewal' | 'suite-change';

/** An active key that is to be followed by another. */
interface Due {
  key: string;
  employee: string;
}

interface Parts {
  storage: Storage;
  audit: AuditLog;
  clock: Clock;
  employees: Employees;
  vault: KeyVault;
  issuance: KeyIssuance;
  certificates: AddressCertificates;
}

/**
 * Keeps people's certificates and keys young without anybody noticing: before a certificate ends there is another, on the same key or on a new one, and
 * whose keys are to be of another kind gets one. A new key takes over in one unit of work: its certificates are what senders find from then on;
 * the old key goes on opening, and its certificate is not revoked, so that who has it at hand may use it until it ends by itself.
 * What is due is what the rows say, so a round that was cut off is gone on with by the next.
 */
export class KeyRenewal {
  #round: Promise<void> = Promise.resolve();
  #stopped = false;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly parts: Parts,
    private readonly policy: RenewalPolicy,
  ) {}

  begin(defect: (error: unknown) => void): void {
    this.#stopped = false;
    const round = () => void this.run().catch(defect);
    this.#timer = setInterval(round, EVERY_MS);
    round();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#round.catch(() => undefined);
  }

  /** One round over everybody, after the one that is under way. */
  async run(): Promise<void> {
    this.#round = this.#round.then(
      () => this.#run(),
      () => this.#run(),
    );
    await this.#round;
  }

  /** A new key for this person now, by the same path. Rejects with `key-unknown` for somebody without an active one, `renewal-under-way` where another node makes one. */
  async renew(employee: string, by: AuditActor): Promise<void> {
    const key = await this.parts.storage.one<{ id: string }>("SELECT id FROM keys WHERE employee = ? AND state = 'active'", [employee]);
    if (!key) throw new Fault('not-found', 'key-unknown', 'this person has no active key');
    await this.#succeed({ key: key.id, employee }, 'renewal', by);
  }

  /**
   * From now on these people's keys are of this kind; who has one of another kind gets a new key in the background. Without `whom`, everybody who
   * is here now. Rejects with `suite-unavailable`, and as the token does where it makes no such pairs. Resolves with how many people it is about.
   */
  async setKind(kind: KeyKind, whom: readonly string[] | undefined, by: AuditActor): Promise<number> {
    if (kind.suite !== 'rsa')
      throw new Fault('conflict', 'suite-unavailable', `the token of this appliance makes no ${kind.suite} keys yet`);
    await this.parts.issuance.requireKind(kind);
    const people = [...(whom ?? (await this.#everybody()))];
    const { storage, audit } = this.parts;
    for (let at = 0; at < people.length; at += PAGE)
      await storage.write(async (unit) => {
        for (const employee of people.slice(at, at + PAGE)) {
          await unit.run('UPDATE employees SET suite = ?, bits = ? WHERE id = ?', [kind.suite, kind.bits, employee]);
          await audit.append(unit, { action: 'key.kind', outcome: 'done', actor: by, employee, facts: { ...kind } });
        }
      });
    return people.length;
  }

  /** How many people's certificates or keys are due now. */
  async due(): Promise<{ certificates: number; kinds: number }> {
    const count = async (sql: string, values: readonly number[]) =>
      Number((await this.parts.storage.one<{ n: number }>(`SELECT COUNT(*) AS "n" FROM (${sql}) AS due`, values))?.n ?? 0);
    return { certificates: await count(ENDING, [this.#threshold()]), kinds: await count(OTHER_KIND, []) };
  }

  async #run(): Promise<void> {
    const rounds = [
      () => this.#each(`${OTHER_KIND} AND k.employee > ?`, [], 'suite-change'),
      ...(this.policy.key === 'new' ? [() => this.#each(`${ENDING} AND k.employee > ?`, [this.#threshold()], 'renewal')] : []),
      // Also where a new key was due and could not be made: nobody's certificate runs out for that.
      () => this.parts.certificates.renewDue(this.#threshold(), SYSTEM, () => this.#stopped),
    ];
    const each = new OneByOne();
    for (const round of rounds) if (!this.#stopped) await each.try(round);
    each.end();
  }

  async #each(sql: string, values: readonly number[], occasion: Occasion): Promise<void> {
    const { storage } = this.parts;
    const each = new OneByOne();
    for (let after = ''; !this.#stopped; ) {
      const page = await storage.all<Due>(`${sql} ORDER BY k.employee LIMIT ${PAGE}`, [...values, after]);
      for (const due of page) {
        if (this.#stopped) break;
        await each.try(() =>
          this.#succeed(due, occasion, SYSTEM).catch((error: unknown) => {
            // What this person's key does not allow is nothing to tell of every hour.
            if (!isFault(error) || error.kind === 'unavailable') throw error;
          }),
        );
      }
      const last = page.at(-1);
      if (!last) break;
      after = last.employee;
    }
    each.end();
  }

  /**
   * Serials written down, the first under the key's name: of nodes that see the same key due, one goes on. Then token makes pair and certificates → old key
   * and new key change places in one unit → the token hears of the old one's end.
   */
  async #succeed({ key, employee }: Due, occasion: Occasion, by: AuditActor): Promise<void> {
    const { storage, clock, employees, vault, issuance, certificates } = this.parts;
    const asked = (await employees.bindingsOf(employee)).map((binding, n) => ({
      binding,
      serial: newSerial(),
      intent: n === 0 ? successionOf(key) : newId(),
    }));
    const [first, ...further] = asked;
    if (!first) throw new Fault('conflict', 'binding-ended', 'this person has no address any more');
    await storage.write(async (unit) => {
      if (await unit.one('SELECT id FROM intents WHERE id = ?', [first.intent]))
        throw new Fault('conflict', 'renewal-under-way', 'this key is being followed by another just now: look again');
      if (!(await unit.one("SELECT id FROM keys WHERE id = ? AND state = 'active'", [key])))
        throw new Fault('conflict', 'key-changed', 'this key was changed at the same time; look again');
      for (const { intent, serial } of asked) await intend(unit, intent, 'certify', { serial }, clock);
    });
    try {
      await issuance.stock(employee);
      const prepared = await issuance.prepare(first, ...further);
      if (!prepared) throw new Fault('unavailable', 'pool-empty', 'there is no pair ready');
      try {
        const together = async (unit: Unit) => {
          await issuance.insert(unit, prepared, by);
          for (const { intent } of asked) await fulfil(unit, intent);
        };
        await vault.change(key, { state: 'deactivated' }, by, together, occasion);
      } finally {
        issuance.settled(prepared);
      }
    } catch (error) {
      for (const { intent, serial } of asked) await certificates.undo(intent, serial);
      throw error;
    }
  }

  #threshold(): number {
    return this.parts.clock.now().getTime() + this.policy.overlapDays * DAY;
  }

  async #everybody(): Promise<string[]> {
    return (await this.parts.storage.all<{ id: string }>('SELECT id FROM employees ORDER BY id')).map(({ id }) => id);
  }
}

const SYSTEM: AuditActor = { kind: 'system' };

/** The organisation's own key for documents keeps to itself: its certificate is followed on the same key. */
const ACTIVE = `SELECT k.id AS "key", k.employee AS "employee" FROM keys k JOIN employees e ON e.id = k.employee AND e.state = 'active' WHERE k.state = 'active' AND k.mode <> 'quorum'`;
const OTHER_KIND = `${ACTIVE} AND e.suite IS NOT NULL AND (k.suite <> e.suite OR k.bits <> e.bits)`;
/** One of the person's addresses had a certificate on this key, and has none that lasts beyond the threshold. */
const ENDING = `${ACTIVE} AND EXISTS (SELECT 1 FROM bindings b WHERE b.employee = k.employee AND b.to_time IS NULL
  AND EXISTS (SELECT 1 FROM certificates c WHERE c.subject_key = k.id AND c.address = b.address AND c.profile = 'person')
  AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.subject_key = k.id AND c.address = b.address AND c.profile = 'person' AND c.revoked_at IS NULL AND c.not_after > ?))`;
