import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './commands/program.js';

// dist/programs/main.js → the installation's root.
const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
process.umask(0o077);
process.exitCode = await run(process.argv.slice(2), { root }, process.env['npm_package_version'] ?? '0.1.0');
