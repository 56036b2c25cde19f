import 'reflect-metadata'; // what @peculiar/x509 injects with; must come first
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Fault, isFault } from '../../foundation/index.js';
import { HsmError } from '../hsm.js';
import { EXIT } from './child.js';
import { initialise, parseInitSettings } from './init.js';
import { serveTokenProcess } from './serve.js';
import { parseTokenSettings } from './settings.js';
import { seen } from './token-faults.js';

/** Milliseconds in which it must have ended in order. */
const GRACE_MS = 10_000;

/**
 * `main.js serve [FILE]` and `main.js init [FILE]`: settings as JSON in FILE, else on the first line of stdin; a process started that way ends
 * when its stdin does, so it never outlives who started it. Prints one line, `ready` or `failed {"kind", "code", "message"}`.
 */
const [command, file] = process.argv.slice(2);
try {
  const settings = parse(file ? readFileSync(file, 'utf8') : await firstLine());
  if (command === 'init') {
    await initialise(parseInitSettings(settings));
    process.stdout.write('ready\n', () => process.exit(0));
  } else {
    const served = await serveTokenProcess(parseTokenSettings(settings), fileURLToPath(new URL('worker.js', import.meta.url)));
    const end = () => {
      setTimeout(() => process.kill(process.pid, 'SIGKILL'), GRACE_MS);
      void served.stop().then(() => process.exit(0));
    };
    process.once('SIGTERM', end);
    // Control-C reaches the whole terminal group; who started us may still need answers to end in order, and closes our stdin afterwards.
    process.on('SIGINT', file ? end : () => undefined);
    if (!file) process.stdin.resume().once('close', end);
    process.stdout.write('ready\n');
  }
} catch (error) {
  const why = error instanceof HsmError ? seen(new Fault('misconfigured', error.code, error.message)) : seen(error);
  process.stderr.write(`token process: ${why.message}\n`);
  process.stdout.write(`failed ${JSON.stringify(why)}\n`, () => process.exit(exitStatus(error)));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Fault('misconfigured', 'token-settings', 'the settings of the token process are not JSON');
  }
}

function firstLine(): Promise<string> {
  return new Promise((resolve) => {
    const lines = createInterface({ input: process.stdin });
    lines.once('line', (text) => {
      resolve(text);
      lines.close();
    });
    lines.once('close', () => resolve(''));
  });
}

function exitStatus(error: unknown): number {
  if (error instanceof HsmError) return error.code === 'pin-refused' ? EXIT.configuration : EXIT.unavailable;
  if (isFault(error, 'token-in-use')) return EXIT.again;
  return isFault(error) ? EXIT.configuration : EXIT.defect;
}
