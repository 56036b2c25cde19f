import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Home } from './appliance.js';

const EKMS = join(resolve(process.env['EKMS_DIST'] ?? 'dist'), 'programs/main.js');
/** A number that no user of this machine has: of the token process's socket group. */
export const CLIENTS = 61_003;
const isRoot = process.getuid?.() === 0;

/** A token process as a unit of its own has it: folders, settings and start of its own, an API process that only has its socket. */
export class TwoUnits extends Home {
  readonly runtime = this.beside('runtime');
  readonly socket = join(this.runtime, 'token.sock');
  readonly settings = this.beside('token.yaml');
  readonly pinFile = this.beside('sealed', 'pin');
  said = '';
  #token: ChildProcess | undefined;

  /** @param home of the token process */
  tokenFile(pin: unknown, home = this.beside('token-home')): void {
    mkdirSync(this.runtime, { recursive: true });
    if (isRoot) chownSync(this.runtime, 0, CLIENTS);
    chmodSync(this.runtime, 0o2750);
    writeFileSync(this.settings, JSON.stringify({ home, pin, socket: this.socket }));
  }

  /** A command line with something on its standard input, and in its environment. */
  tell(
    given: string | { input: string; env: NodeJS.ProcessEnv },
    ...args: string[]
  ): { status: number | null; stdout: string; stderr: string } {
    const { input, env } = typeof given === 'string' ? { input: given, env: {} } : given;
    // A group of its own, which dies as one where its steps are fatal.
    return spawnSync('setsid', [process.execPath, EKMS, ...args], {
      input,
      encoding: 'utf8',
      timeout: 60_000,
      env: { ...process.env, EKMS_HOME: this.path, ...env },
    });
  }

  /** What deploy/install does: what the API's user asks goes to the token's user as text. */
  async makeToken(): Promise<string> {
    const { stdout: request } = await this.ekms('token', 'request', '--organisation', 'Corp & Sons');
    mkdirSync(dirname(this.pinFile), { recursive: true, mode: 0o700 });
    const made = this.tell(request, 'token', 'init', '--settings', this.settings, '--pin-file', this.pinFile);
    if (made.status !== 0) fail(made.stderr);
    return readFileSync(this.pinFile, 'utf8').trim();
  }

  async startToken(env: NodeJS.ProcessEnv = {}): Promise<ChildProcess> {
    const child = spawn(process.execPath, [EKMS, 'token', 'serve', '--settings', this.settings], { env: { ...process.env, ...env } });
    this.#token = child;
    this.said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.said += text;
      });
    while (!/^ready/m.test(this.said)) await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => fail(this.said))]);
    return child;
  }

  async close(): Promise<void> {
    await this.stopToken();
    await this.remove();
  }

  async stopToken(): Promise<void> {
    const child = this.#token;
    if (child && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
  }
}

function fail(why: string): never {
  throw new Error(`the token process ended: ${why}`);
}
