import { setImmediate as turn } from 'node:timers/promises';
import { TILE_WIDTH } from '../codec/merkle/index.js';
import { type AuditActor, type AuditLog, type Clock, Fault, type Reader, type Storage } from '../foundation/index.js';
import { AuditReader } from './audit-reader.js';
import type { Checkpoints } from './checkpoints.js';
import type { LogTree } from './log-tree.js';
import { forgetTerms } from './search/postings.js';
import { termsOf } from './search/terms.js';

export interface PruningParts {
  storage: Storage;
  audit: AuditLog;
  clock: Clock;
  tree: LogTree;
  checkpoints: Pick<Checkpoints, 'publish'>;
  /** First entries that somebody still needs: the search index, the sinks. */
  needed: () => Promise<number[]>;
}

/** `until`: first entry that is kept. */
export interface Pruned {
  until: number;
  entries: number;
}

/** Of a year, so that a leap year costs nobody a day. */
const YEAR = 366 * 86_400_000;

/** The first entry that is kept; 0 where nothing was pruned. */
export async function prunedUntil(reader: Reader): Promise<number> {
  return (await reader.one<{ until: number }>('SELECT until FROM audit_pruned WHERE id = 1'))?.until ?? 0;
}

/** Index of the newest entry that says so; undefined where nothing was pruned. */
export async function prunedBy(reader: Reader): Promise<number | undefined> {
  const row = await reader.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [PRUNED_BY]);
  return row && Number(row.value);
}
const PRUNED_BY = 'audit-pruned-by';

/**
 * Lets go of entries that are older than the policy keeps them, from the first on and in whole bundles; never of hashes, so that all that was signed
 * can still be proved and the rest of the log verifies. An entry says so, and is what a verifier goes by.
 */
export class Pruning {
  readonly #reader: AuditReader;

  constructor(
    private readonly parts: PruningParts,
    /** Years that entries are kept; undefined keeps them for good. */
    private readonly years: number | undefined,
  ) {
    this.#reader = new AuditReader(parts.storage);
  }

  /** Rejects with `retention-unset`, or `nothing-old` where no whole bundle is older than that, signed, and done with by everybody. */
  async prune(by: AuditActor): Promise<Pruned> {
    const { storage, audit, clock, tree, checkpoints, needed } = this.parts;
    if (this.years === undefined)
      throw new Fault('misconfigured', 'retention-unset', 'audit entries are kept for good: set retention.auditYears in ekms.yaml first');
    await checkpoints.publish();
    const [{ signed }, old, others, before] = await Promise.all([
      tree.state(),
      this.#reader.indexAt(clock.now().getTime() - this.years * YEAR),
      needed(),
      prunedUntil(storage),
    ]);
    const most = Math.min(signed, old, ...others);
    const until = most - (most % TILE_WIDTH);
    if (until <= before) throw new Fault('conflict', 'nothing-old', `no 256 entries that may go are older than ${this.years} years`);
    await storage.write(async (unit) => {
      const { index } = await audit.append(unit, {
        action: 'audit.prune',
        outcome: 'done',
        actor: by,
        facts: { until, years: this.years ?? 0 },
      });
      await unit.run('INSERT INTO audit_pruned (id, until) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET until = excluded.until', [until]);
      await unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
        PRUNED_BY,
        String(index),
      ]);
    });
    await this.resume();
    return { until, entries: until - before };
  }

  /** Finishes what was said to be pruned, also after a crash. */
  async resume(): Promise<void> {
    const { storage } = this.parts;
    const until = await prunedUntil(storage);
    for (;;) {
      const entries = (await this.#reader.page(0, TILE_WIDTH)).filter(({ index }) => index < until);
      if (entries.length === 0) return;
      await storage.write(async (unit) => {
        await forgetTerms(
          unit,
          entries.map((entry) => ({ index: entry.index, terms: [...termsOf(entry)] })),
        );
        for (const entry of entries) {
          await unit.run('DELETE FROM audit_values WHERE idx = ?', [entry.index]);
          await unit.run('DELETE FROM audit_entries WHERE idx = ?', [entry.index]);
        }
      });
      await turn();
    }
  }
}
