/** One line of `ekms doctor`. */
export interface Finding {
  check: string;
  verdict: 'good' | 'warn' | 'bad';
  words: string;
}

/** Problems of one kind that are told one by one; the rest are counted. */
const SHOWN = 20;

/** Gathers what one check finds wrong. With nothing wrong it ends in one good line. */
export class Findings {
  readonly #told: Finding[] = [];
  #untold = 0;

  constructor(private readonly check: string) {}

  say(verdict: 'warn' | 'bad', words: string): void {
    if (this.#told.length < SHOWN) this.#told.push({ check: this.check, verdict, words });
    else this.#untold += 1;
  }

  /** @param words of the good line */
  end(words: string): Finding[] {
    if (this.#told.length === 0) return [{ check: this.check, verdict: 'good', words }];
    const more: Finding[] = this.#untold > 0 ? [{ check: this.check, verdict: 'bad', words: `and ${this.#untold} more` }] : [];
    return [...this.#told, ...more];
  }
}
