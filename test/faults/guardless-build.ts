import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

/** What `ekms` and the token process consist of, in dist/programs. */
const CHANGEABLE = ['main.js', 'main.program.js', 'shared', 'tokens'];
/** What V8 kept of the code is of that code. */
const KEPT = 'cache';

/** A place in the built product and what stands there instead. */
export interface Change {
  /** As tsc writes it. */
  text: string;
  instead: string;
}

/** Kills the process that comes to this place. */
export const deathBefore = (text: string): Change => ({ text, instead: `process.kill(process.pid, "SIGKILL"); ${text}` });

/**
 * The built product with these places changed, as an installation of its own in `folder`. A place that is not found exactly once is an error: the test would show
 * nothing. Resolves with the path of its `ekms`.
 */
export function changedBuild(folder: string, changes: readonly Change[]): string {
  const programs = join(folder, 'dist/programs');
  mkdirSync(programs, { recursive: true });
  for (const [from, but] of [
    ['.', ['dist']],
    ['dist', ['programs']],
    ['dist/programs', [...CHANGEABLE, KEPT]],
  ] as const)
    for (const name of readdirSync(join(ROOT, from)))
      if (!but.some((each) => each === name)) symlinkSync(join(ROOT, from, name), join(folder, from, name));
  for (const name of CHANGEABLE) cpSync(join(ROOT, 'dist/programs', name), join(programs, name), { recursive: true });
  const paths = (readdirSync(programs, { recursive: true }) as string[]).filter((name) => name.endsWith('.js'));
  const sources = new Map(paths.map((name) => [join(programs, name), readFileSync(join(programs, name), 'utf8')]));
  for (const { text, instead } of changes) {
    const [longest = ''] = words(text).toSorted((a, b) => b.length - a.length);
    let found = 0;
    for (const [path, source] of sources) {
      if (!source.includes(longest)) continue;
      const changed = source.replaceAll(placeOf(text), (place) => {
        found++;
        // With the names that it has there.
        return instead.replaceAll(text, place);
      });
      sources.set(path, changed);
      if (changed !== source) writeFileSync(path, changed);
    }
    if (found !== 1) throw new Error(`this place is in the built product ${found} times: ${text}`);
  }
  return join(programs, 'main.js');
}

const words = (text: string): string[] => text.match(/[A-Za-z_]\w*/g) ?? [];

/** Joining breaks lines anew and numbers names that occur twice. */
const placeOf = (text: string): RegExp =>
  new RegExp(
    (text.match(/[A-Za-z_]\w*|\s+|[^\sA-Za-z_]+/g) ?? [])
      .map((part) =>
        /^\s/.test(part) ? '\\s+' : /^[A-Za-z_]/.test(part) ? `\\b${part}\\d*\\b` : part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'),
      )
      .join(''),
    'g',
  );
