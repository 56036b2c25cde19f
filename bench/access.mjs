// What all checks of a request cost: kept deliveries over mutual TLS with the checks on and off, turn by turn in one run of one appliance.
// `none` leaves what cannot be taken away without another program: TLS, the network policy at accept, the route's class, a certificate read once.
// Usage: bench/access.mjs [--rounds N] [--seconds S] [--people N]
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { machine, spread, verdict } from './support/figures.mjs';
import { configure, preparedHome, root } from './support/home.mjs';
import { generator } from './support/processes.mjs';

const { values: given } = parseArgs({
  options: {
    bits: { type: 'string', default: '2048' },
    people: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '100' },
    seconds: { type: 'string', default: '0.3' },
    clients: { type: 'string', default: '16' },
  },
});
const [bits, people, rounds, seconds, clients] = [given.bits, given.people, given.rounds, given.seconds, given.clients].map(Number);

const { home, devices } = await preparedHome({ people, bits });
configure(home, { bits });
const server = fork(join(root, 'bench/servers/toggled.mjs'), { env: { ...process.env, EKMS_HOME: home } });
const ask = async (order) => {
  server.send(order);
  return (await once(server, 'message'))[0];
};
const [{ port }] = await once(server, 'message');
const load = await generator({ port, path: '/v1/keys', ca: readFileSync(join(home, 'ca.pem'), 'utf8'), devices });
console.log(
  `bench/access: kept deliveries, ${people} devices, ${clients} at a time, ${rounds} rounds of ${seconds} s for each kind\n${machine()}\n`,
);

const kinds = ['all', 'no-budgets', 'none'];
const cpu = Object.fromEntries(kinds.map((kind) => [kind, []]));
const rate = Object.fromEntries(kinds.map((kind) => [kind, []]));
// The first deliveries come from the token; each kind once to be warm.
for (const kind of kinds) await measured(kind);
for (let round = 0; round < rounds; round++)
  for (const kind of round % 2 ? kinds : kinds.toReversed()) {
    const { perReply, perSecond } = await measured(kind);
    cpu[kind].push(perReply);
    rate[kind].push(perSecond);
  }
await load.stop();
server.send('end');
await once(server, 'exit');

for (const kind of kinds)
  console.log(`${kind.padEnd(10)}  CPU of the API process in µs per reply: ${spread(cpu[kind])}; per second: ${spread(rate[kind])}`);
// The middle half of the slices: what else the machine did falls on all kinds, but not on all slices.
const middle = (values) => {
  const sorted = values.toSorted((a, b) => a - b).slice(values.length >> 2, -(values.length >> 2));
  return sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
};
const cost = (on, off) => middle(cpu[on]) / middle(cpu[off]) - 1;
console.log('');
const budgets = cost('all', 'no-budgets');
verdict('budgets / request without them', budgets, 0.05, budgets <= 0.05, 3);
const all = cost('all', 'none');
verdict('all checks / request without any', all, 0.05, all <= 0.05, 3);

async function measured(kind) {
  await ask(kind);
  const { count, statuses, rate: perSecond } = await load.run(clients, seconds);
  if (statuses['200'] !== count) throw new Error(`the appliance answered ${JSON.stringify(statuses)}`);
  return { perReply: ((await ask(kind)).cpu / count) * 1e6, perSecond };
}
