import { type AuditLog, type Clock, isFault, type Storage } from '../foundation/index.js';

/** Milliseconds that the clock may differ from the one that nobody sets, and from the last entry's time. */
const TOLERATED = 1_000;
const EVERY = 1_000;

/** Writes down when this machine's clock was set: entries, challenges and certificates go by it. What a clock does while nothing runs shows by the last entry's time. */
export class ClockWatch {
  #last: { clock: number; steady: number } | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param steady milliseconds of a clock that nobody sets */
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly clock: Clock,
    private readonly steady: () => number = () => performance.now(),
  ) {}

  async begin(failed: (error: unknown) => void): Promise<void> {
    await this.look().catch(failed);
    this.#timer = setInterval(() => void this.look().catch(failed), EVERY);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async look(): Promise<void> {
    const now = { clock: this.clock.now().getTime(), steady: this.steady() };
    const last = this.#last;
    this.#last = now;
    const jump = last ? now.clock - last.clock - (now.steady - last.steady) : Math.min(0, now.clock - (await this.#lastEntry()));
    if (Math.abs(jump) <= TOLERATED) return;
    const facts = { direction: jump > 0 ? 'forward' : 'back', milliseconds: Math.round(Math.abs(jump)) } as const;
    try {
      await this.storage.write((unit) =>
        this.audit.append(unit, { action: 'clock.jump', outcome: 'done', actor: { kind: 'system' }, facts }),
      );
    } catch (error) {
      if (!isFault(error)) throw error;
      this.#last = last; // seen again at the next look
    }
  }

  async #lastEntry(): Promise<number> {
    return (await this.storage.one<{ time: number }>('SELECT time FROM audit_entries ORDER BY idx DESC LIMIT 1'))?.time ?? 0;
  }
}
