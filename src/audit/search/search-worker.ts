import { readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { isFault } from '../../foundation/index.js';
import { openReader, type StorageSettings } from '../../storage/index.js';
import { gather } from './gathering.js';
import type { Told } from './search-thread.js';

/** Gathers terms when it is told to, on a connection of its own that only reads, and lets others have the processor first. Entry point; see search-thread.ts. */
const database = openReader(workerData as StorageSettings); // search-thread.ts made it
try {
  setPriority(Number(readlinkSync('/proc/thread-self').split('/').at(-1)), constants.priority.PRIORITY_BELOW_NORMAL);
} catch {
  // Where that is forbidden it works all the same.
}
parentPort?.on('message', () => {
  database
    .then(gather)
    .then((gathered): Told => ({ gathered }))
    .catch((error: unknown): Told => {
      const { message } = error as Error;
      return { failed: isFault(error) ? { kind: error.kind, code: error.code, message } : message };
    })
    .then((told) => parentPort?.postMessage(told));
});
