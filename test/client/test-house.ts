import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { run } from '../../client/src/cli/program.js';

/** A folder of the test's own, gone afterwards. */
export class TestHouse {
  readonly folder = mkdtempSync(join(tmpdir(), 'mesign-test-'));

  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  openssl(...words: string[]): Buffer {
    return execFileSync('openssl', words, { cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 256 << 20 });
  }

  /** Runs one command line of mesign in this process. */
  async mesign(home: string, ...argv: string[]): Promise<{ status: number; out: Buffer; said: string }> {
    const out: Uint8Array[] = [];
    const said: string[] = [];
    const status = await run(argv, {
      environment: { MESIGN_HOME: this.path(home) },
      say: (words) => said.push(words),
      print: (bytes) => out.push(typeof bytes === 'string' ? Buffer.from(bytes) : bytes),
    });
    // A terminal shows none: main.ts takes line ends for somebody else's.
    if (said.some((words) => words.includes('\n'))) throw new Error(`what mesign says has a line end in it: ${said.join('\n')}`);
    return { status, out: Buffer.concat(out), said: said.join('\n') };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export const vector = (...names: string[]): string => resolve(__dirname, '../vectors', ...names);
