import { writeSync } from 'node:fs';
import { run } from './cli/program.js';

/** Words may quote a mail or a server: nothing of theirs may steer the terminal, begin a line as if we had said it, or turn one around (UAX #9). */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out
const harmless = (words: string): string => words.replace(/[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g, '?');

function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(descriptor, bytes, at);
    } catch (error) {
      // A pipe that is full for the moment, or whose reader has left.
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') return;
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

/** A bar on a terminal, once the work on a file has taken a moment. */
function progress(name: string): (done: number, all: number) => void {
  const began = performance.now();
  let shown = '';
  return (done, all) => {
    if (performance.now() - began < 500) return;
    const part = all === 0 ? 1 : done / all;
    const bar = `${'#'.repeat(Math.round(part * 30)).padEnd(30, '.')} ${String(Math.round(part * 100)).padStart(3)} %`;
    if (bar === shown) return;
    shown = bar;
    writeAll(2, Buffer.from(`\r${harmless(name).slice(-40)} ${bar}${done >= all ? '\n' : ''}`));
  };
}

void run(process.argv.slice(2), {
  environment: process.env,
  say: (words) => writeAll(2, Buffer.from(`mesign: ${harmless(words)}\n`)),
  ...(process.stderr.isTTY ? { progress } : {}),
  print: (bytes) => writeAll(1, typeof bytes === 'string' ? Buffer.from(bytes) : bytes),
}).then((status) => {
  process.exitCode = status;
});
