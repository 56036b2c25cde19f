// What custody costs: wrapping every key anew against the token's own rate, under the load of retrievals and with kills in between; a backup and its
// restore against a plain copy of the same bytes, and what retrievals feel of a backup. Usage: see README.md.
import { createPublicKey, randomBytes, randomUUID } from 'node:crypto';
import { closeSync, cpSync, fsyncSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { askAppliance } from '../dist/src/commands/ask-appliance.js';
import { restore } from '../dist/src/commands/restore.js';
import { loadConfiguration } from '../dist/src/configuration.js';
import { base64url, sha256 } from '../dist/src/foundation/index.js';
import { tokenSettings } from '../dist/src/house.js';
import { KeyStore } from '../dist/src/keys/index.js';
import { openStorage } from '../dist/src/storage/index.js';
import { KEY, Pkcs11Module } from '../dist/src/tokens/pkcs11/module.js';
import { Pkcs11Hsm } from '../dist/src/tokens/pkcs11/pkcs11-hsm.js';
import { loadProfile } from '../dist/src/tokens/pkcs11/profile.js';
import { macInput } from '../dist/src/tokens/records.js';
import { machine, quantile, verdict } from './support/figures.mjs';
import { configure, deliveryKeys, preparedHome, root } from './support/home.mjs';
import { appliance, generator } from './support/processes.mjs';

const { values: given } = parseArgs({
  options: {
    /** Keys that are wrapped anew. */
    keys: { type: 'string', default: '10000' },
    /** Keys in the backup, those among them. */
    backup: { type: 'string', default: '100000' },
    people: { type: 'string', default: '32' },
    clients: { type: 'string', default: '4' },
    kills: { type: 'string', default: '5' },
  },
});
const [keys, backup, people, clients, kills] = [given.keys, given.backup, given.people, given.clients, given.kills].map(Number);
const BITS = 2048;
const folder = mkdtempSync(join(tmpdir(), 'ekms-bench-custody-'));
const prepared = await preparedHome({ people, bits: BITS, custodians: true });
const home = join(folder, 'home');
cpSync(prepared.home, home, { recursive: true });
const softhsm = join(home, 'softhsm2.conf');
writeFileSync(softhsm, readFileSync(softhsm, 'utf8').replaceAll(prepared.home, home));
configure(home, { bits: BITS });
const shares = readdirSync(`${prepared.home}-shares`)
  .filter((name) => name.startsWith('share-'))
  .map((name) => readFileSync(join(`${prepared.home}-shares`, name), 'utf8'));

console.log(
  `bench/custody: RSA-${BITS}, ${keys} keys wrapped anew, ${backup} in the backup, ${clients} retrievals at a time\n${machine()}\n`,
);
try {
  const own = await synthesise();
  await rotation(own);
  await backups();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Keys of people without devices: the first ones open, the others are bytes of that length. Resolves with the token's own rate of wrapping anew, per second. */
async function synthesise() {
  const { module: path, label, profiles, profile: name, state, pinFile } = tokenSettings(loadConfiguration(home), { root });
  process.env['SOFTHSM2_CONF'] = softhsm;
  const module = new Pkcs11Module(path);
  const session = module.openSession(label);
  session.login(readFileSync(pinFile, 'utf8').trim());
  const profile = loadProfile(profiles, name);
  const hsm = new Pkcs11Hsm(module, { label, profile, canary: readFileSync(join(state, 'canary')) });
  const kwp = { number: profile.mechanisms.kwp };
  const [kek] = session.find({ ...KEY.aes, token: true, label: 'ekms/kek/1' });
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  const store = new KeyStore();
  const real = deliveryKeys(keys, BITS);
  const pairs = [];
  for (let at = 0; at < backup; at += 500)
    await storage.write(async (unit) => {
      for (let n = at; n < Math.min(backup, at + 500); n++) {
        const key = real[n];
        const publicKey = key ? createPublicKey(key).export({ type: 'spki', format: 'der' }) : randomBytes(294);
        const secret =
          key &&
          session.create({
            ...KEY.genericSecret,
            token: false,
            private: true,
            sensitive: true,
            extractable: true,
            value: key.export({ type: 'pkcs8', format: 'der' }),
          });
        const wrapped = secret ? session.wrap(kwp, kek, secret) : randomBytes(1224);
        if (secret) session.destroy(secret);
        const employee = randomUUID();
        const record = {
          ...{ type: 'key', id: randomUUID(), version: 1, employee, suite: 'rsa', bits: BITS, state: 'active', mode: 'deliver', kek: '1' },
          ...{ publicKey: base64url(sha256(publicKey)), wrapped: base64url(sha256(wrapped)) },
        };
        await unit.run("INSERT INTO employees (id, state, created) VALUES (?, 'active', 0)", [employee]);
        await store.insert(unit, { sealed: { record, mac: hsm.mac(macInput(record)) }, wrapped, publicKey }, 0);
        if (key && pairs.length < 500) pairs.push({ wrapped, publicKey, kek: '1', kind: { suite: 'rsa', bits: BITS } });
      }
    });
  const began = performance.now();
  for (const pair of pairs) hsm.renew(pair);
  const rate = (pairs.length / (performance.now() - began)) * 1000;
  await storage.close();
  hsm.close();
  session.close();
  module.finalise();
  return rate;
}

async function rotation(own) {
  // What cannot be opened is put aside: it is there for the backup only.
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  await storage.write((unit) =>
    unit.run(
      `CREATE TABLE bench_aside AS SELECT * FROM keys WHERE LENGTH(public_key) = 294 AND id IN (SELECT id FROM keys ORDER BY rowid LIMIT -1 OFFSET ${keys + people})`,
    ),
  );
  await storage.write((unit) => unit.run('DELETE FROM keys WHERE id IN (SELECT id FROM bench_aside)'));
  await storage.close();
  let server = await appliance(home);
  const ca = readFileSync(join(home, 'ca.pem'), 'utf8');
  const ask = async (act) => (await askAppliance(home, act, {})).value;
  let load = await generator({ port: server.port, path: '/v1/keys', ca, devices: prepared.devices });
  await load.run(clients, 2);
  const before = await load.run(clients, 6);
  const total = (await ask('kek.rotate')).left;
  const latencies = [];
  let [refused, asked, killed, busy] = [0, 0, 0, 0];
  for (;;) {
    const began = performance.now();
    const { left } = await ask('kek.status');
    const round = await load.run(clients, 2);
    busy += performance.now() - began;
    latencies.push(...round.latencies);
    asked += round.count;
    for (const [status, count] of Object.entries(round.statuses)) if (status !== '200') refused += count;
    if (left === 0) break;
    if (killed < kills && left < total * (1 - (killed + 1) / (kills + 1))) {
      await load.stop();
      await server.kill();
      killed++;
      server = await appliance(home);
      load = await generator({ port: server.port, path: '/v1/keys', ca, devices: prepared.devices });
      await load.run(clients, 1);
    }
  }
  console.log(
    `under retrievals: ${asked} asked, ${refused} refused; killed and resumed ${killed} times; ${Math.round((total / busy) * 1000)} keys a second`,
  );
  console.log(
    `  retrieval p99 in ms: before ${quantile(before.latencies, 0.99).toFixed(1)}, meanwhile ${quantile(latencies, 0.99).toFixed(1)}`,
  );
  // Too few keys are wrapped before anybody could be killed.
  verdict('killed and resumed', killed, kills, killed >= kills);
  verdict('refused', refused, 0, refused === 0);
  verdict(
    'p99 during / before',
    quantile(latencies, 0.99) / quantile(before.latencies, 0.99),
    2,
    quantile(latencies, 0.99) <= 2 * quantile(before.latencies, 0.99),
  );
  await load.stop();
  await ask('backup.create');
  await ask('kek.retire');
  const alone = await ask('kek.rotate');
  const began = performance.now();
  while ((await ask('kek.status')).state !== 'finished') await new Promise((resolve) => setTimeout(resolve, 50));
  const rate = (alone.left / (performance.now() - began)) * 1000;
  console.log(`alone: ${Math.round(rate)} keys a second; the token itself, one session: ${Math.round(own)}`);
  verdict('wrapping anew / the token’s own', rate / own, 0.6);
  await server.stop();
}

async function backups() {
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  await storage.write((unit) => unit.run('INSERT INTO keys SELECT * FROM bench_aside'));
  await storage.write((unit) => unit.run('DROP TABLE bench_aside'));
  await storage.close();
  rmSync(join(home, 'backups'), { recursive: true, force: true });
  const server = await appliance(home);
  const ca = readFileSync(join(home, 'ca.pem'), 'utf8');
  const load = await generator({ port: server.port, path: '/v1/keys', ca, devices: prepared.devices });
  await load.run(clients, 2);
  const before = await load.run(clients, 6);
  const began = performance.now();
  let isOver = false;
  const made = askAppliance(home, 'backup.create', {}).finally(() => {
    isOver = true;
  });
  const latencies = [];
  while (!isOver) latencies.push(...(await load.run(clients, 1)).latencies);
  const { file, bytes } = (await made).value;
  const loaded = (performance.now() - began) / 1000;
  await load.stop();
  const quiet = performance.now();
  await askAppliance(home, 'backup.create', {});
  const seconds = (performance.now() - quiet) / 1000;
  await server.stop();
  const [calm, during] = [quantile(before.latencies, 0.99), quantile(latencies, 0.99)];
  console.log(
    `\nbackup of ${backup + people} keys: ${(bytes / 2 ** 20).toFixed(0)} MiB in ${seconds.toFixed(1)} s, under retrievals in about ${loaded.toFixed(1)} s; a plain copy of the same bytes: ${plainCopy(file).toFixed(1)} s`,
  );
  console.log(`  retrieval p99 in ms: before ${calm.toFixed(1)}, meanwhile ${during.toFixed(1)}`);
  verdict('p99 during a backup / before', during / calm, 1.5, during <= 1.5 * calm);
  const blank = join(folder, 'blank');
  mkdirSync(blank, { mode: 0o700 });
  const report = await restore({ home: blank, backup: file, shares: shares.slice(0, 2), say: () => undefined }, { root });
  console.log(`restore: ${report.keys} keys, ${report.rows} rows in ${report.seconds} s`);
}

function plainCopy(file) {
  const began = performance.now();
  cpSync(file, join(folder, 'copy'));
  const fd = openSync(join(folder, 'copy'), 'r');
  fsyncSync(fd);
  closeSync(fd);
  return (performance.now() - began) / 1000;
}
