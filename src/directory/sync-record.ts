import type { Reader, Unit } from '../foundation/index.js';

/** How the last run of the directory sync ended. */
export interface SyncOutcome {
  outcome: 'done' | 'refused' | 'failed';
  /** The Fault's code. */
  reason?: string;
  /** Milliseconds since 1970. */
  time: number;
  /** What only a person can decide, left open. */
  questions: number;
  /** The last run that was done. */
  doneAt?: number;
}

const NAME = 'directory.sync';

export async function readLastSync(reader: Reader): Promise<SyncOutcome | undefined> {
  const row = await reader.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [NAME]);
  return row && (JSON.parse(row.value) as SyncOutcome); // only `writeLastSync` writes this row
}

export async function writeLastSync(unit: Unit, outcome: SyncOutcome, before: SyncOutcome | undefined): Promise<void> {
  const doneAt = outcome.outcome === 'done' ? outcome.time : before?.doneAt;
  await unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
    NAME,
    JSON.stringify({ ...outcome, ...(doneAt === undefined ? {} : { doneAt }) }),
  ]);
}
