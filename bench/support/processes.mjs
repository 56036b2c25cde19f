import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpuSeconds } from './figures.mjs';
import { root } from './home.mjs';

/** Starts a server that prints one line with its port behind `client=https://localhost:` and waits for that. */
async function started(args, env) {
  const child = spawn(process.execPath, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
  let heard = '';
  const port = await new Promise((resolve, reject) => {
    child.once('exit', (status) => reject(new Error(`${args.join(' ')} ended with status ${status}`)));
    child.stdout.on('data', (chunk) => {
      heard += chunk;
      const found = /^ready client=https:\/\/[^:]+:(\d+)/m.exec(heard);
      if (found) resolve(Number(found[1]));
    });
  });
  const pids = [child.pid, ...childrenOf(child.pid)];
  return {
    port,
    /** CPU seconds until now: of the server itself, and of its token process. */
    cpu: () => pids.map(cpuSeconds),
    /** As a crash does. */
    async kill() {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}

const childrenOf = (pid) => readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number);

/** The appliance as it is delivered. `flags` are Node's, for profiles. */
export const appliance = (home, flags = []) => started([...flags, join(root, 'dist/programs/main.js'), 'serve'], { EKMS_HOME: home });

/** One of bench/servers: same TLS, same size of reply, nothing behind it. */
export const bareServer = (name, args) => started([join(root, 'bench/servers', `${name}.mjs`), ...args.map(String)], {});

/** The load, from a process of its own. */
export async function generator(options) {
  const child = fork(join(root, 'bench/support/generator.mjs'));
  const ask = async (order) => {
    child.send(order);
    const ended = new AbortController();
    const gone = once(child, 'exit', { signal: ended.signal }).then(() => [{ error: 'the generator ended' }]);
    const [{ value, error }] = await Promise.race([once(child, 'message', { signal: ended.signal }), gone]);
    ended.abort();
    if (error) throw new Error(error);
    return value;
  };
  await ask({ do: 'connect', ...options });
  return {
    run: (clients, seconds, replies, isNew = false) => ask({ do: 'run', clients, seconds, replies, isNew }),
    async stop() {
      await ask({ do: 'end' });
      child.disconnect();
      await once(child, 'exit');
    },
  };
}
