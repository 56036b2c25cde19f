// What custody costs: wrapping every key anew against the token's own rate, under the load of retrievals and with kills in between; a backup and its
// restore against a plain copy of the same bytes, and what retrievals feel of a backup. Usage: see README.md.
import { closeSync, cpSync, fsyncSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { askAppliance } from '../dist/src/commands/ask-appliance.js';
import { restore } from '../dist/src/commands/restore.js';
import { openStorage } from '../dist/src/storage/index.js';
import { machine, quantile, verdict } from './support/figures.mjs';
import { copyHome, preparedHome, root } from './support/home.mjs';
import { ownRate, synthesise } from './support/many-keys.mjs';
import { appliance, generator } from './support/processes.mjs';
import { rotateUnderRetrievals } from './support/rotation.mjs';

const { values: given } = parseArgs({
  options: {
    /** Keys that are wrapped anew. */
    keys: { type: 'string', default: '10000' },
    /** Keys in the backup, those among them. */
    backup: { type: 'string', default: '100000' },
    people: { type: 'string', default: '32' },
    clients: { type: 'string', default: '4' },
    kills: { type: 'string', default: '5' },
    /** Keys that change between a backup and the next. */
    changed: { type: 'string', default: '100' },
    /** `backups` or `rotation`: that part alone. */
    only: { type: 'string' },
  },
});
const [keys, backup, people, clients, kills, changed] = [
  given.keys,
  given.backup,
  given.people,
  given.clients,
  given.kills,
  given.changed,
].map(Number);
const BITS = 2048;
const folder = mkdtempSync(join(tmpdir(), 'ekms-bench-custody-'));
const prepared = await preparedHome({ people, bits: BITS, custodians: true });
const home = join(folder, 'home');
copyHome(prepared.home, home, { bits: BITS });
const shares = readdirSync(`${prepared.home}-shares`)
  .filter((name) => name.startsWith('share-'))
  .map((name) => readFileSync(join(`${prepared.home}-shares`, name), 'utf8'));

console.log(
  `bench/custody: RSA-${BITS}, ${keys} keys wrapped anew, ${backup} in the backup, ${clients} retrievals at a time\n${machine()}\n`,
);
try {
  const began = performance.now();
  // A rotation alone needs no more than it wraps.
  await synthesise(home, { real: keys, count: given.only === 'rotation' ? keys : backup, bits: BITS });
  console.log(`the keys are made in ${Math.round((performance.now() - began) / 1000)} s\n`);
  if (given.only !== 'backups') await rotation();
  if (given.only !== 'rotation') await backups();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function rotation() {
  // What cannot be opened is put aside: it is there for the backup only.
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  await storage.write((unit) =>
    unit.run(
      `CREATE TABLE bench_aside AS SELECT * FROM keys WHERE LENGTH(public_key) = 294 AND id IN (SELECT id FROM keys ORDER BY rowid LIMIT -1 OFFSET ${keys + people})`,
    ),
  );
  await storage.write((unit) => unit.run('DELETE FROM keys WHERE id IN (SELECT id FROM bench_aside)'));
  await storage.close();
  const { server, ...found } = await rotateUnderRetrievals({ home, devices: prepared.devices, clients, kills });
  console.log(
    `under retrievals: ${found.asked} asked, ${found.refused} refused; killed and resumed ${found.killed} times; ${Math.round(found.rate)} keys a second`,
  );
  console.log(`  retrieval p99 in ms: before and after ${found.calm.toFixed(1)}, meanwhile ${found.meanwhile.toFixed(1)}`);
  // Too few keys are wrapped before anybody could be killed.
  verdict('killed and resumed', found.killed, kills, found.killed >= kills, 0);
  verdict('refused', found.refused, 0, found.refused === 0, 0);
  verdict('p99 meanwhile / before and after', found.meanwhile / found.calm, 2, found.meanwhile <= 2 * found.calm);
  const ask = async (act) => (await askAppliance(home, act, {})).value;
  await ask('backup.create');
  // The token's own rate on both sides of what is held against it: the same calls, unwrap and wrap, in a plain loop.
  await ask('kek.retire');
  const own = [await ownRate(home)];
  const alone = await ask('kek.rotate');
  const began = performance.now();
  while ((await ask('kek.status')).state !== 'finished') await new Promise((resolve) => setTimeout(resolve, 100));
  const rate = (alone.left / (performance.now() - began)) * 1000;
  await server.stop();
  own.push(await ownRate(home));
  console.log(
    `alone: ${Math.round(rate)} keys a second; the token itself, one session, before and after: ${own.map(Math.round).join(', ')}`,
  );
  verdict('wrapping anew / the token’s own', rate / ((own[0] + own[1]) / 2), 0.6);
}

async function backups() {
  if (given.only !== 'backups') {
    const storage = await openStorage({ url: 'sqlite:ekms.db', home });
    await storage.write((unit) => unit.run('INSERT INTO keys SELECT * FROM bench_aside'));
    await storage.write((unit) => unit.run('DROP TABLE bench_aside'));
    await storage.close();
  }
  rmSync(join(home, 'backups'), { recursive: true, force: true });
  const server = await appliance(home);
  const ca = readFileSync(join(home, 'ca.pem'), 'utf8');
  const load = await generator({ port: server.port, path: '/v1/keys', ca, devices: prepared.devices });
  await load.run(clients, 2);
  const before = await load.run(clients, 6);
  const began = performance.now();
  let isOver = false;
  const made = askAppliance(home, 'backup.create', { full: true }).finally(() => {
    isOver = true;
  });
  const latencies = [];
  while (!isOver) latencies.push(...(await load.run(clients, 1)).latencies);
  const { file, bytes } = (await made).value;
  const loaded = (performance.now() - began) / 1000;
  // On both sides, for the machine may have been busier by the end.
  before.latencies.push(...(await load.run(clients, 6)).latencies);
  await load.stop();
  const make = async (how) => {
    const began = performance.now();
    const { value } = await askAppliance(home, 'backup.create', how);
    return { ...value, seconds: (performance.now() - began) / 1000 };
  };
  const { seconds, ...full } = await make({ full: true });
  await changeSome();
  const link = await make({});
  await server.stop();
  const [calm, during] = [quantile(before.latencies, 0.99), quantile(latencies, 0.99)];
  console.log(
    `\nbackup of ${backup + people} keys: ${(bytes / 2 ** 20).toFixed(0)} MiB in ${seconds.toFixed(1)} s, under retrievals in about ${loaded.toFixed(1)} s; a plain copy of the same bytes: ${plainCopy(file).toFixed(1)} s`,
  );
  console.log(`  retrieval p99 in ms: before and after ${calm.toFixed(1)}, meanwhile ${during.toFixed(1)}`);
  verdict('p99 during a backup / before and after', during / calm, 1.5, during <= 1.5 * calm);
  const blank = join(folder, 'blank');
  mkdirSync(blank, { mode: 0o700 });
  const report = await restore({ home: blank, backup: file, shares: shares.slice(0, 2), say: () => undefined }, { root });
  console.log(`restore: ${report.keys} keys, ${report.rows} rows in ${report.seconds} s`);
  console.log(
    `\nincremental, ${changed} keys changed since: ${(link.bytes / 2 ** 20).toFixed(1)} MiB in ${link.seconds.toFixed(1)} s; a full one: ${(full.bytes / 2 ** 20).toFixed(0)} MiB in ${seconds.toFixed(1)} s`,
  );
  verdict('incremental / full, bytes', link.bytes / full.bytes, 0.1, link.needs.length === 1 && link.bytes <= 0.1 * full.bytes);
  verdict('incremental / full, time', link.seconds / seconds, 0.5, link.seconds <= 0.5 * seconds);
  rmSync(blank, { recursive: true });
  mkdirSync(blank, { mode: 0o700 });
  const both = await restore({ home: blank, backup: link.file, shares: shares.slice(0, 2), say: () => undefined }, { root });
  console.log(`restore of both: ${both.keys} keys, ${both.rows} rows in ${both.seconds} s`);
}

/** Keys all over the table, as a day's renewals are; of those that no token opens. */
async function changeSome() {
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  await storage.write((unit) =>
    unit.run(
      `UPDATE keys SET wrapped = randomblob(LENGTH(wrapped)) WHERE id IN (SELECT id FROM keys WHERE LENGTH(public_key) = 294 AND LENGTH(wrapped) = 1224 ORDER BY id LIMIT ${changed})`,
    ),
  );
  await storage.close();
}

function plainCopy(file) {
  const began = performance.now();
  cpSync(file, join(folder, 'copy'));
  const fd = openSync(join(folder, 'copy'), 'r');
  fsyncSync(fd);
  closeSync(fd);
  return (performance.now() - began) / 1000;
}
