import type { AuditEvent, AuditLog, Clock, Storage } from '../foundation/index.js';
import { sourceOf } from './address-blocks.js';
import type { RefusalRule, RouteClass } from './network-policy.js';

/** What one window holds; beyond it refusals are counted and not named. */
const LIMITS = {
  /** Sources named in one window. */
  sources: 20,
  /** Milliseconds of a window, and of the longest that a flood makes of it. */
  window: 60_000,
  longest: 3_600_000,
} as const;

interface Seen {
  kind: RouteClass;
  rule: RefusalRule;
  network: string;
  more: number;
}

/**
 * Refused connections as entries, with address, class and rule. Whoever knocks costs nothing to knock again, so the log holds the first refusal of
 * a source at once, the number of its others when the window ends, and of too many sources a number alone; while they are too many, windows grow
 * to an hour. However much a stranger sends, it is at most some fifty entries an hour.
 */
export class RefusedConnections {
  readonly #seen = new Map<string, Seen>();
  #unnamed = 0;
  #written: Promise<void> = Promise.resolve();
  #window: number = LIMITS.window;
  #ends = 0;

  constructor(
    private readonly log: { storage: Storage; audit: AuditLog },
    private readonly clock: Clock,
    private readonly defect: (error: unknown) => void,
  ) {}

  /** Never keeps the caller waiting, and never fails it: the connection is gone already. */
  add(kind: RouteClass, network: string, rule: RefusalRule): void {
    const now = this.clock.now().getTime();
    this.tick();
    if (this.#ends === 0) this.#ends = now + this.#window;
    const key = `${kind} ${rule} ${network === '' ? '' : sourceOf(network)}`;
    const seen = this.#seen.get(key);
    if (seen) seen.more += 1;
    else if (this.#seen.size < LIMITS.sources) {
      this.#seen.set(key, { kind, rule, network, more: 0 });
      this.#write(kind, rule, network, 1);
    } else this.#unnamed += 1;
  }

  /** Ends a window that is over. */
  tick(): void {
    if (this.#ends > 0 && this.clock.now().getTime() >= this.#ends) void this.flush();
  }

  /** Ends the window: what was counted in it becomes entries. Resolves once all are written or have failed. */
  flush(): Promise<void> {
    for (const { kind, rule, network, more } of this.#seen.values()) if (more > 0) this.#write(kind, rule, network, more);
    if (this.#unnamed > 0) this.#write('any', 'too-many-sources', undefined, this.#unnamed);
    this.#window = this.#unnamed > 0 ? Math.min(this.#window * 2, LIMITS.longest) : LIMITS.window;
    this.#ends = this.#seen.size > 0 ? this.clock.now().getTime() + this.#window : 0;
    this.#seen.clear();
    this.#unnamed = 0;
    return this.#written;
  }

  #write(listener: RouteClass | 'any', reason: RefusalRule | 'too-many-sources', network: string | undefined, count: number): void {
    const { storage, audit } = this.log;
    const entry: AuditEvent = {
      action: 'connection.refuse',
      outcome: 'refused',
      reason,
      actor: { kind: 'stranger' },
      facts: { listener, count },
      ...(network ? { personal: { network } } : {}),
    };
    const written = storage.write((unit) => audit.append(unit, entry)).catch(this.defect);
    this.#written = Promise.all([this.#written, written]).then(() => undefined);
  }
}
