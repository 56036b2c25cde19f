import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { z } from 'zod';
import type { IsolationGuard } from '../access/index.js';
import { isFault, type Storage } from '../foundation/index.js';
import { OnePlace, type ReadyPool, type SecondPlace } from '../keys/index.js';
import type { Token } from '../tokens/index.js';

export const healthReport = z
  .object({
    status: z.enum(['ready', 'unready']),
    token: z.object({
      state: z
        .enum(['ready', 'down', 'sealed', 'refused'])
        .meta({ description: 'sealed: waits for a PIN. refused: the PIN was wrong, nothing is tried again.' }),
      reason: z.string().optional(),
      queued: z.int().min(0).meta({ description: 'Jobs waiting.' }),
      recoveries: z.int().min(0).meta({ description: 'Times that the token was lost and found again.' }),
    }),
    database: z.object({ state: z.enum(['ready', 'down']), reason: z.string().optional() }),
    pool: z.object({ level: z.int(), target: z.int() }).meta({ description: 'Key pairs ready, and wanted.' }),
    secondPlace: z
      .object({ state: z.literal('down'), reason: z.string() })
      .optional()
      .meta({ description: 'Only when durability is two and the second place cannot be written: no key is born, no certificate issued.' }),
    isolation: z
      .object({ mode: z.enum(['warn', 'enforce']), findings: z.int().min(0) })
      .meta({ description: 'What leads out of the isolated network; with enforce and any finding no keys are served.' }),
    bootstrap: z
      .boolean()
      .meta({ description: 'One person alone can do what is dangerous: two security officers are not registered yet.' }),
    forwarding: z
      .array(
        z.object({
          sink: z.string(),
          state: z.enum(['good', 'failing']),
          behind: z.int().min(0).meta({ description: 'Entries that it has not got yet.' }),
          reason: z.string().optional(),
        }),
      )
      .optional()
      .meta({ description: 'Where the log is sent to besides. A sink that fails is behind; nothing else waits for it.' }),
    log: z.object({ state: z.enum(['whole', 'broken', 'unwitnessed']), reason: z.string().optional() }).meta({
      description: 'broken: the log is not the one that was signed. unwitnessed: no witness was reached to say so. No keys are released.',
    }),
    witnesses: z
      .array(z.object({ name: z.string(), state: z.enum(['unasked', 'agrees', 'disagrees', 'away']) }))
      .meta({ description: 'Who remembers the log outside, and what they said last.' }),
    kekRotation: z
      .object({ state: z.enum(['running', 'finished']), to: z.string(), left: z.int().min(0) })
      .optional()
      .meta({
        description:
          'Only between kek rotate and kek retire: the key-encryption key that takes over, and keys and pairs that are not under it yet.',
      }),
    former: z
      .array(
        z.object({
          kind: z.enum(['token', 'kek', 'token-key']),
          name: z.string().meta({
            description: 'Label of the token that was left; the key-encryption key that took over; which of the token’s signing keys.',
          }),
          since: z.iso.datetime().optional().meta({ description: 'When it was replaced, where that is known.' }),
        }),
      )
      .optional()
      .meta({ description: 'What was replaced and still stands: a rotation is complete when that is destroyed.' }),
    intents: z.int().min(0).meta({ description: 'Acts begun and not finished.' }),
  })
  .meta({ id: 'Health' });
export type HealthReport = z.output<typeof healthReport>;

/** Of the log's sinks: audit's `Forwarder`. */
export interface Forwarding {
  states(): Promise<SinkFigures[]>;
}
interface SinkFigures {
  sink: string;
  state: 'good' | 'failing';
  behind: number;
  waited: number;
  reason?: string;
  forwarded: number;
  rejected: number;
  failed: number;
}
const SINK_FIGURES: readonly [string, string, (state: SinkFigures) => number][] = [
  ['behind_entries', 'Entries of the log that a sink has not got yet', ({ behind }) => behind],
  ['lag_seconds', 'How long the oldest of them has waited', ({ waited }) => waited / 1000],
  ['failing', '1 while the last attempt failed', ({ state }) => (state === 'failing' ? 1 : 0)],
  ['entries', 'Entries handed over since the start', ({ forwarded }) => forwarded],
  ['rejected_entries', 'Of them, those that the receiver would not keep', ({ rejected }) => rejected],
  ['failed_attempts', 'Attempts that failed since the start', ({ failed }) => failed],
];

