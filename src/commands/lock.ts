import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Fault } from '../foundation/index.js';

/** When a process began, in clock ticks since boot (proc(5), field 22): tells a pid from its reuse. */
function startOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')[19];
  } catch {
    return undefined;
  }
}

/** One process at a time works on a home. A lock whose holder is gone is taken over. Throws `home-in-use`. */
export function lockHome(home: string): () => void {
  const path = join(home, 'run', 'lock');
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  for (let attempt = 0; ; attempt++) {
    try {
      const file = openSync(path, 'wx', 0o600);
      writeSync(file, `${process.pid} ${startOf(process.pid)}\n`);
      fsyncSync(file);
      closeSync(file);
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const [pid = '', start = ''] = readFileSync(path, 'utf8').trim().split(' ');
      if (attempt > 0 || startOf(Number(pid)) === start)
        throw new Fault('conflict', 'home-in-use', `another ekms process (pid ${pid}) works on ${home}; stop it first, or use a command that asks the running appliance`);
      rmSync(path, { force: true });
    }
  }
}
