import { type AuditAttempt, type AuditEvent, AuditLog, type Clock, type Receipt, type Storage, type Unit } from '../foundation/index.js';

/** Refusals of one source that are listed one by one, in a minute and in a day. */
export interface RefusalLimits {
  minute: number;
  day: number;
}

interface Source {
  minute: number;
  listed: number;
  day: number;
  listedToday: number;
  /** What is not listed, by action and reason, and the minute in which counting began. */
  counted: Map<string, Counted>;
  since: number;
}

interface Counted {
  attempt: AuditAttempt;
  reason: string;
  count: number;
}

const MINUTE = 60_000;
const DAY = 86_400_000;

/** Sources remembered at a time. Of more, all that are new share one: a stranger has many addresses, not much of our memory. */
const SOURCES = 10_000;

/** Over a budget: its alarm is an entry already (access's door), the rest is a number. */
const ALARMED = 'budget-exceeded';

/**
 * A log that nobody can fill with their own refusals: of each source (a device, or an address) so many are entries, and the others one entry
 * with their count, for each action and reason, when the minute is over. What was done is always an entry; and no refusal changes its answer by this.
 */
export class BoundedAuditLog extends AuditLog {
  readonly #sources = new Map<string, Source>();

  constructor(
    private readonly log: AuditLog,
    private readonly clock: Clock,
    private readonly limits: RefusalLimits,
  ) {
    super();
  }

  override append(unit: Unit, event: AuditEvent): Promise<Receipt> {
    return this.log.append(unit, event);
  }

  override lists(attempt: AuditAttempt, reason: string): boolean {
    const name = attempt.device ?? attempt.personal?.network;
    if (name === undefined) return true; // the operator, and ourselves
    const source = this.#sourceOf(name);
    if (reason !== ALARMED && source.listed < this.limits.minute && source.listedToday < this.limits.day) {
      source.listed++;
      source.listedToday++;
      return true;
    }
    const key = `${attempt.action} ${reason}`;
    const counted = source.counted.get(key);
    if (counted) counted.count++;
    else {
      if (source.counted.size === 0) source.since = source.minute;
      source.counted.set(key, { attempt, reason, count: 1 });
    }
    return false;
  }

  /** Writes down what was only counted in minutes that are over; with `all`, in this one too. What cannot be written is tried again. */
  async settle(storage: Storage, all = false): Promise<void> {
    const now = this.clock.now().getTime();
    for (const [name, source] of this.#sources) {
      if (source.counted.size === 0) {
        if (source.day !== Math.floor(now / DAY)) this.#sources.delete(name);
        continue;
      }
      if (!all && source.since === Math.floor(now / MINUTE)) continue;
      const counted = source.counted;
      source.counted = new Map();
      try {
        await storage.write(async (unit) => {
          for (const one of counted.values()) await this.append(unit, counting(one));
        });
      } catch (error) {
        for (const [key, { count, ...one }] of counted)
          source.counted.set(key, { ...one, count: count + (source.counted.get(key)?.count ?? 0) });
        throw error;
      }
    }
  }

  #sourceOf(name: string): Source {
    const now = this.clock.now().getTime();
    const [minute, day] = [Math.floor(now / MINUTE), Math.floor(now / DAY)];
    const known = this.#sources.get(name) ?? (this.#sources.size >= SOURCES ? this.#sources.get('') : undefined);
    if (!known) {
      const source = { minute, listed: 0, day, listedToday: 0, counted: new Map(), since: minute };
      this.#sources.set(this.#sources.size >= SOURCES ? '' : name, source);
      return source;
    }
    if (known.minute !== minute) Object.assign(known, { minute, listed: 0 });
    if (known.day !== day) Object.assign(known, { day, listedToday: 0 });
    return known;
  }
}

function counting({ attempt, reason, count }: Counted): AuditEvent {
  const { actor, device, employee, personal } = attempt;
  return {
    action: 'refusals.count',
    outcome: 'refused',
    reason,
    actor,
    ...(device ? { device } : {}),
    ...(employee ? { employee } : {}),
    facts: { of: attempt.action, count },
    ...(personal?.network ? { personal: { network: personal.network } } : {}),
  };
}
