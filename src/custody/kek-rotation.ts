import { type AuditActor, type AuditLog, type Clock, Fault, isFault, type Storage } from '../foundation/index.js';
import { KeyStore, type PoolRow, pairOf, type SecondPlace, type StoredKey } from '../keys/index.js';
import type { KeyRecord, PoolRecord, Sealed, Token } from '../tokens/index.js';
import { openBackupFile } from './backup-file.js';
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
      root: Buffer;
    },
  ) {}

  /** Makes the next KEK and begins. While a rotation runs, it goes on with that one. */
  async rotate(by: AuditActor): Promise<RotationStatus> {
    const { storage, audit, token, clock } = this.parts;
    const known = await recall<Rotation>(storage, SETTING);
    if (known?.finished !== undefined)
      throw new Fault('conflict', 'kek-rotation-open', 'the former key-encryption key is not destroyed yet: ekms kek retire');
    if (!known) {
      const { kek } = await token.rotateKek();
      await storage.write(async (unit) => {
        await remember(unit, SETTING, { to: kek, begun: clock.now().getTime() });
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
    return { state: finished === undefined ? 'running' : 'finished', to, left: await this.#left(to), since: finished ?? begun };
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
    const { storage, audit, token, backups, root } = this.parts;
    const known = await recall<Rotation>(storage, SETTING);
    if (known?.finished === undefined)
      throw new Fault('conflict', 'kek-in-use', 'keys are still wrapped under the former key-encryption key: ekms kek status');
    if ((await this.#left(known.to)) > 0) {
      // A pair that somebody was just being given while its row was renewed.
      await storage.write((unit) => remember(unit, SETTING, { to: known.to, begun: known.begun }));
      this.resume();
      throw new Fault('conflict', 'kek-in-use', 'a key came in under the former key-encryption key; it is being wrapped anew');
    }
    const [newest] = backups.list();
    const backup = newest && (await openBackupFile(newest.file, root));
    await backup?.close();
    if (!backup || Date.parse(backup.head.created) < known.finished)
      throw new Fault(
        'conflict',
        'backup-older',
        'make a backup first: the newest was made before every key was under the new key-encryption key',
      );
    const destroyed: string[] = [];
    for (let id = Number(known.to) - 1; id > 0; id--)
      try {
        await token.destroyKek(String(id));
        destroyed.push(String(id));
      } catch (error) {
        if (!isFault(error, 'kek-unknown')) throw error;
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
        if ((await this.#renewKeys(known.to)) + (await this.#renewPairs(known.to)) > 0) continue;
        await storage.write(async (unit) => {
          // In the unit: a pair that was on its way under the former KEK may have come in just now.
          const row = await unit.one<{ n: number }>(
            'SELECT (SELECT COUNT(*) FROM keys WHERE kek <> ?) + (SELECT COUNT(*) FROM pool WHERE kek <> ?) AS "n"',
            [known.to, known.to],
          );
          if (Number(row?.n) > 0) return;
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

  async #left(to: string): Promise<number> {
    const row = await this.parts.storage.one<{ n: number }>(
      'SELECT (SELECT COUNT(*) FROM keys WHERE kek <> ?) + (SELECT COUNT(*) FROM pool WHERE kek <> ?) AS "n"',
      [to, to],
    );
    return Number(row?.n ?? 0);
  }

  async #renewKeys(to: string): Promise<number> {
    const { storage, token, second } = this.parts;
    const ids = await storage.all<{ id: string }>('SELECT id FROM keys WHERE kek <> ? LIMIT ?', [to, BATCH]);
    if (this.#stopped) return ids.length;
    // All at once, so that the token process never waits for the next one; it has a lane of its own for them, beside the retrievals.
    const tried = await Promise.allSettled(
      ids.map(async ({ id }): Promise<{ before: KeyRecord; key: StoredKey } | undefined> => {
        const key = await this.#keys.find(storage, id);
        if (!key) return undefined;
        const { sealed, wrapped } = await token.renew(key.sealed, { wrapped: key.wrapped, publicKey: key.publicKey });
        await second.changed({ ...key, sealed, wrapped });
        return { before: key.sealed.record, key: { ...key, sealed, wrapped } };
      }),
    );
    const renewed = tried.flatMap((one) => (one.status === 'fulfilled' && one.value ? [one.value] : []));
    await storage.write(async (unit) => {
      for (const { before, key } of renewed) await this.#keys.renew(unit, before, key);
    });
    const failed = tried.find((one) => one.status === 'rejected');
    if (failed) throw failed.reason;
    return renewed.length;
  }

  async #renewPairs(to: string): Promise<number> {
    const { storage, token } = this.parts;
    const rows = await storage.all<PoolRow>('SELECT * FROM pool WHERE kek <> ? LIMIT ?', [to, BATCH]);
    for (const row of rows) {
      if (this.#stopped) break;
      const { sealed, blob } = pairOf(row);
      const next: { sealed: Sealed<PoolRecord>; wrapped: Buffer } = await token.renew(sealed, blob);
      // Taken meanwhile, it is a key under the former KEK, which the next round finds.
      await storage.write((unit) =>
        unit.run('UPDATE pool SET kek = ?, wrapped = ?, mac = ? WHERE n = ? AND kek = ?', [
          next.sealed.record.kek,
          next.wrapped,
          next.sealed.mac,
          row.n,
          row.kek,
        ]),
      );
    }
    return rows.length;
  }
}
