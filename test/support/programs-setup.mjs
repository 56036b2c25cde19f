// Before any test: the programs that tests of whole appliances run are joined anew when tsc has built since.
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';

const madeAt = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

export default function programsSetup({ rootDir }) {
  const built = madeAt(join(rootDir, 'dist/.tsbuildinfo'));
  if (madeAt(join(rootDir, 'dist/programs/main.js')) >= built) return;
  execFileSync(process.execPath, [join(rootDir, 'deploy/programs.mjs'), join(rootDir, 'dist')], { stdio: 'inherit' });
}
