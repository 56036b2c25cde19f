import {
  type AuditActor,
  type AuditLog,
  type Clock,
  canonicalJson,
  Fault,
  isFault,
  type Json,
  type Reader,
  type Storage,
  type Unit,
} from '../foundation/index.js';
import { AddressBlocks, readAddress } from './address-blocks.js';
import { NetworkPolicy, type PolicyDocument, policyDigest, ROUTE_CLASSES, readPolicy } from './network-policy.js';
import { narrowed, widenings } from './policy-narrowing.js';
import type { RowSeal } from './row-seal.js';

/** Where a version came from: ekms.yaml, somebody's act, or a trial that nobody confirmed. */
export type PolicyOrigin = 'file' | 'act' | 'rollback';

export interface PolicyVersion {
  version: number;
  document: PolicyDocument;
  origin: PolicyOrigin;
  created: number;
  /** Until when somebody must confirm it from an address that it lets in; else it is taken back. */
  confirmBy: number | null;
}

/** What a document would change against the one in force. */
export interface PolicyForecast {
  /** What it allows that was not, and what it takes away, in words. */
  widens: string[];
  narrows: string[];
  /** It keeps out whoever asks, so it would be on trial. */
  trial: boolean;
  warnings: string[];
}

interface PolicyRow {
  version: number;
  document: string;
  origin: string;
  created: number;
  confirm_by: number | null;
  mac: Buffer;
}

/** Milliseconds that a change which cuts off its maker waits for a word from inside. */
const TRIAL = 60_000;
/** Milliseconds between two looks at the database. */
const LOOK = 2_000;
const TABLE = 'network_policies';
/** Digest of the policy that ekms.yaml had when it was last looked at. */
const SEEN = 'policy-file';
const SYSTEM: AuditActor = { kind: 'system' };

/**
 * The policy in force and how it changes. Versions lie in the database, sealed; `ekms.yaml` is the first one and, by its `network.internal`, the outer
 * bound of all. A document that cannot be read or contradicts itself never becomes a version.
 */
export class NetworkPolicies {
  #current: PolicyVersion | undefined;
  #policy: NetworkPolicy;
  readonly #bound: AddressBlocks;
  readonly #followers = new Set<() => void>();

  /** @param isBootstrap true until two security officers exist */
  constructor(
    private readonly log: { storage: Storage; audit: AuditLog },
    private readonly seal: RowSeal,
    private readonly clock: Clock,
    private readonly file: PolicyDocument,
    private readonly isBootstrap: () => Promise<boolean>,
  ) {
    this.#bound = AddressBlocks.of(file.network.internal);
    this.#policy = new NetworkPolicy(file);
  }

  /** What is judged by. Before `start`, the file's. */
  get policy(): NetworkPolicy {
    return this.#policy;
  }

  /** 0 while only the file has one. */
  get version(): number {
    return this.#current?.version ?? 0;
  }

  /** Calls `changed` after each change, until the returned function is called. */
  follow(changed: () => void): () => void {
    this.#followers.add(changed);
    return () => this.#followers.delete(changed);
  }

