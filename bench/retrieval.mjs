// Devices fetch their keys from the appliance itself: `ekms serve`, SQLite, durable audit, mutual TLS 1.3, each device with a key of its own.
// First deliveries against the C loop of the same PKCS#11 calls, kept ones against a bare node:https server. Usage: see README.md.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { cLoop } from './support/c-loop.mjs';
import { machine, median, quantile, ratios, spread, verdict } from './support/figures.mjs';
import { askedReleases, configure, preparedHome, root } from './support/home.mjs';
import { appliance, bareServer, generator } from './support/processes.mjs';
import { tlsFiles } from './support/tls-files.mjs';

const { values: given } = parseArgs({
  options: {
    bits: { type: 'string', default: '3072' },
    people: { type: 'string', default: '256' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    clients: { type: 'string', default: '32' },
    /** Folder for a CPU profile of the appliance. */
    profile: { type: 'string' },
  },
});
const [bits, people, rounds, seconds, clients] = [given.bits, given.people, given.rounds, given.seconds, given.clients].map(Number);

const { home, devices } = await preparedHome({ people, bits });
configure(home, { bits });
const loop = await cLoop(home, (await askedReleases(home, devices))[0]);
const database = new Database(join(home, 'ekms.db'), { timeout: 5000 });
const entriesBefore = deliverEntries();

const server = await appliance(home, given.profile ? ['--cpu-prof', `--cpu-prof-dir=${given.profile}`] : []);
const ca = readFileSync(join(home, 'ca.pem'), 'utf8');
const load = await generator({ port: server.port, path: '/v1/keys', ca, devices });

console.log(
  `bench/retrieval: RSA-${bits}, ${people} devices of as many people, ${clients} at a time, ${rounds} rounds of ${seconds} s\n${machine()}\n`,
);
let replies = 0;
const first = { rates: [], c: [], p50: [], p99: [], cpu: [] };
for (let round = 0; round < rounds; round++) {
  first.c.push(await loop('release', 2, seconds / 2));
  // A deleted delivery is a first one again. In round 0 the devices' certificates are new to the token process too.
  database.exec('DELETE FROM deliveries');
  keep(first, await measured());
}
console.log(`first deliveries (each device once), per second: ${spread(first.rates)}; C loop, 2 sessions: ${spread(first.c)}`);
console.log(`  latency in ms: p50 ${spread(first.p50, 1)}, p99 ${spread(first.p99, 1)}; CPU in ms per reply: ${cpuWords(first)}`);
verdict('first deliveries / C loop', median(ratios(first.rates, first.c)), 0.5);

const size = (await measured()).bytes;
const files = tlsFiles(join(home, 'tls'), devices[0].certificates[1] + ca);
const bare = await bareServer('bare', [files.folder, Math.round(size) - 400]);
const bareLoad = await generator({ port: bare.port, path: '/', ca: files.ca, devices });
await measured(1);
await bareLoad.run(clients, 1);

const kept = { rates: [], p50: [], p99: [], cpu: [] };
const plain = { rates: [], p99: [] };
const refill = { rates: [], p50: [], p99: [], cpu: [], pairs: [] };
for (let round = 0; round < rounds; round++) {
  const { rate, latencies, bytes } = await bareLoad.run(clients, seconds);
  plain.rates.push(rate);
  plain.p99.push(quantile(latencies, 0.99));
  plain.bytes = bytes;
  keep(kept, await measured(seconds));
  const level = () => database.prepare('SELECT count(*) AS n FROM pool').get().n;
  const before = level();
  const filling = spawn(process.execPath, [join(root, 'dist/programs/main.js'), 'pool', 'fill', '--count', String(before + 2 * seconds)], {
    env: { ...process.env, EKMS_HOME: home },
    stdio: 'ignore',
  });
  await new Promise((resolve) => setTimeout(resolve, 600)); // until the first pair is being made
  keep(refill, await measured(seconds));
  refill.pairs.push(level() - before);
  if (filling.exitCode === null) await new Promise((resolve) => filling.once('exit', resolve));
}
console.log(
  `\nkept deliveries (${Math.round(size)} bytes), per second: ${spread(kept.rates)}; bare node:https (${Math.round(plain.bytes)} bytes): ${spread(plain.rates)}`,
);
console.log(
  `  latency in ms: p50 ${spread(kept.p50, 1)}, p99 ${spread(kept.p99, 1)} (bare p99 ${spread(plain.p99, 1)}); CPU in ms per reply: ${cpuWords(kept)}`,
);
verdict('kept deliveries / bare node:https', median(ratios(kept.rates, plain.rates)), 0.4);
verdict(`p99 in ms with ${clients} clients`, median(kept.p99), 60, median(kept.p99) <= 60, 1);
console.log(
  `\nwhile the pool refills (${spread(refill.pairs)} pairs arrived meanwhile), per second: ${spread(refill.rates)}; p50 ${spread(refill.p50, 1)}, p99 ${spread(refill.p99, 1)}`,
);
const slower = median(ratios(refill.p99, kept.p99));
verdict('p99 while the pool refills / without', slower, 2, slower <= 2);

await load.stop();
await bareLoad.stop();
await bare.stop();
await server.stop();
const entries = deliverEntries() - entriesBefore;
console.log(`\n${entries === replies ? 'reached' : 'MISSED '}  audit: ${entries} entries "key.deliver" for ${replies} replies`);
database.close();

async function measured(forSeconds) {
  const before = server.cpu();
  const result = await load.run(clients, forSeconds);
  const other = Object.entries(result.statuses).filter(([status]) => status !== '200');
  if (other.length > 0) throw new Error(`the appliance answered ${JSON.stringify(result.statuses)}`);
  replies += result.count;
  return { ...result, serverCpu: server.cpu().map((now, n) => now - before[n]) };
}

function keep(into, { rate, latencies, serverCpu, cpu, count }) {
  into.rates.push(rate);
  into.p50.push(quantile(latencies, 0.5));
  into.p99.push(quantile(latencies, 0.99));
  into.cpu.push([...serverCpu, cpu].map((used) => (used / count) * 1000));
}

function cpuWords({ cpu }) {
  const of = (n) => median(cpu.map((round) => round[n])).toFixed(2);
  return `API ${of(0)}, token process ${of(1)}, load ${of(2)}`;
}

function deliverEntries() {
  return database.prepare("SELECT count(*) AS n FROM audit_entries WHERE action = 'key.deliver' AND outcome = 'done'").get().n;
}
