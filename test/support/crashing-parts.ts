import { writeFileSync } from 'node:fs';
import { type Reader, type Row, type SqlValue, Storage, type Unit } from '../../src/foundation/index.js';
import { type Envelope, MailTransport } from '../../src/mail/index.js';
import type { TokenProcess } from '../../src/tokens/index.js';

/** Where this process is to die: at the `k`-th time that it comes by the step. */
export interface Plan {
  step: string;
  k: number;
}

/** Counts the steps that are gone through, and ends the process at the planned one as a power cut would: nothing is closed, nothing is said. */
export class Trap {
  readonly counts = new Map<string, number>();
  readonly #plan: Plan | undefined;
  readonly #mark: string;

  /** @param mark file that tells afterwards that it was this and not something else */
  constructor(plan: Plan | undefined, mark: string) {
    this.#plan = plan;
    this.#mark = mark;
  }

  /** The step `time` counts milliseconds from here. */
  serving(): void {
    if (this.#plan?.step === 'time') setTimeout(() => this.#die(), this.#plan.k);
  }

  pass(step: string): void {
    const count = (this.counts.get(step) ?? 0) + 1;
    this.counts.set(step, count);
    if (step === this.#plan?.step && count === this.#plan.k) this.#die();
  }

  #die(): never {
    writeFileSync(this.#mark, JSON.stringify(this.#plan));
    process.kill(process.pid, 'SIGKILL');
    for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // not one more line of the appliance
  }
}

/** Steps `token <verb> before|sent|after`: not asked yet; asked, and the answer will find nobody; answered, and nothing made of it yet. */
export function crashingToken(token: TokenProcess, trap: Trap): TokenProcess {
  return new Proxy(token, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function' || typeof name !== 'string') return value;
      return async (...args: unknown[]) => {
        trap.pass(`token ${name} before`);
        const answer: unknown = Reflect.apply(value, target, args);
        setImmediate(() => setImmediate(() => trap.pass(`token ${name} sent`)));
        const known = await answer;
        trap.pass(`token ${name} after`);
        return known;
      };
    },
  });
}

type Inner = Storage & { close(): Promise<void> };

/** Steps `unit begin`, `audit before|after` (inside the unit), `unit end` (all done, not committed), `commit after` (committed, nobody told). */
export class CrashingStorage extends Storage {
  readonly #inner: Inner;
  readonly #trap: Trap;

  constructor(inner: Inner, trap: Trap) {
    super();
    this.#inner = inner;
    this.#trap = trap;
  }

  override all<T extends object = Row>(sql: string, parameters?: readonly SqlValue[]): Promise<T[]> {
    return this.#inner.all<T>(sql, parameters);
  }

  override one<T extends object = Row>(sql: string, parameters?: readonly SqlValue[]): Promise<T | undefined> {
    return this.#inner.one<T>(sql, parameters);
  }

  override async write<T>(work: (unit: Unit) => Promise<T>): Promise<T> {
    this.#trap.pass('unit begin');
    const value = await this.#inner.write(async (unit) => {
      const done = await work(new CrashingUnit(unit, this.#trap));
      this.#trap.pass('unit end');
      return done;
    });
    this.#trap.pass('commit after');
    return value;
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

class CrashingUnit implements Unit {
  readonly all: Reader['all'];
  readonly one: Reader['one'];
  readonly #unit: Unit;
  readonly #trap: Trap;

  constructor(unit: Unit, trap: Trap) {
    this.all = unit.all.bind(unit);
    this.one = unit.one.bind(unit);
    this.#unit = unit;
    this.#trap = trap;
  }

  async run(sql: string, parameters?: readonly SqlValue[]): Promise<number> {
    const isEntry = sql.startsWith('INSERT INTO audit_entries');
    if (isEntry) this.#trap.pass('audit before');
    const changed = await this.#unit.run(sql, parameters);
    if (isEntry) this.#trap.pass('audit after');
    return changed;
  }
}

/** Steps `mail before|after`: not handed over; handed over, and not written down. */
export class CrashingTransport extends MailTransport {
  readonly #inner: MailTransport;
  readonly #trap: Trap;

  constructor(inner: MailTransport, trap: Trap) {
    super();
    this.#inner = inner;
    this.#trap = trap;
  }

  override async deliver(envelope: Envelope, bytes: Buffer): Promise<void> {
    this.#trap.pass('mail before');
    await this.#inner.deliver(envelope, bytes);
    this.#trap.pass('mail after');
  }
}
