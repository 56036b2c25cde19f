import type { Budgets, DeviceActor, Membership, SharedMailboxes } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  type Clock,
  Fault,
  isFault,
  orRefused,
  type Receipt,
  type Storage,
  type Unit,
} from '../foundation/index.js';
import { fulfil, intend } from '../storage/index.js';
import { type KeyMode, type KeyState, type OaepHash, READABLE, type Token, type TransportScheme } from '../tokens/index.js';
import { KeyStore, type StoredKey } from './key-store.js';
import { OnePlace, type SecondPlace } from './second-place.js';

/** What keys asks of the room above: the certificates of a person's keys. Certificates fills this port. */
export abstract class KeyCertificates {
  /** By key id: PEM leaves, newest first, then the issuing authority. */
  abstract ofEmployee(employee: string): Promise<Map<string, string[]>>;
  /** Asks that a key be given to somebody who has none, as soon as the pool has one. */
  abstract isPending(employee: string): Promise<boolean>;
}

type ReadableState = Extract<KeyState, 'active' | 'deactivated' | 'compromised'>;

/** One key on its way to one device (docs/formats/delivery.md). */
export interface DeliveredKey {
  id: string;
  suite: string;
  state: ReadableState | 'pending';
  mode: KeyMode;
  certificates: string[];
  /** DER. */
  delivery: Buffer | null;
  signature: string | null;
  receipt: Receipt | null;
  /** It came from outside. */
  imported?: true;
  /** Address of the shared mailbox that it is for. */
  mailbox?: string;
  /** Set when this very key is refused while others are handed out: the refusal's code. */
  problem?: string;
}

export interface RemoteDecryption {
  scheme: TransportScheme;
  encryptedKey: Buffer;
  length: 16 | 24 | 32;
}

interface ListedKey {
  id: string;
  version: number;
  suite: string;
  state: KeyState;
  mode: KeyMode;
  created: number;
  origin: 'imported' | null;
  kept: KeptDelivery | undefined;
  /** Of a shared mailbox that the actor's person reads. */
  through: Membership | undefined;
}

interface KeptDelivery {
  key: string;
  delivery: Buffer;
  signature: string;
}

const isReadable = (key: ListedKey): key is ListedKey & { state: ReadableState } => READABLE.includes(key.state);

