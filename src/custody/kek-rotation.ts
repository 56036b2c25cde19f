import { type AuditActor, type AuditLog, type Clock, Fault, isFault, type Reader, type Storage, type Unit } from '../foundation/index.js';
import { endKeksBefore, KeyStore, type PoolRow, pairOf, type SecondPlace } from '../keys/index.js';
import type { Token } from '../tokens/index.js';
import { type Backups, recall, remember } from './backups.js';

const SETTING = 'custody.kek-rotation';
/** Keys wrapped anew before they are written together. */
const BATCH = 32;
const RETRY_MS = 2_000;

/** Kept in `settings` until the former KEK is destroyed. */
interface Rotation {
  to: string;
  begun: number;
  finished?: number;
}

export interface RotationStatus {
  /** `none`: one KEK, nothing to do; `running`; `finished`: nothing is under a former KEK any more, which may be destroyed. */
  state: 'none' | 'running' | 'finished';
  to?: string;
  /** Keys and pairs that are still under a former KEK. */
  left: number;
  /** When this state began, in milliseconds since 1970; absent for `none`. */
  since?: number;
}

/**
 * Puts a new KEK into service and wraps every key under it, in the background, while both open what is under them. Killed at any point it goes
 * on at the next start: what is left is what the rows say.
 */
export class KekRotation {
  readonly #keys = new KeyStore();
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(
    private readonly parts: {
      storage: Storage;
      audit: AuditLog;
      token: Token;
      clock: Clock;
      second: SecondPlace;
      backups: Backups;
    },
  ) {}

  /** Makes the next KEK and begins. While a rotation runs, it goes on with that one. Rejects with `second-place-away`, `kek-name-taken`: then no KEK was made. */
  async rotate(by: AuditActor): Promise<RotationStatus> {
    const { storage, audit, token, clock, second } = this.parts;
    const known = await recall<Rotation>(storage, SETTING);
    if (known?.finished !== undefined)
      throw new Fault('conflict', 'kek-rotation-open', 'the former key-encryption key is not destroyed yet: ekms kek retire');
    if (!known) {
      await second.requireKnown('kek');
      const { kek } = await token.rotateKek();
      await storage.write(async (unit) => {
        // Two nodes that were asked at once have made two: the later one serves.
        const other = await recall<Rotation>(unit, SETTING);
        const to = String(Math.max(Number(kek), Number(other?.to ?? 0)));
        await remember(unit, SETTING, { to, begun: clock.now().getTime() });
        await audit.append(unit, { action: 'kek.rotate', outcome: 'done', actor: by, facts: { kek } });
      });
    }
    this.resume();
    return this.status();
  }

  async status(): Promise<RotationStatus> {
    const known = await recall<Rotation>(this.parts.storage, SETTING);
    if (!known) return { state: 'none', left: 0 };
    const { to, begun, finished } = known;
    return {
      state: finished === undefined ? 'running' : 'finished',
      to,
      left: await left(this.parts.storage, to),
      since: finished ?? begun,
    };
  }

  /** The KEK that took over, where former ones still stand with nothing under them, and since when (ms since 1970). Asked at each look at health: counts nothing. */
  async finished(): Promise<{ to: string; since: number } | undefined> {
    const known = await recall<Rotation>(this.parts.storage, SETTING);
    return known?.finished === undefined ? undefined : { to: known.to, since: known.finished };
  }

