import { Fault } from '../foundation/index.js';

/** Why the log is not known to be the one that was signed before. */
export interface Breach {
  /** `audit-rolled-back`: entries that were signed are missing. `audit-forked`: the log is another. `audit-token-older`: the token forgot heads that it signed. */
  code: 'audit-rolled-back' | 'audit-forked' | 'audit-token-older';
  /** One sentence for a person. */
  words: string;
  /** The last head known from elsewhere. */
  known: { origin: string; size: number; root: string };
}

/** Whether this log is the one it was. While it is not, nothing is released; everything else goes on and is written down. */
export class LogStanding {
  #breach: Breach | undefined;

  get breach(): Breach | undefined {
    return this.#breach;
  }

  /** The first breach stays while this process lives: what is found afterwards is its consequence. */
  break(breach: Breach): void {
    this.#breach ??= breach;
  }

  /** Throws the breach's code. */
  requireWhole(): void {
    const breach = this.#breach;
    if (breach)
      throw new Fault(
        'unavailable',
        breach.code,
        `no keys are released: ${breach.words}; put back the database and the token's folder that fit, and start again`,
      );
  }
}
