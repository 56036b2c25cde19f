// What an attack by slow clients (slowhttptest: a thousand connections that never finish their header) costs whoever else asks: the latency of good
// requests, each over a connection of its own from another address, with and without the attack, turn by turn in one run of one appliance; one ratio of
// the ninety-ninth percentiles a round, and the median of all rounds. slowhttptest itself runs on the same cores.
// Usage: bench/slow-clients.mjs [--rounds N] [--count N] (apt-get install slowhttptest)
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { freePorts } from '../dist/src/demo/programs.js';
import { chance, machine, median, quantile, ratios, spread, verdict } from './support/figures.mjs';
import { configure, preparedHome } from './support/home.mjs';
import { appliance } from './support/processes.mjs';

const { values: given } = parseArgs({ options: { rounds: { type: 'string', default: '9' }, count: { type: 'string', default: '600' } } });
const [rounds, count] = [given.rounds, given.count].map(Number);
if (spawnSync('slowhttptest', ['-h']).error) {
  console.error('slowhttptest is not installed: apt-get install slowhttptest');
  process.exit(1);
}

const { home } = await preparedHome({ people: 64, bits: 2048 });
const [port] = await freePorts(1);
configure(home, { bits: 2048, open: port });
const server = await appliance(home);
console.log(`bench/slow-clients: ${rounds} rounds of ${count} requests each, without and with 1,000 slow connections\n${machine()}\n`);

const p99 = { without: [], under: [] };
await good(count); // to be warm
for (let round = 0; round < rounds; round++)
  for (const kind of round % 2 ? ['under', 'without'] : ['without', 'under']) p99[kind].push(quantile(await measured(kind), 0.99));
await server.stop();

for (const [kind, values] of Object.entries(p99)) console.log(`${kind.padEnd(8)} p99 in ms: ${spread(values, 2)}`);
const costs = ratios(p99.under, p99.without);
const [low, high] = chance(costs);
verdict(`p99 under attack / without, by chance ${low.toFixed(2)} to ${high.toFixed(2)}`, median(costs), 2, median(costs) < 2);

async function measured(kind) {
  if (kind === 'without') return good(count);
  const slow = ['-c', '1000', '-H', '-i', '1', '-r', '1000', '-l', '120', '-u', `http://127.0.0.1:${port}/api/openapi.json`];
  const attack = spawn('slowhttptest', slow, { stdio: 'ignore' });
  const over = once(attack, 'exit');
  await sleep(2_500); // until its connections stand
  const times = await good(count);
  attack.kill('SIGKILL');
  await over;
  await sleep(500);
  return times;
}

/** Milliseconds of each of so many requests, one after another. */
async function good(many) {
  const times = [];
  for (let n = 0; n < many; n++) {
    const began = performance.now();
    await new Promise((resolve, reject) => {
      const asked = request({ host: '127.0.0.1', port, path: '/api/openapi.json', localAddress: '127.0.0.2', agent: false }, (response) =>
        response.resume().once('end', resolve),
      );
      asked.once('error', reject).end();
    });
    times.push(performance.now() - began);
  }
  return times;
}
