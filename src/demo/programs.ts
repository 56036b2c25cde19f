import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';

export interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. */
export function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { env: { ...process.env, ...env }, maxBuffer: 32 * 2 ** 20 }, (error, stdout, stderr) =>
      resolve({ status: error ? (child.exitCode ?? 1) : 0, stdout, stderr }),
    );
  });
}

/** Runs a program that must succeed; otherwise the step fails with what it said. */
export async function must(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const { status, stdout, stderr } = await run(program, args, env);
  if (status !== 0) throw new Error(`${args.slice(1).join(' ')} ended with status ${status}: ${stderr.trim()}`);
  return stdout;
}

/** Starts a program and waits for its line that begins with `ready`. */
export async function startUntilReady(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<ChildProcess> {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let heard = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4000);
  });
  const ready = new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
      if (/^ready/m.test(heard)) resolve();
    });
    child.once('exit', (status) => reject(new Error(`it ended with status ${status}: ${said.trim()}`)));
  });
  await ready;
  return child;
}

export async function stop(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

/** Ports of loopback that are free now. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port); // a TCP server's address is never a string
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