/** What a witness of the log said last. */
export interface WitnessSaying {
  name: string;
  state: 'unasked' | 'agrees' | 'disagrees' | 'away';
}

/** Of the key-encryption key: custody's `KekRotation`. */
export interface KekProgress {
  status(): Promise<{ state: 'none' | 'running' | 'finished'; to?: string; left: number }>;
}

/** What was replaced and not destroyed yet: custody's `FormerKeys`. */
export interface FormerOnes {
  list(): Promise<{ kind: 'token' | 'kek' | 'token-key'; name: string; since?: number }[]>;
}

/** Whether this node can hand keys out, and its figures for Prometheus. */
export class Health {
  readonly #registry = new Registry();
  readonly #requests = new Counter({
    name: 'ekms_requests_total',
    help: 'Requests answered, by route and status',
    labelNames: ['route', 'status'],
    registers: [this.#registry],
  });
  readonly #away = new Counter({
    name: 'ekms_unavailable_total',
    help: 'Requests refused because something of ours is away, by code; audit-unavailable and storage-unavailable: what could not be written down was not done',
    labelNames: ['code'],
    registers: [this.#registry],
  });
  readonly #refusedConnections = new Counter({
    name: 'ekms_refused_connections_total',
    help: 'Connections from networks that may not reach a listener',
    labelNames: ['listener'],
    registers: [this.#registry],
  });

  constructor(
    private readonly storage: Storage,
    private readonly token: Token,
    private readonly pool: ReadyPool,
    private readonly isBootstrap: () => Promise<boolean>,
    private readonly isolation: IsolationGuard,
    private readonly log: { readonly breach: { code: string } | undefined; readonly isWaiting: boolean },
    private readonly second: Pick<SecondPlace, 'trouble'> = new OnePlace(),
    private readonly forwarding: Forwarding = { states: async () => [] },
    private readonly witnesses: { readonly states: readonly WitnessSaying[] } = { states: [] },
    private readonly kek: KekProgress = { status: async () => ({ state: 'none', left: 0 }) },
    private readonly former: FormerOnes = { list: async () => [] },
  ) {
    collectDefaultMetrics({ register: this.#registry });
    const whole: Gauge = new Gauge({
      name: 'ekms_log_whole',
      help: '1 while the log is the one that was signed',
      registers: [this.#registry],
      collect: () => whole.set(this.log.breach || this.log.isWaiting ? 0 : 1),
    });
    const agreeing: Gauge = new Gauge({
      name: 'ekms_witness_agrees',
      help: '1 while the witness was reached and remembers the same log',
      labelNames: ['witness'],
      registers: [this.#registry],
      collect: () => {
        for (const { name, state } of this.witnesses.states) agreeing.set({ witness: name }, state === 'agrees' ? 1 : 0);
      },
    });
    const level: Gauge = new Gauge({
      name: 'ekms_pool_level',
      help: 'Key pairs ready',
      registers: [this.#registry],
      collect: async () => level.set(await pool.level()),
    });
    const rewrapped: Gauge = new Gauge({
      name: 'ekms_kek_rotation_left',
      help: 'Keys and pairs that are not under the new key-encryption key yet',
      registers: [this.#registry],
      collect: async () => rewrapped.set((await this.kek.status()).left),
    });
    const standing: Gauge = new Gauge({
      name: 'ekms_former_keys',
      help: 'Keys and tokens that were replaced and are not destroyed yet',
      registers: [this.#registry],
      collect: async () => standing.set((await this.#former()).length),
    });
    const place: Gauge = new Gauge({
      name: 'ekms_second_place_down',
      help: '1 when keys cannot be kept in a second place as durability: two asks',
      registers: [this.#registry],
      collect: () => place.set(second.trouble === undefined ? 0 : 1),
    });
    for (const [name, help, of] of SINK_FIGURES) {
      const gauge: Gauge = new Gauge({
        name: `ekms_forwarding_${name}`,
        help,
        labelNames: ['sink'],
        registers: [this.#registry],
        collect: async () => {
          for (const state of await forwarding.states().catch(() => [])) gauge.set({ sink: state.sink }, of(state));
        },
      });
    }
    const leaks: Gauge = new Gauge({
      name: 'ekms_isolation_findings',
      help: 'Ways out of the isolated network, as of the last look',
      registers: [this.#registry],
      collect: () => leaks.set(this.isolation.findings.length),
    });
    const bootstrap: Gauge = new Gauge({
      name: 'ekms_bootstrap',
      help: '1 while one person alone can do what is dangerous',
      registers: [this.#registry],
      collect: async () => bootstrap.set((await this.report()).bootstrap ? 1 : 0),
    });
    const ready: Gauge = new Gauge({
      name: 'ekms_ready',
      help: '1 when keys can be handed out',
      registers: [this.#registry],
      collect: async () => ready.set((await this.report()).status === 'ready' ? 1 : 0),
    });
  }

  async report(): Promise<HealthReport> {
    const [token, database] = await Promise.all([this.token.health(), this.#database()]);
    const former = token.state === 'ready' && database.state === 'ready' ? await this.#former() : [];
    const { mode, findings, isBroken } = this.isolation;
    const up = token.state === 'ready' && database.state === 'ready' && !isBroken && !this.log.breach && !this.log.isWaiting;
    return {
      status: up ? 'ready' : 'unready',
      token,
      database: { state: database.state, ...(database.reason ? { reason: database.reason } : {}) },
      pool: database.pool,
      ...(this.second.trouble === undefined ? {} : { secondPlace: { state: 'down' as const, reason: this.second.trouble } }),
      isolation: { mode, findings: findings.length },
      bootstrap: database.bootstrap,
      ...(database.forwarding.length > 0 ? { forwarding: database.forwarding } : {}),
      log: this.log.breach ? { state: 'broken', reason: this.log.breach.code } : { state: this.log.isWaiting ? 'unwitnessed' : 'whole' },
      witnesses: this.witnesses.states.map(({ name, state }) => ({ name, state })),
      ...(database.kekRotation ? { kekRotation: database.kekRotation } : {}),
      ...(former.length > 0 ? { former } : {}),
      intents: database.intents,
    };
  }

  count(route: string, status: number): void {
    this.#requests.inc({ route, status });
  }

  away(code: string): void {
    this.#away.inc({ code });
  }

  refusedConnection(listener: string): void {
    this.#refusedConnections.inc({ listener });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  metrics(): Promise<string> {
    return this.#registry.metrics();
  }

  /** None while it cannot be looked at: what is away says so itself, and a forged row is for `ekms doctor`. */
  async #former(): Promise<NonNullable<HealthReport['former']>> {
    const found = await this.former.list().catch((error: unknown) => {
      if (!isFault(error)) throw error;
      return [];
    });
    return found.map(({ kind, name, since }) => ({
      ...{ kind, name },
      ...(since === undefined ? {} : { since: new Date(since).toISOString() }),
    }));
  }

  async #database(): Promise<{
    state: 'ready' | 'down';
    reason?: string;
    pool: HealthReport['pool'];
    bootstrap: boolean;
    intents: number;
    forwarding: NonNullable<HealthReport['forwarding']>;
    kekRotation?: NonNullable<HealthReport['kekRotation']>;
  }> {
    const target = this.pool.settings.target;
    try {
      // An empty unit goes through the writer: a full disk or a locked database shows here, not at the first person's request.
      await this.storage.write(async (unit) => {
        await unit.run("INSERT INTO settings (name, value) VALUES ('probe', '') ON CONFLICT (name) DO UPDATE SET value = ''");
      });
      const open = await this.storage.one<{ open: number }>('SELECT COUNT(*) AS open FROM intents');
      const { state, to, left } = await this.kek.status();
      return {
        state: 'ready',
        pool: { level: await this.pool.level(), target },
        bootstrap: await this.isBootstrap(),
        intents: Number(open?.open ?? 0),
        ...(state !== 'none' && to !== undefined ? { kekRotation: { state, to, left } } : {}),
        forwarding: (await this.forwarding.states()).map(({ sink, state, behind, reason }) => ({
          ...{ sink, state, behind },
          ...(reason === undefined ? {} : { reason }),
        })),
      };
    } catch (error) {
      return {
        state: 'down',
        reason: isFault(error) ? error.code : 'defect',
        pool: { level: 0, target },
        bootstrap: false,
        intents: 0,
        forwarding: [],
      };
    }
  }
}
