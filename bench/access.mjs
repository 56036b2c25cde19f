// What all checks of a request cost: kept deliveries over mutual TLS with the checks on and off, turn by turn in one run of one appliance.
// `none` leaves what cannot be taken away without another program: TLS, the network policy at accept, the route's class, a certificate read once.
// The measure is CPU time of the appliance's process, not the clock's: slices of so many replies, short enough that what else the machine does
// falls on neighbours alike, each kind beside each other in turn, one ratio per round, the median of all rounds and where it would lie by chance.
// Then the same for a device that is seldom there: each reply on a connection of its own, no request charged ahead, in slices a quarter as long.
// Usage: bench/access.mjs [--rounds N] [--replies N] [--people N] [--profile DIR: a CPU profile of the appliance with its checks on, instead]
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chance, machine, median, ratios, spread, verdict } from './support/figures.mjs';
import { configure, preparedHome, root } from './support/home.mjs';
import { generator } from './support/processes.mjs';

const { values: given } = parseArgs({
  options: {
    bits: { type: 'string', default: '2048' },
    people: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '1500' },
    replies: { type: 'string', default: '256' },
    clients: { type: 'string', default: '16' },
    profile: { type: 'string' },
  },
});
const [bits, people, rounds, replies, clients] = [given.bits, given.people, given.rounds, given.replies, given.clients].map(Number);

const { home, devices } = await preparedHome({ people, bits });
configure(home, { bits });
const execArgv = given.profile ? ['--cpu-prof', `--cpu-prof-dir=${given.profile}`] : [];
const server = fork(join(root, 'bench/servers/toggled.mjs'), { execArgv, env: { ...process.env, EKMS_HOME: home } });
const ask = async (order) => {
  server.send(order);
  return (await once(server, 'message'))[0];
};
const [{ port }] = await once(server, 'message');
const load = await generator({ port, path: '/v1/keys', ca: readFileSync(join(home, 'ca.pem'), 'utf8'), devices });
console.log(
  `bench/access: kept deliveries, ${people} devices, ${clients} at a time, ${rounds} rounds of ${replies} replies for each kind\n${machine()}\n`,
);

if (given.profile) for (let round = 0; round < rounds; round++) await measured('all', replies, false);
else {
  compare('kept connections', await turnByTurn(['all', 'no-budgets', 'none'], rounds, replies, false), [
    ['budgets / request without them', 'all', 'no-budgets'],
    ['all checks / request without any', 'all', 'none'],
  ]);
  compare(
    'connections of their own, each request charged',
    await turnByTurn(['charged', 'none'], Math.ceil(rounds / 8), replies / 4, true),
    [['all checks / request without any', 'charged', 'none']],
  );
}
await load.stop();
server.send('end');
await once(server, 'exit');

/** By kind, the CPU of each of its slices: each kind beside each other in turn, once it is warm (the first deliveries come from the token). */
async function turnByTurn(kinds, rounds, replies, isNew) {
  const cpu = Object.fromEntries(kinds.map((kind) => [kind, []]));
  for (const kind of kinds) for (let n = 0; n < 10; n++) await measured(kind, replies, isNew);
  for (let round = 0; round < rounds; round++) {
    const turn = round % kinds.length;
    const order = [...kinds.slice(turn), ...kinds.slice(0, turn)];
    for (const kind of round % 2 ? order : order.toReversed()) cpu[kind].push(await measured(kind, replies, isNew));
  }
  return cpu;
}

function compare(title, cpu, pairs) {
  console.log(title);
  for (const [kind, slices] of Object.entries(cpu))
    console.log(`${kind.padEnd(10)}  CPU of the API process in µs per reply: ${spread(slices)}`);
  for (const [what, on, off] of pairs) {
    const costs = ratios(cpu[on], cpu[off]).map((ratio) => ratio - 1);
    const [low, high] = chance(costs);
    verdict(`${what}, by chance ${low.toFixed(3)} to ${high.toFixed(3)}`, median(costs), 0.05, median(costs) <= 0.05, 3);
  }
  console.log('');
}

/** Microseconds of CPU per reply. */
async function measured(kind, replies, isNew) {
  await ask(kind);
  const { count, statuses } = await load.run(clients, undefined, replies, isNew);
  if (statuses['200'] !== count) throw new Error(`the appliance answered ${JSON.stringify(statuses)}`);
  return ((await ask(kind)).cpu / count) * 1e6;
}
