import { Fault } from '../foundation/index.js';
import type { AuditHead } from '../tokens/index.js';

/** Why the log is not known to be the one that was signed before. */
export interface Breach {
  /** `audit-rolled-back`: entries that were signed are missing. `audit-forked`: the log is another. `audit-token-older`: the token forgot heads that it signed. */
  code: 'audit-rolled-back' | 'audit-forked' | 'audit-token-older';
  /** One sentence for a person. */
  words: string;
  /** The last head known from elsewhere; its root may be unknown, and empty. */
  known: AuditHead;
}

/** Whether this log is the one it was. While it is not, nothing is released; everything else goes on and is written down. */
export class LogStanding {
  #breach: Breach | undefined;
  #waits: string | undefined;

  /** @param told hears of a breach when it is found */
  constructor(private readonly told: (breach: Breach) => void = () => undefined) {}

  get breach(): Breach | undefined {
    return this.#breach;
  }

  /** Whether nobody has compared it yet. */
  get isWaiting(): boolean {
    return this.#waits !== undefined;
  }

  /** The first breach stays until persons accept it: what is found afterwards is its consequence. */
  break(breach: Breach): void {
    if (this.#breach) return;
    this.#breach = breach;
    this.told(breach);
  }

  /** It goes on under another name. */
  mend(): void {
    this.#breach = undefined;
  }

  wait(words: string): void {
    this.#waits = words;
  }

  go(): void {
    this.#waits = undefined;
  }

  /** Throws the breach's code, or `audit-unwitnessed`. */
  requireWhole(): void {
    const breach = this.#breach;
    if (breach)
      throw new Fault(
        'unavailable',
        breach.code,
        `no keys are released: ${breach.words}; put back the database and the token's folder that fit and start again, or have two persons accept it (ekms audit accept-rollback)`,
      );
    if (this.#waits !== undefined) throw new Fault('unavailable', 'audit-unwitnessed', `no keys are released: ${this.#waits}`, 5);
  }
}
