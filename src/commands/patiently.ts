import { setTimeout as sleep } from 'node:timers/promises';
import { isFault } from '../foundation/index.js';

/** Milliseconds before each further try: what a token process or a database takes to come back, or a busy one to have time. */
const WAITS = [500, 2_000, 8_000, 30_000];

/**
 * One of many works of a long run that nobody watches, tried again while the appliance is away or has too much to do. A defect (`token-defect`) is about this one work and not
 * repeated. Rejects with what the last try said.
 */
export async function patiently<T>(work: () => Promise<T>, waits: readonly number[] = WAITS): Promise<T> {
  for (const wait of waits)
    try {
      return await work();
    } catch (error) {
      if (!isAway(error)) throw error;
      await sleep(wait);
    }
  return work();
}

/** Whether this says nothing about what was asked, so that the same may be asked again. */
export const isAway = (error: unknown): boolean => isFault(error) && error.kind === 'unavailable' && error.code !== 'token-defect';
