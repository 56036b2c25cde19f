import { type AuditLog, base64url, isFault, type Storage, sha256, type Unit } from '../foundation/index.js';
import type { HeldMode, KeyKind, PoolRecord, Sealed, Token } from '../tokens/index.js';
import type { StoredKey } from './key-store.js';
import { requireLivingKek } from './living-keks.js';
import { OnePlace, type SecondPlace } from './second-place.js';

/** A row of `pool`. */
export interface PoolRow {
  n: number;
  suite: 'rsa';
  bits: number;
  kek: string;
  public_key: Buffer;
  wrapped: Buffer;
  mac: Buffer;
}

export interface PoolSettings {
  kind: KeyKind;
  /** Pairs kept ready. */
  target: number;
  /** Milliseconds that another node may take between the token's word and the stored key: a spent pair is let be for so long. 0 where there is no other. */
  others: number;
}

const digest = (bytes: Buffer): string => base64url(sha256(bytes));

/** What the token is asked about a pair with: the record that it sealed, and the blob. */
export function pairOf(row: PoolRow): { sealed: Sealed<PoolRecord>; blob: { wrapped: Buffer; publicKey: Buffer } } {
  const { n, suite, bits, kek, public_key: publicKey, wrapped, mac } = row;
  const record: PoolRecord = { type: 'pool', n, suite, bits, kek, publicKey: digest(publicKey), wrapped: digest(wrapped) };
  return { sealed: { record, mac }, blob: { wrapped, publicKey } };
}

/** Wait after a failed refill, in milliseconds: the token may be away. */
const RETRY = 2_000;

/**
 * Pairs made ahead, so that an enrolment never waits for prime numbers. Each has a number that the token process gives out once and in order;
 * a pair that the token calls spent (a restored database, a race) is destroyed, so no pair ever has two owners.
 */
export class ReadyPool {
  readonly #reserved = new Set<number>();
  #stopped = true;
  #running: Promise<void> | undefined;
  #target: number;
  #wake: (() => void) | undefined;
  /** Somebody called since the level was read last. */
  #called = false;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    readonly settings: PoolSettings,
    /** Called after each pair that arrives: somebody may be waiting for one. */
    private readonly arrived: () => void = () => {},
    private readonly second: SecondPlace = new OnePlace(),
  ) {
    this.#target = settings.target;
  }

  async level({ suite, bits }: KeyKind = this.settings.kind): Promise<number> {
    const row = await this.storage.one<{ level: number }>('SELECT COUNT(*) AS level FROM pool WHERE suite = ? AND bits = ?', [suite, bits]);
    return Number(row?.level ?? 0);
  }

  /** Gives the next pair to an employee: sealed by the token, not stored yet. Undefined when the pool is empty. */
  async take(
    to: { key: string; employee: string; mode: HeldMode; shared?: true },
    kind: KeyKind = this.settings.kind,
  ): Promise<{ key: StoredKey; n: number } | undefined> {
    for (;;) {
      const row = await this.#reserve(kind);
      if (!row) return undefined;
      try {
        const sealed = await this.token.assign(pairOf(row).sealed, to);
        return { key: { sealed, wrapped: row.wrapped, publicKey: row.public_key }, n: row.n };
      } catch (error) {
        const isSpent = isFault(error, 'pair-spent');
        if (isSpent && this.settings.others > 0) {
          this.#destroyLater(row.n, error.code);
          continue;
        }
        this.#reserved.delete(row.n);
        if (!isSpent && !isFault(error, 'record-forged')) throw error;
        await this.#destroy(row.n, error.code);
      }
    }
  }

  /** Takes the row out of the pool, in the unit that stores the key. */
  async remove(unit: Unit, n: number): Promise<void> {
    await unit.run('DELETE FROM pool WHERE n = ?', [n]);
  }

  /** The reservation ends, whether the key was stored or not; a pair that was not stored is destroyed when it is met again. */
  released(n: number): void {
    this.#reserved.delete(n);
    this.#call();
  }

  /** Makes pairs until `count` are ready, then resolves with the level. */
  async fill(count: number, progress: (level: number) => void = () => {}): Promise<number> {
    let level = await this.level();
    while (level < count) {
      await this.make();
      level = await this.level();
      progress(level);
    }
    return level;
  }

  /** After a restore: every pair goes, each with its entry, for another copy of the database may hold it too. Resolves with how many there were. */
  async destroyAll(reason: string): Promise<number> {
    const rows = await this.storage.all<{ n: number }>('SELECT n FROM pool ORDER BY n');
    for (const { n } of rows) await this.#destroy(n, reason);
    return rows.length;
  }

  start(): void {
    this.#stopped = false;
    this.#running = this.#keepFull();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#call();
    await this.#running;
  }

  async #keepFull(): Promise<void> {
    while (!this.#stopped) {
      this.#called = false;
      try {
        if ((await this.level()) < this.#target) await this.make();
        else await this.#pause(60_000);
      } catch {
        // Token or database are away; their own health says so, and the next round tries again.
        if (!this.#stopped) await this.#pause(RETRY);
      }
    }
  }

  #call(): void {
    this.#called = true;
    this.#wake?.();
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      // A call that came while the level was read would otherwise be slept through.
      if (this.#called) return resolve();
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** One pair more, whatever the level; also of a kind that the pool does not keep. */
  async make(wanted: KeyKind = this.settings.kind): Promise<void> {
    const { pair, publicKey, wrapped } = await this.token.makePair(wanted);
    const { n, suite, bits, kek, publicKey: digest } = pair.record;
    await this.second.born(pair, { publicKey, wrapped });
    await this.storage.write(async (unit) => {
      await requireLivingKek(unit, kek);
      await unit.run('INSERT INTO pool (n, suite, bits, kek, public_key, wrapped, mac) VALUES (?, ?, ?, ?, ?, ?, ?)', [
        n,
        suite,
        bits,
        kek,
        publicKey,
        wrapped,
        pair.mac,
      ]);
      await this.audit.append(unit, {
        action: 'key.birth',
        outcome: 'done',
        actor: { kind: 'system' },
        facts: { n, suite, bits, kek, publicKey: digest },
      });
    });
    this.arrived();
  }

  /** The next pair that nobody else is about to take. */
  async #reserve({ suite, bits }: KeyKind): Promise<PoolRow | undefined> {
    for (;;) {
      const enough = this.#reserved.size + 1;
      const rows = await this.storage.all<PoolRow>('SELECT * FROM pool WHERE suite = ? AND bits = ? ORDER BY n LIMIT ?', [
        suite,
        bits,
        enough,
      ]);
      const next = rows.find((row) => !this.#reserved.has(row.n));
      // In the same turn as the look: whoever looked at the same time must see it.
      if (next) this.#reserved.add(next.n);
      if (next || rows.length < enough) return next;
    }
  }

  /** Another node may be about to store the key that this pair has become: then its row goes with that. Until then it stays reserved here. */
  #destroyLater(n: number, reason: string): void {
    const destroy = () => this.#destroy(n, reason).finally(() => this.released(n));
    setTimeout(() => void destroy().catch(() => undefined), this.settings.others).unref();
  }

  async #destroy(n: number, reason: string): Promise<void> {
    await this.storage.write(async (unit) => {
      const gone = await unit.run('DELETE FROM pool WHERE n = ?', [n]);
      if (gone > 0)
        await this.audit.append(unit, { action: 'pool.destroy', outcome: 'done', reason, actor: { kind: 'system' }, facts: { n } });
    });
  }
}
