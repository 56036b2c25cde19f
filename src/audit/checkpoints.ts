import { parseCheckpoint, parseNote, toBase64 } from '../codec/merkle/index.js';
import { type Clock, isFault } from '../foundation/index.js';
import type { AuditHead, Token } from '../tokens/index.js';
import type { LogTree, TreeState } from './log-tree.js';
import type { LogStanding } from './standing.js';
import type { TileReader } from './tile-reader.js';

export interface CheckpointParts {
  tree: LogTree;
  tiles: TileReader;
  token: Pick<Token, 'auditHead' | 'signHead'>;
  standing: LogStanding;
  clock: Clock;
  /** The log's name until the token remembers one. */
  origin: string;
  /** Resolves when the log has been held against its witnesses: nothing is signed before. */
  first?: () => Promise<void>;
}

/** Milliseconds between checkpoints while there are entries. */
const EVERY = 1_000;
/** Tries against other nodes that sign at the same time. */
const ATTEMPTS = 4;

/**
 * Has the token sign what the log has become, and finds out by that whether it still is the log it was: the token signs only what extends the
 * last head it signed, whoever asks.
 */
export class Checkpoints {
  #working: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly parts: CheckpointParts) {}

  /** One checkpoint at once, to see how the log stands, then one a second while there are entries. Outages are for the next second. */
  async begin(): Promise<void> {
    await this.#attempt();
    this.#timer = setInterval(() => void this.#attempt(), EVERY);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#attempt();
  }

  /** Signs what is there now, unless that is signed already. One after the other. Rejects when token or database are away. */
  publish(): Promise<void> {
    const next = this.#working.then(() => this.#publish());
    this.#working = next.catch(() => undefined);
    return next;
  }

  async #attempt(): Promise<void> {
    await this.publish().catch((error: unknown) => {
      if (!isFault(error)) console.error('checkpoint:', error);
    });
  }

  async #publish(): Promise<void> {
    for (let attempt = 1; ; attempt += 1)
      try {
        return await this.#sign();
      } catch (error) {
        if (!isFault(error, 'head-stale') || attempt === ATTEMPTS) throw error;
      }
  }

  async #sign(): Promise<void> {
    const { token, tiles, standing, clock, first } = this.parts;
    await first?.();
    if (standing.isWaiting) return;
    // In this order: what was kept before the token was asked, it must remember; what it remembers was committed before it was asked.
    const { signed } = await this.parts.tree.state();
    const last = (await token.auditHead()) ?? { origin: this.parts.origin, size: 0, root: '' };
    // Persons accepted it, at another node.
    if (standing.breach && standing.breach.known.origin !== last.origin) {
      tiles.forget();
      standing.mend();
    }
    const tree = await this.parts.tree.grow().catch((error: unknown) => {
      if (!isFault(error, 'audit-holed')) throw error;
      standing.break({ code: 'audit-forked', words: error.message, known: last });
      return undefined;
    });
    if (!tree) return;
    if (this.#isBroken(last, signed, tree) || tree.size === 0) return;
    const to = { origin: last.origin, size: tree.size, root: toBase64(tree.root) };
    if (tree.note !== null && tree.signed === to.size && last.size === to.size && last.root === to.root) return;
    try {
      const proof = await tiles.consistency(last.size, to.size);
      await this.parts.tree.keep(await token.signHead({ from: last, to, proof }), to.size, clock.now().getTime());
    } catch (error) {
      if (!isFault(error, 'head-forked')) throw error;
      standing.break({ code: 'audit-forked', words: 'the log does not hold what its token has signed', known: last });
    }
  }

  #isBroken(last: AuditHead, signed: number, tree: TreeState): boolean {
    const { standing } = this.parts;
    if (last.size > tree.size)
      standing.break({
        code: 'audit-rolled-back',
        words: `the log has ${tree.size} entries, its token signed ${last.size}`,
        known: last,
      });
    else if (last.size < signed)
      standing.break({
        code: 'audit-token-older',
        words: `the token remembers ${last.size} entries and signed ${signed}: it, or its folder, is an older one`,
        known: {
          origin: last.origin,
          size: signed,
          root: toBase64(parseCheckpoint(parseNote(tree.note ?? '')?.text ?? '')?.root ?? tree.root),
        },
      });
    return standing.breach !== undefined;
  }
}
