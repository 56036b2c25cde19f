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

/** Below those that the system gives to whoever asks for any port: one of these could be given away between being found free and being used. */
const PORTS = { from: 20_000, blocks: 127, each: 100 };
let ports = Math.floor(Math.random() * PORTS.each);

/** Ports of loopback that are free now, from a block that few processes share. */
export async function freePorts(count: number): Promise<number[]> {
  const free: number[] = [];
  for (let tries = 0; free.length < count; tries++) {
    if (tries >= PORTS.each) throw new Error(`${count} ports of loopback were wanted, and of ${PORTS.each} only ${free.length} are free`);
    const port = PORTS.from + (process.pid % PORTS.blocks) * PORTS.each + (ports++ % PORTS.each);
    if (await isFree(port)) free.push(port);
  }
  return free;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  await new Promise((resolve) => server.close(resolve));
  return true;
}
