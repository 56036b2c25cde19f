import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

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
  const dist = join(folder, 'dist');
  mkdirSync(dist, { recursive: true });
  for (const [from, to, but] of [
    [ROOT, folder, 'dist'],
    [join(ROOT, 'dist'), dist, 'programs'],
  ] as const)
    for (const name of readdirSync(from)) if (name !== but) symlinkSync(join(from, name), join(to, name));
  const programs = join(dist, 'programs');
  cpSync(join(ROOT, 'dist/programs'), programs, { recursive: true });
  const paths = (readdirSync(programs, { recursive: true }) as string[]).filter((name) => name.endsWith('.js'));
  for (const { text, instead } of changes) {
    let found = 0;
    for (const path of paths.map((name) => join(programs, name))) {
      const source = readFileSync(path, 'utf8');
      const changed = source.replaceAll(placeOf(text), (place) => {
        found++;
        // With the names that it has there.
        return instead.replaceAll(text, place);
      });
      if (changed !== source) writeFileSync(path, changed);
    }
    if (found !== 1) throw new Error(`this place is in the built product ${found} times: ${text}`);
  }
  return join(programs, 'main.js');
}

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
