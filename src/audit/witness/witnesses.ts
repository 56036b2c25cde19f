import { type AuditLog, Fault, isFault, type Storage } from '../../foundation/index.js';
import type { LogTree } from '../log-tree.js';
import type { LogStanding } from '../standing.js';
import type { TileReader } from '../tile-reader.js';
import type { ShownHead, Testimony, Witness } from './witness.js';

export interface WitnessesParts {
  storage: Storage;
  audit: AuditLog;
  tree: LogTree;
  tiles: TileReader;
  standing: LogStanding;
  /** The log's name until a head says one. */
  origin: () => Promise<string>;
}

export interface WitnessSettings {
  witnesses: readonly Witness[];
  /** What to do while none is reached. */
  unreachable: 'serve' | 'wait';
  /** With `wait`: seconds that keys go on being released after the last one was reached. */
  patienceSeconds: number;
  everySeconds: number;
}

/** How one witness stands. */
export interface WitnessState {
  name: string;
  /** `unasked` before the first look. */
  state: 'unasked' | 'agrees' | 'disagrees' | 'away';
  /** In words, where it does not agree. */
  reason?: string;
}

/**
 * Holds the log against what its witnesses remember: before anything is signed or released after a start, and again and again. The token's own memory is
 * one witness; who has older copies of database and token together is found out by the others.
 */
export class Witnesses {
  readonly #states: Map<string, WitnessState>;
  #first: Promise<void> | undefined;
  #round: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  /** When one agreed last, by the clock that nobody sets (ms). */
  #agreed = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly parts: WitnessesParts,
    private readonly settings: WitnessSettings,
  ) {
    this.#states = new Map(settings.witnesses.map(({ name }) => [name, { name, state: 'unasked' }]));
    if (settings.witnesses.length > 0) parts.standing.wait('the log has not been held against its witnesses yet');
  }

  get states(): WitnessState[] {
    return [...this.#states.values()];
  }

  /** Resolves when the witnesses were asked once. Whoever wants to sign or to serve waits for this. */
  first(): Promise<void> {
    this.#first ??= this.#look();
    return this.#first;
  }

  async begin(): Promise<void> {
    await this.first();
    if (this.settings.witnesses.length > 0) this.#timer = setInterval(() => void this.look(), this.settings.everySeconds * 1_000);
  }

  /** Those that agreed are shown the last head, so that an orderly stop leaves nothing that they have not seen. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    if (this.states.some(({ state }) => state === 'agrees')) await this.look();
    else await this.#round;
  }

  /** Asks all of them now. Never rejects: what is found is in `states` and in the log's standing. */
  look(): Promise<void> {
    this.#round = this.#round.then(() => this.#look());
    return this.#round;
  }

  async #look(): Promise<void> {
    const { standing } = this.parts;
    const { witnesses, unreachable, patienceSeconds } = this.settings;
    if (witnesses.length === 0) return;
    const found = await Promise.all(witnesses.map(async (witness) => this.#ask(witness)));
    const now = performance.now();
    if (found.includes('agrees')) this.#agreed = now;
    if (unreachable === 'serve' || now - this.#agreed <= patienceSeconds * 1_000) standing.go();
    else standing.wait('none of its witnesses is reached (witnesses.unreachable: wait)');
  }

  async #ask(witness: Witness): Promise<WitnessState['state']> {
    const { name } = witness;
    try {
      const { testimony, head } = await this.#testimony(witness);
      if (testimony.agrees) return this.#stands({ name, state: 'agrees' });
      const { code, known } = testimony;
      const words =
        code === 'audit-rolled-back'
          ? `the log has ${head.size} signed entries, its witness ${name} has seen ${known.size}`
          : `the log is not the one that its witness ${name} has seen at ${known.size} entries`;
      this.parts.standing.break({ code, words, known });
      return this.#stands({ name, state: 'disagrees', reason: words });
    } catch (error) {
      if (!isFault(error)) console.error(`witness ${name}:`, error);
      return this.#stands({ name, state: 'away', reason: (error as Error).message });
    }
  }

  /** Another node may have signed and shown a later head since ours was read: then ours was old, not the log. */
  async #testimony(witness: Witness): Promise<{ testimony: Testimony; head: ShownHead }> {
    for (let head = await this.#head(); ; ) {
      const testimony = await witness.show(head);
      if (testimony.agrees || testimony.code !== 'audit-rolled-back') return { testimony, head };
      const now = await this.#head();
      if (now.size <= head.size) return { testimony, head };
      head = now;
    }
  }

  /** The last head that was signed and kept. */
  async #head(): Promise<ShownHead> {
    const { tree, tiles, origin } = this.parts;
    const { note, signed } = await tree.state();
    const root = note?.split('\n')[2] ?? '';
    return {
      origin: note === null ? await origin() : note.slice(0, note.indexOf('\n')),
      size: signed,
      root: Buffer.from(root, 'base64'),
      note,
      proof: (from) => tiles.consistency(from, signed),
    };
  }

  /** Coming and going are entries. */
  async #stands(now: WitnessState): Promise<WitnessState['state']> {
    const before = this.#states.get(now.name)?.state;
    this.#states.set(now.name, now);
    if (before === now.state || (before === 'unasked' && now.state === 'agrees')) return now.state;
    const event = {
      action: 'witness.state',
      outcome: 'done',
      actor: { kind: 'system' },
      facts: { witness: now.name, state: now.state },
    } as const;
    await this.parts.storage
      .write((unit) => this.parts.audit.append(unit, event))
      .catch((error: unknown) => {
        if (!(error instanceof Fault)) throw error;
      });
    return now.state;
  }
}
