// The folders of the packages that the application needs to run, by package-lock.json. For deploy/bundle.
import { existsSync, readFileSync } from 'node:fs';

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'));
const needed = Object.entries(packages)
  .filter(([path, { dev, devOptional, link, optional }]) => path.startsWith('node_modules/') && !dev && !devOptional && !link && !(optional && !existsSync(path)))
  .map(([path]) => path);
// A package inside another's folder comes with it.
const outermost = needed.filter((path) => !needed.some((other) => path.startsWith(`${other}/`)));
process.stdout.write(`${outermost.sort().join('\n')}\n`);
