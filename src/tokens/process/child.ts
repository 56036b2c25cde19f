import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Fault } from '../../foundation/index.js';
import type { TokenSettingsInput } from './settings.js';
import { faultOf, faultOnWire } from './token-faults.js';

/** sysexits.h: what `main.js` ends with. The supervisor does not start again what cannot get better by itself. */
export const EXIT = { unavailable: 69, defect: 70, again: 75, configuration: 78 } as const;

/** A start that takes longer hangs inside the module; a token on a network may take its time. */
const START_MS = 120_000;

/** A token process started by us. It ends when we do: its stdin closes then, however we died. */
export class TokenChild {
  private readonly process: ChildProcess;
  /** Resolves when it serves; rejects with a Fault that says why it does not. */
  readonly ready: Promise<void>;
  /** Exit status; null when a signal ended it. */
  readonly exited: Promise<number | null>;

  constructor(entry: string, settings: TokenSettingsInput) {
    // Nothing of our own Node settings: NODE_OPTIONS could load code or open a debugger beside the PIN. A module's own variables must pass.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NODE_')));
    const child = spawn(process.execPath, ['--disable-sigusr1', entry, 'serve'], { stdio: ['pipe', 'pipe', 'inherit'], env });
    this.process = child;
    this.exited = new Promise((resolve) => {
      child.once('exit', (code) => resolve(code));
      child.once('error', () => resolve(EXIT.unavailable)); // could not even be started
    });
    child.stdin.on('error', () => undefined); // it may be gone before it read
    child.stdin.write(`${JSON.stringify(settings)}\n`);
    this.ready = new Promise((resolve, reject) => {
      createInterface({ input: child.stdout }).on('line', (text) => {
        if (text === 'ready') resolve();
        else if (text.startsWith('failed ')) reject(refusal(text.slice('failed '.length)));
      });
      void this.exited.then((code) =>
        reject(new Fault('unavailable', 'token-unavailable', `the token process ended before it served (exit status ${code})`, 1)),
      );
    });
    const hung = setTimeout(() => child.kill('SIGKILL'), START_MS);
    // Asked by one who may come later, too.
    this.ready.catch(() => undefined).finally(() => clearTimeout(hung));
  }

  get pid(): number | undefined {
    return this.process.pid;
  }

  /** In order if it can within `graceMs`, by force otherwise. */
  async stop(graceMs: number): Promise<void> {
    this.process.kill('SIGTERM');
    const force = setTimeout(() => this.process.kill('SIGKILL'), graceMs);
    await this.exited;
    clearTimeout(force);
  }
}

function refusal(text: string): Fault {
  try {
    return faultOf(faultOnWire.parse(JSON.parse(text)));
  } catch {
    return new Fault('unavailable', 'token-unavailable', 'the token process did not start', 1);
  }
}
