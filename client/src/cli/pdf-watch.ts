import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type PdfEncryptOptions, pdfEncrypt } from './pdf.js';
import type { Terminal } from './session.js';

/** A file that has not changed for as long is one that was written whole. Milliseconds. */
const SETTLED = 1000;

/** Encrypts what is dropped into a folder, until it is stopped. What has its encrypted form already is passed over. */
export async function pdfWatch(terminal: Terminal, folder: string, options: PdfEncryptOptions & { once?: boolean }): Promise<number> {
  mkdirSync(options.output, { recursive: true });
  const refused = new Map<string, number>();
  const stop = new Promise<'stop'>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve('stop'));
  });
  if (!options.once) terminal.say(`watching ${folder}; encrypted documents go to ${options.output}`);
  for (;;) {
    for (const name of dropped(folder, options.output)) {
      const changed = statSync(join(folder, name)).mtimeMs;
      if (refused.get(name) === changed) continue;
      try {
        await pdfEncrypt(terminal, [join(folder, name)], { ...options, output: join(options.output, name) });
      } catch (error) {
        refused.set(name, changed); // once is enough, until it changes
        terminal.say(`FAILED ${name}: ${error instanceof Error ? error.message : 'a defect'}`);
      }
    }
    if (options.once) return refused.size === 0 ? 0 : 1;
    if ((await Promise.race([stop, sleep(SETTLED, 'go on' as const)])) === 'stop') return 0;
  }
}

function dropped(folder: string, output: string): string[] {
  const now = Date.now();
  return readdirSync(folder)
    .filter((name) => /^[^.].*\.pdf$/i.test(name))
    .filter((name) => {
      const found = statSync(join(folder, name), { throwIfNoEntry: false });
      const done = statSync(join(output, name), { throwIfNoEntry: false });
      return found?.isFile() && now - found.mtimeMs >= SETTLED && (!done || done.mtimeMs < found.mtimeMs);
    })
    .sort();
}