/** Hands a person's keys, current and former, to that person's devices, and to nobody else. */
export class KeyVault {
  readonly #store = new KeyStore();

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly certificates: KeyCertificates,
    private readonly budgets: Budgets,
    private readonly clock: Clock,
    private readonly defaultMode: KeyMode,
    private readonly mailboxes: Pick<SharedMailboxes, 'of'>,
    private readonly second: SecondPlace = new OnePlace(),
  ) {}

  /**
   * Every readable key of the actor's employee, and of the shared mailboxes that they read, sealed for the actor's device. A first delivery comes from the token and is kept; later ones are
   * served from what was kept, with the same entry. Nothing is returned whose entry is not durable. A key that the token refuses (a damaged or
   * forged row) does not keep the others from their owner: it is listed with its `problem`, and only when every key is refused does the call reject.
   * Rejects with `budget-exceeded` before the token is asked for anything.
   */
  async retrieve(actor: DeviceActor): Promise<DeliveredKey[]> {
    const keys = (await this.#listed(actor)).filter(isReadable);
    const spending = this.budgets.ofDevice('retrievals', actor);
    if (keys.every((key) => key.kept || key.mode !== 'deliver'))
      return this.budgets.within(spending, (charge) => this.#handOut(actor, keys, charge));
    await this.budgets.take(spending);
    return this.#handOut(actor, keys, async () => {});
  }

  async #handOut(
    actor: DeviceActor,
    keys: readonly (ListedKey & { state: ReadableState })[],
    charge: (unit: Unit) => Promise<void>,
  ): Promise<DeliveredKey[]> {
    const certificates = await this.certificates.ofEmployee(actor.employee);
    for (const mailbox of new Set(keys.flatMap(({ through }) => through?.mailbox ?? [])))
      for (const [key, chain] of await this.certificates.ofEmployee(mailbox)) certificates.set(key, chain);
    const outcomes = await Promise.all(keys.map((key) => this.#deliveryOf(actor, key).catch(refusal)));
    const refused = outcomes.map((outcome) => (outcome instanceof Fault ? outcome : undefined));
    const sealed = outcomes.map((outcome) => (outcome instanceof Fault ? null : outcome));
    if (refused[0] && refused.every(Boolean)) throw refused[0];
    const receipts = await this.storage.write(async (unit) => {
      await charge(unit);
      const kept: (Receipt | null)[] = [];
      for (const [index, key] of keys.entries()) kept.push(await this.#record(unit, actor, key, sealed[index] ?? null));
      return kept;
    });
    const delivered: DeliveredKey[] = keys.map(({ id, suite, state, mode, origin, through }, index) => ({
      id,
      suite,
      state,
      mode,
      certificates: certificates.get(id) ?? [],
      delivery: sealed[index]?.delivery ?? null,
      signature: sealed[index]?.signature ?? null,
      receipt: receipts[index] ?? null,
      ...(origin === null ? {} : { imported: true as const }),
      ...(through ? { mailbox: through.address } : {}),
      ...(refused[index] ? { problem: refused[index].code } : {}),
    }));
    if (!delivered.some((key) => key.state === 'active' && key.mailbox === undefined) && (await this.#isComing(actor.employee)))
      delivered.push(this.#pending(actor));
    return delivered;
  }

  /** Remote mode: the token opens one content-encryption key and seals it for the device. Wrong input gives a random key, never an error. */
  async decrypt(actor: DeviceActor, id: string, ask: RemoteDecryption): Promise<{ wrapped: Buffer; hash: OaepHash; receipt: Receipt }> {
    return orRefused({ storage: this.storage, audit: this.audit }, this.#event('key.decrypt', actor, id), async () => {
      const key = await this.#store.find(this.storage, id);
      const owner = key?.sealed.record.employee;
      const through =
        owner === actor.employee ? undefined : (await this.mailboxes.of(actor.employee)).find(({ mailbox }) => mailbox === owner);
      if (!key || (owner !== actor.employee && !through)) throw new Fault('not-found', 'key-unknown', 'you have no key of this id');
      await this.budgets.take(this.budgets.ofDevice('decryptions', actor));
      const { encryptedKey, oaepHash } = await this.token.decrypt(key.sealed, blobOf(key), evidence(actor), ask, through?.sealed);
      const receipt = await this.storage.write((unit) =>
        this.audit.append(unit, {
          ...this.#event('key.decrypt', actor, id, through),
          key: id,
          outcome: 'done',
          facts: { scheme: ask.scheme, length: ask.length, ...memberOf(actor, through) },
        }),
      );
      return { wrapped: encryptedKey, hash: oaepHash, receipt };
    });
  }

  /**
   * Changes state or mode of a key: the next sealed version, committed, then raised in the token so that the old one counts no more.
   * A key that is destroyed leaves nothing but its record.
   * @param also what belongs to the same unit of work
   * @param because a code for the entry
   */
  async change(
    id: string,
    to: { state?: KeyState; mode?: KeyMode },
    by: AuditActor,
    also: (unit: Unit) => Promise<void> = async () => {},
    because?: string,
  ): Promise<void> {
    for (;;) {
      const key = await this.#store.find(this.storage, id);
      if (!key) throw new Fault('not-found', 'key-unknown', 'there is no key of this id');
      try {
        await this.#change(key, to, by, also, because);
        break;
      } catch (error) {
        const now = isFault(error, 'key-changed') ? await this.#store.find(this.storage, id) : undefined;
        // Wrapped anew meanwhile, it is the same version still, and the change is made of that.
        if (now?.sealed.record.version !== key.sealed.record.version || now.sealed.record.kek === key.sealed.record.kek) throw error;
      }
    }
    await this.settleChange(id).catch((error: unknown) => {
      // It has happened; the open intent tells the second place when it is back.
      if (!isFault(error, 'second-place-away')) throw error;
    });
  }

  async #change(
    key: StoredKey,
    to: { state?: KeyState; mode?: KeyMode },
    by: AuditActor,
    also: (unit: Unit) => Promise<void>,
    because: string | undefined,
  ): Promise<void> {
    const { id } = key.sealed.record;
    const next = await this.token.changeKey(key.sealed, to);
    // That a key is destroyed, the second place hears only once it is true: a restore from it carries out what it reads there.
    if (next.record.state !== 'destroyed') await this.second.changed({ ...key, sealed: next });
    await this.storage.write(async (unit) => {
      if (!(await this.#store.replace(unit, next)))
        throw new Fault('conflict', 'key-changed', 'this key was changed at the same time; look again');
      await unit.run('DELETE FROM deliveries WHERE key = ?', [id]);
      if (to.state !== undefined)
        await unit.run('INSERT INTO key_changes (key, version, state, reason, time) VALUES (?, ?, ?, ?, ?)', [
          ...[id, next.record.version, to.state, because ?? 'other', this.clock.now().getTime()],
        ]);
      await this.audit.append(unit, {
        action: 'key.change',
        outcome: 'done',
        ...(because === undefined ? {} : { reason: because }),
        actor: by,
        employee: next.record.employee,
        key: id,
        facts: { version: next.record.version, state: next.record.state, mode: next.record.mode },
      });
      await also(unit);
      await fulfil(unit, id);
      await intend(unit, id, 'change-key', {}, this.clock);
    });
  }

  /**
   * Tells the token process the latest version of a key, and the second place that it was destroyed; also run at start for intents that a crash left
   * open. Rejects with `second-place-away`: the intent stays.
   */
  async settleChange(id: string): Promise<void> {
    const key = await this.#store.find(this.storage, id);
    if (key) await this.token.raise(key.sealed);
    if (key?.sealed.record.state === 'destroyed') await this.second.changed({ ...key, wrapped: NOTHING });
    await this.storage.write((unit) => fulfil(unit, id));
  }

  /** Deletes kept deliveries older than this. */
  async forgetDeliveries(days: number): Promise<number> {
    const before = this.clock.now().getTime() - days * 86_400_000;
    return this.storage.write((unit) => unit.run('DELETE FROM deliveries WHERE kept < ?', [before]));
  }

  /** Every key of the actor's employee, newest first, with what is kept for this device. Two lookups instead of a join: see storage's door. */
  async #listed(actor: DeviceActor): Promise<ListedKey[]> {
    const memberships = await this.mailboxes.of(actor.employee);
    const sql = "SELECT id, version, suite, state, mode, created, origin FROM keys WHERE employee = ? AND mode <> 'quorum'";
    const keys = (await this.storage.all<ListedKey>(sql, [actor.employee])).map((key) => ({
      ...key,
      through: undefined as Membership | undefined,
    }));
    for (const through of memberships)
      for (const key of await this.storage.all<ListedKey>(sql, [through.mailbox])) keys.push({ ...key, through });
    const kept = await this.storage.all<KeptDelivery>('SELECT key, delivery, signature FROM deliveries WHERE device = ?', [actor.id]);
    const byKey = new Map(kept.map((one) => [one.key, one]));
    const listed = keys.map((key) => ({ ...key, kept: byKey.get(key.id) }));
    return listed.sort((a, b) => b.created - a.created || (a.id < b.id ? -1 : 1));
  }

  /** A key is waited for, or came since the list was read: in both cases it is worth asking again. */
  async #isComing(employee: string): Promise<boolean> {
    if (await this.certificates.isPending(employee)) return true;
    return (await this.storage.one("SELECT id FROM keys WHERE employee = ? AND state = 'active'", [employee])) !== undefined;
  }

  async #deliveryOf(actor: DeviceActor, key: ListedKey): Promise<{ delivery: Buffer; signature: string; kept: boolean } | null> {
    if (key.mode !== 'deliver') return null;
    if (key.kept) return { delivery: key.kept.delivery, signature: key.kept.signature, kept: true };
    return orRefused({ storage: this.storage, audit: this.audit }, this.#event('key.deliver', actor, key.id, key.through), async () => {
      const stored = await this.#store.find(this.storage, key.id);
      if (!stored) throw new Fault('not-found', 'key-unknown', 'this key is gone');
      return { ...(await this.token.release(stored.sealed, blobOf(stored), evidence(actor), key.through?.sealed)), kept: false };
    });
  }

  /** The entry of one release, and the delivery to keep, in one unit; a device or key that ended meanwhile gets nothing. */
  async #record(
    unit: Unit,
    actor: DeviceActor,
    key: ListedKey,
    sealed: { delivery: Buffer; signature: string; kept: boolean } | null,
  ): Promise<Receipt | null> {
    if (!sealed) return null;
    if (!sealed.kept) {
      const stored = await unit.run(
        `INSERT INTO deliveries (key, device, delivery, signature, kept)
         SELECT id, ?, ?, ?, ? FROM keys WHERE id = ? AND version = ? AND (SELECT employee FROM devices WHERE id = ? AND state = 'active') IN
         (SELECT keys.employee UNION ALL SELECT m.employee FROM mailbox_members m WHERE m.mailbox = keys.employee AND m.to_time IS NULL)
         ON CONFLICT (key, device) DO UPDATE SET delivery = excluded.delivery, signature = excluded.signature, kept = excluded.kept`,
        [actor.id, sealed.delivery, sealed.signature, this.clock.now().getTime(), key.id, key.version, actor.id],
      );
      if (stored === 0) throw new Fault('conflict', 'key-changed', 'key or device changed while the key was on its way; ask again');
    }
    return this.audit.append(unit, {
      ...this.#event('key.deliver', actor, key.id, key.through),
      key: key.id,
      outcome: 'done',
      facts: { kept: sealed.kept, ...memberOf(actor, key.through) },
    });
  }

  #event<A extends 'key.deliver' | 'key.decrypt'>(action: A, actor: DeviceActor, key: string, through?: Membership) {
    const { id, employee, request } = actor;
    return {
      action,
      actor: { kind: 'device', id },
      device: id,
      employee: through?.mailbox ?? employee,
      subject: key,
      request: request.id,
      personal: { network: request.network },
    } as const;
  }

  #pending(actor: DeviceActor): DeliveredKey {
    return {
      id: actor.employee,
      suite: 'rsa',
      state: 'pending',
      mode: this.defaultMode,
      certificates: [],
      delivery: null,
      signature: null,
      receipt: null,
    };
  }
}

/** What is left of a wrapped key that was destroyed. */
const NOTHING = Buffer.alloc(0);

/** A Fault about one key; what concerns them all (token or database away, a defect) goes on up. */
function refusal(error: unknown): Fault {
  if (error instanceof Fault && error.kind !== 'unavailable') return error;
  throw error;
}

/** Who it was, where the key is not their own. */
const memberOf = ({ employee }: DeviceActor, through: Membership | undefined) => (through ? { member: employee } : {});
const evidence = (actor: DeviceActor) => ({ certificate: actor.certificate, deliveryKey: actor.deliveryKey });
const blobOf = ({ wrapped, publicKey }: StoredKey) => ({ wrapped, publicKey });