  /** Goes on with what was begun, if something was. */
  resume(): void {
    this.#stopped = false;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  /**
   * Destroys the former KEKs. Wants that nothing is under them, and a backup made since, read from end to end: older backups stay openable, for the
   * custodians keep their copy of every KEK. Kept deliveries end with their KEK.
   */
  async retire(by: AuditActor): Promise<{ destroyed: string[] }> {
    const { storage, audit, token, backups } = this.parts;
    const known = await recall<Rotation>(storage, SETTING);
    if (known?.finished === undefined)
      throw new Fault('conflict', 'kek-in-use', 'keys are still wrapped under the former key-encryption key: ekms kek status');
    const [newest] = await backups.list();
    const backup = newest && (await backups.verify(newest.file));
    if (!backup || Date.parse(backup.created) < known.finished)
      throw new Fault(
        'conflict',
        'backup-older',
        'make a backup first: the newest was made before every key was under the new key-encryption key',
      );
    // In one unit: what was wrapped under a former KEK and is still under way is refused from here on.
    const isClear = await storage.write(async (unit) => {
      const isClear = (await left(unit, known.to)) === 0;
      // A pair that somebody was just being given while its row was renewed.
      if (isClear) await endKeksBefore(unit, known.to);
      else await remember(unit, SETTING, { to: known.to, begun: known.begun });
      return isClear;
    });
    if (!isClear) {
      this.resume();
      throw new Fault('conflict', 'kek-in-use', 'a key came in under the former key-encryption key; it is being wrapped anew');
    }
    const destroyed: string[] = [];
    for (let id = Number(known.to) - 1; id > 0; id--)
      try {
        await token.destroyKek(String(id));
        destroyed.push(String(id));
      } catch (error) {
        if (!isFault(error, 'kek-unknown')) throw error;
        // A try that was cut off before its entry had destroyed it.
        if (id === Number(known.to) - 1) destroyed.push(String(id));
      }
    await storage.write(async (unit) => {
      await unit.run('DELETE FROM deliveries');
      await unit.run('DELETE FROM settings WHERE name = ?', [SETTING]);
      // What is sealed to these opens no more: the other side asks for another.
      for (const kek of destroyed) await unit.run('DELETE FROM transfer_keys WHERE kek = ?', [kek]);
      for (const kek of destroyed) await audit.append(unit, { action: 'kek.destroy', outcome: 'done', actor: by, facts: { kek } });
    });
    return { destroyed };
  }

  async #run(): Promise<void> {
    const { storage, audit, clock } = this.parts;
    while (!this.#stopped) {
      try {
        const known = await recall<Rotation>(storage, SETTING);
        if (!known || known.finished !== undefined) return;
        // A key that the token refuses does not keep the pool, from which people get theirs, under the former KEK.
        const [keys] = await Promise.allSettled([this.#renewKeys(known.to)]);
        const pairs = await this.#renewPairs(known.to);
        if (keys.status === 'rejected') throw keys.reason;
        if (keys.value + pairs > 0) continue;
        await storage.write(async (unit) => {
          // In the unit: a pair that was on its way under the former KEK may have come in just now.
          if ((await left(unit, known.to)) > 0) return;
          await remember(unit, SETTING, { ...known, finished: clock.now().getTime() });
          await audit.append(unit, { action: 'kek.rotated', outcome: 'done', actor: { kind: 'system' }, facts: { kek: known.to } });
        });
      } catch (error) {
        // Token, database or second place are away, which their own health says; a defect must not end the appliance either.
        if (!isFault(error)) process.stderr.write(`rotation of the key-encryption key: ${String(Object(error).name)}\n`);
        for (let waited = 0; waited < RETRY_MS && !this.#stopped; waited += 100) await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  async #renewKeys(to: string): Promise<number> {
    const { storage, token, second } = this.parts;
    return this.#renewAll({
      next: (after: string | undefined) => this.#keys.underOther(storage, to, after ?? '', BATCH),
      place: ({ sealed }) => sealed.record.id,
      renew: async (key) => {
        const { sealed, wrapped } = await token.renew(key.sealed, { wrapped: key.wrapped, publicKey: key.publicKey });
        const renewed = { ...key, sealed, wrapped };
        await second.changed(renewed);
        return { before: key.sealed.record, renewed };
      },
      write: async (unit, { before, renewed }) => void (await this.#keys.renew(unit, before, renewed)),
    });
  }

  async #renewPairs(to: string): Promise<number> {
    const { storage, token } = this.parts;
    return this.#renewAll({
      next: (after: number | undefined) =>
        storage.all<PoolRow>('SELECT * FROM pool WHERE n > ? AND kek <> ? ORDER BY n LIMIT ?', [after ?? 0, to, BATCH]),
      place: ({ n }) => n,
      renew: async (row) => {
        const { sealed, blob } = pairOf(row);
        return { n: row.n, former: row.kek, next: await token.renew(sealed, blob) };
      },
      // Taken meanwhile, it is a key under the former KEK, which the next round finds.
      write: async (unit, { n, former, next: { sealed, wrapped } }) =>
        void (await unit.run('UPDATE pool SET kek = ?, wrapped = ?, mac = ? WHERE n = ? AND kek = ?', [
          ...[sealed.record.kek, wrapped, sealed.mac],
          ...[n, former],
        ])),
    });
  }

  /**
   * Once through all rows, a batch at a time: the token has the next one in hand while one is being written. What the token refuses (a forged row) stays as it is and
   * keeps nothing else waiting; then it rejects with the first refusal at the end, or at once when token or database are away.
   */
  async #renewAll<Row, Place, Renewed>(of: {
    next: (after: Place | undefined) => Promise<Row[]>;
    place: (row: Row) => Place;
    renew: (row: Row) => Promise<Renewed>;
    write: (unit: Unit, renewed: Renewed) => Promise<void>;
  }): Promise<number> {
    let count = 0;
    let refusal: unknown;
    const finish = async (tried: PromiseSettledResult<Renewed>[]) => {
      const renewed = tried.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
      await this.parts.storage.write(async (unit) => {
        for (const one of renewed) await of.write(unit, one);
      });
      count += renewed.length;
      for (const one of tried)
        if (one.status === 'rejected') {
          if (!isFault(one.reason) || (one.reason.kind === 'unavailable' && one.reason.code !== 'token-defect')) throw one.reason;
          refusal ??= one.reason;
        }
    };
    let before = Promise.resolve();
    for (let after: Place | undefined; !this.#stopped; ) {
      const rows = await of.next(after);
      const last = rows.at(-1);
      if (last === undefined) break;
      after = of.place(last);
      // All at once, so that the token process never waits for the next one; it has a lane of its own for them, beside the retrievals.
      const tried = Promise.allSettled(rows.map(of.renew));
      await before;
      before = tried.then(finish);
      before.catch(() => undefined); // it is told where it is waited for
    }
    await before;
    if (refusal !== undefined) throw refusal;
    return count;
  }
}

/** Keys and pairs that are under another KEK. */
async function left(reader: Reader, to: string): Promise<number> {
  const row = await reader.one<{ n: number }>(
    'SELECT (SELECT COUNT(*) FROM keys WHERE kek <> ?) + (SELECT COUNT(*) FROM pool WHERE kek <> ?) AS "n"',
    [to, to],
  );
  return Number(row?.n ?? 0);
}
