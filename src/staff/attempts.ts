import { type Clock, Fault } from '../foundation/index.js';

/** Names remembered at a time, some 100 bytes each: what comes beyond makes the oldest be forgotten. */
const REMEMBERED = 20_000;

/**
 * Counts tries by name in windows of fixed length, in this process. Budgets know sources and sites; a directory locks an account by the tries that come
 * from all of them, so those are counted by account too.
 */
export class Attempts {
  readonly #counts = new Map<string, { count: number; until: number }>();

  constructor(
    private readonly clock: Clock,
    private readonly most: number,
    private readonly windowMs: number,
  ) {}

  /** Rejects with `too-many-attempts`, the same for every name. */
  take(name: string): void {
    const now = this.clock.now().getTime();
    const known = this.#counts.get(name);
    const entry = known && known.until > now ? known : { count: 0, until: now + this.windowMs };
    entry.count += 1;
    this.#counts.delete(name);
    this.#counts.set(name, entry);
    for (const oldest of this.#counts.keys())
      if (this.#counts.size > REMEMBERED) this.#counts.delete(oldest);
      else break;
    if (entry.count > this.most)
      throw new Fault('too-many', 'too-many-attempts', 'too many tries; wait a little', Math.ceil((entry.until - now) / 1000));
  }
}