  /**
   * Settles what the last run left and holds ekms.yaml against the database. A changed file is an entry: in bootstrap it is the next version, afterwards
   * only what it narrows is. Resolves with what the operator should hear. Rejects with `policy-unreadable`.
   */
  async start(): Promise<string[]> {
    await this.refresh();
    const { storage, audit } = this.log;
    const digest = policyDigest(this.file);
    const seen = await storage.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [SEEN]);
    if (this.#current && seen?.value === digest) return [];
    const current = this.#current?.document;
    const isWhole = current === undefined || (await this.isBootstrap());
    const document = isWhole ? this.file : narrowed(current, this.file);
    const refused = isWhole ? [] : widenings(document, this.file);
    await storage.write(async (unit) => {
      if (current)
        await audit.append(unit, {
          action: 'network.file',
          outcome: refused.length > 0 ? 'refused' : 'done',
          ...(refused.length > 0 ? { reason: 'policy-widens' } : {}),
          actor: SYSTEM,
          facts: { digest, widenings: refused.length },
        });
      if (!current || policyDigest(document) !== policyDigest(current)) await this.#append(unit, document, 'file', SYSTEM);
      await unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
        SEEN,
        digest,
      ]);
    });
    await this.refresh();
    if (!current) return [];
    return [
      'ekms.yaml has another network policy than at the last start',
      ...refused.map((what) => `ekms.yaml alone does not widen the policy: ${what} stays as it is; use ekms policy set`),
    ];
  }

  /** Takes up what another process or node changed, and takes back a trial that nobody confirmed. Rejects with `policy-unreadable`; the policy in force stays. */
  async refresh(): Promise<void> {
    const { storage } = this.log;
    let latest = await this.#latest(storage);
    if (latest && latest.confirmBy !== null && this.clock.now().getTime() >= latest.confirmBy) {
      await storage
        .write((unit) => this.#takeBack(unit))
        .catch((error: unknown) => {
          if (!isFault(error, 'duplicate')) throw error; // another node was quicker
        });
      latest = await this.#latest(storage);
    }
    if (!latest || (latest.version === this.#current?.version && latest.confirmBy === this.#current.confirmBy)) return;
    const isOther = latest.version !== this.#current?.version;
    this.#current = latest;
    if (!isOther) return;
    this.#policy = new NetworkPolicy(latest.document, this.#bound);
    for (const changed of this.#followers) changed();
  }

  /** Refreshes until the returned function is called. Of trouble that lasts, `trouble` hears once. */
  watch(trouble: (error: unknown) => void): () => void {
    let told = '';
    const timer = setInterval(() => {
      this.refresh().then(
        () => {
          told = '';
        },
        (error: unknown) => {
          if (String(error) !== told) trouble(error);
          told = String(error);
        },
      );
    }, LOOK);
    return () => clearInterval(timer);
  }

  /** Versions, newest first. */
  async history(count: number): Promise<PolicyVersion[]> {
    const rows = await this.log.storage.all<PolicyRow>('SELECT * FROM network_policies ORDER BY version DESC LIMIT ?', [count]);
    return rows.map((row) => this.#open(row));
  }

  /**
   * Makes the next version. When it would keep `from` out of the administration listener, it is on trial for a minute.
   * @param from address that the administrator who asks is at; undefined for the operator at the machine itself, whom no listener keeps out
   * Rejects with `policy-invalid`, `policy-beyond-bound`, `policy-unchanged` or, when somebody else was quicker, `policy-moved`.
   */
  async set(value: unknown, by: AuditActor, from?: string): Promise<PolicyVersion & PolicyForecast> {
    const document = this.#readWithin(value);
    await this.refresh();
    if (this.#current && policyDigest(this.#current.document) === policyDigest(document))
      throw new Fault('conflict', 'policy-unchanged', 'this is the policy in force already');
    const forecast = this.check(document, from);
    const confirmBy = forecast.trial ? this.clock.now().getTime() + TRIAL : null;
    try {
      await this.log.storage.write((unit) => this.#append(unit, document, 'act', by, confirmBy));
    } catch (error) {
      if (isFault(error, 'duplicate'))
        throw new Fault('conflict', 'policy-moved', 'the policy was changed by somebody else meanwhile; look at it again');
      throw error;
    }
    await this.refresh();
    return { ...this.inForce, ...forecast };
  }

  /** What `set` would do, without doing it. Rejects as `set` does, but for what somebody else changes meanwhile. */
  check(value: unknown, from?: string): PolicyForecast {
    const document = this.#readWithin(value);
    const before = this.#current?.document ?? this.file;
    const after = new NetworkPolicy(document, this.#bound);
    return {
      widens: widenings(before, document),
      narrows: widenings(document, before),
      trial: from !== undefined && !after.allows('administration', readAddress(from) ?? ''),
      warnings: [
        ...Object.entries(document.networks).flatMap(([name, { addresses }]) => {
          const outside = addresses.filter((block) => AddressBlocks.of([block]).and(after.internal).texts().length === 0);
          return outside.length > 0 ? [`networks.${name}: ${outside.join(', ')} is outside network.internal and gets in nowhere`] : [];
        }),
        ...ROUTE_CLASSES.filter((kind) => after.reaching(kind).texts().length === 0).map((kind) => `nobody reaches ${kind}`),
      ],
    };
  }

  /** Ends the trial for good. Rejects with `policy-no-trial`, or `policy-confirmation-outside` from where the new policy lets nobody administer. */
  async confirm(version: number, by: AuditActor, from?: string): Promise<PolicyVersion> {
    await this.refresh();
    const { audit, storage } = this.log;
    const current = this.inForce;
    if (current.version !== version || current.confirmBy === null)
      throw new Fault('conflict', 'policy-no-trial', `version ${version} does not wait for a confirmation`);
    if (from !== undefined && !this.#policy.allows('administration', readAddress(from) ?? ''))
      throw new Fault(
        'forbidden',
        'policy-confirmation-outside',
        'confirm it from an address that may reach the administration listener by the new policy',
      );
    await storage.write(async (unit) => {
      const row = sealedRow({ ...current, confirmBy: null });
      const changed = await unit.run('UPDATE network_policies SET confirm_by = NULL, mac = ? WHERE version = ? AND confirm_by = ?', [
        this.seal.mac(TABLE, row),
        version,
        current.confirmBy,
      ]);
      if (changed !== 1) throw new Fault('conflict', 'policy-no-trial', `version ${version} does not wait for a confirmation`);
      await audit.append(unit, { action: 'network.confirm', outcome: 'done', actor: by, facts: { version } });
    });
    await this.refresh();
    return this.inForce;
  }

  #readWithin(value: unknown): PolicyDocument {
    const document = readPolicy(value);
    if (!this.#bound.covers(AddressBlocks.of(document.network.internal)))
      throw new Fault(
        'forbidden',
        'policy-beyond-bound',
        'network.internal goes beyond that of ekms.yaml, which is the outer bound: change it there first',
      );
    return document;
  }

  /** Rejects with `policy-none` before the first start. */
  get inForce(): PolicyVersion {
    if (!this.#current) throw new Fault('conflict', 'policy-none', 'there is no policy yet: start the appliance once');
    return this.#current;
  }

  async #latest(reader: Reader): Promise<PolicyVersion | undefined> {
    const row = await reader.one<PolicyRow>('SELECT * FROM network_policies ORDER BY version DESC LIMIT 1');
    return row && this.#open(row);
  }

  #open({ version, document, origin, created, confirm_by, mac }: PolicyRow): PolicyVersion {
    const row = {
      version: Number(version),
      document,
      origin,
      created: Number(created),
      confirmBy: confirm_by === null ? null : Number(confirm_by),
    };
    if (!this.seal.holds(TABLE, row, mac))
      throw new Fault('misconfigured', 'policy-unreadable', `version ${version} of the network policy was changed in the database`);
    return { ...row, origin: origin as PolicyOrigin, document: readPolicy(JSON.parse(document)) }; // sealed: as we wrote it
  }

  /** Rejects with `duplicate` when the version exists by now. */
  async #append(
    unit: Unit,
    document: PolicyDocument,
    origin: PolicyOrigin,
    by: AuditActor,
    confirmBy: number | null = null,
  ): Promise<void> {
    const version = (this.#current?.version ?? 0) + 1;
    const row = sealedRow({ version, document, origin, created: this.clock.now().getTime(), confirmBy });
    await unit.run('INSERT INTO network_policies (version, document, origin, created, confirm_by, mac) VALUES (?, ?, ?, ?, ?, ?)', [
      version,
      row.document,
      origin,
      row.created,
      confirmBy,
      this.seal.mac(TABLE, row),
    ]);
    await this.log.audit.append(unit, {
      action: origin === 'rollback' ? 'network.rollback' : 'network.change',
      outcome: 'done',
      actor: by,
      facts: { version, digest: policyDigest(document), origin, trial: confirmBy !== null },
    });
  }

  /** The last version that was not on trial counts again, as a new one. */
  async #takeBack(unit: Unit): Promise<void> {
    const latest = await this.#latest(unit);
    if (!latest || latest.confirmBy === null) return;
    const settled = await unit.one<PolicyRow>(
      'SELECT * FROM network_policies WHERE confirm_by IS NULL AND version < ? ORDER BY version DESC LIMIT 1',
      [latest.version],
    );
    this.#current = latest;
    await this.#append(unit, settled ? this.#open(settled).document : this.file, 'rollback', SYSTEM);
  }
}

/** What the seal covers. */
const sealedRow = ({ version, document, origin, created, confirmBy }: PolicyVersion) => ({
  version,
  document: canonicalJson(document as unknown as Json), // zod's output is JSON
  origin,
  created,
  confirmBy,
});
