import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { CustodyHome } from '../faults/custody-home.js';
import { enrolDevice } from '../support/wire-device.js';
import { p12sIn, takeSamples } from './pkcs12-samples.js';

const PACKAGE = 'python3-cryptography-vectors';
/** Refusals by name that a sound file may meet: of keys that are not RSA, of what is no key for mail, of the second file of one key. */
const NAMED = new Set(['imported', 'there', 'key-missing', 'key-unsupported', 'certificate-missing', 'signing-only']);

/** The package's files, fetched once and kept in `.setup`. */
function fetched(): string[] {
  const folder = resolve('.setup/pkcs12-samples');
  if (!existsSync(join(folder, 'usr'))) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    execFileSync('apt-get', ['download', PACKAGE], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] });
    for (const name of readdirSync(folder)) execFileSync('dpkg-deb', ['-x', name, '.'], { cwd: folder, stdio: 'inherit' });
  }
  return p12sIn(folder);
}

export async function main(): Promise<void> {
  const { values } = parseArgs({ options: { seed: { type: 'string' }, count: { type: 'string', default: '1000' } } });
  const files = [...fetched(), ...p12sIn('/usr/share'), ...p12sIn(resolve('node_modules'))].slice(0, Number(values.count));
  const home = await CustodyHome.make({ durability: 'one', keys: { bits: 2048, pool: { target: 1 } } });
  try {
    await home.must('init', '--domain', 'corp.example');
    await home.serve();
    const alice = await enrolDevice(home.door(await home.issueApp()), 'alice@corp.example');
    const told = await takeSamples(home, files, alice.employee);
    const counts: Record<string, number> = {};
    for (const outcome of told.values()) counts[outcome] = (counts[outcome] ?? 0) + 1;
    const unnamed = [...told].filter(([, outcome]) => !NAMED.has(outcome));
    for (const [name, outcome] of unnamed) console.log(`${name}: ${outcome}`);
    console.log(JSON.stringify({ files: files.length, ...counts }));
    if (unnamed.length > 0 || files.length === 0) process.exitCode = 1;
  } finally {
    await home.stop();
    await home.remove();
  }
}
