import { chmodSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { Fault } from '../foundation/index.js';

/**
 * Holds a file for this process alone until released. SQLite's own lock (fcntl) does it: the kernel ends it with the process, so nothing is
 * ever stale. Throws `home-in-use`.
 */
export function holdAlone(file: string, what: string): () => void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const lock = new Database(file, { timeout: 0 });
  try {
    chmodSync(file, 0o600);
    lock.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    lock.close();
    if ((error as { code?: string }).code !== 'SQLITE_BUSY') throw error;
    throw new Fault(
      'conflict',
      'home-in-use',
      `another ekms process works on ${what}: stop it first, or use a command that asks the running appliance`,
    );
  }
  return () => lock.close();
}
