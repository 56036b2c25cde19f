// Enrolment with a warm pool, 8 clients at a time: server time of the request and of the answer, the token and the durable commit included,
// the network left out. Then retrievals with 10,000 and with many stored keys. Usage: see README.md.
import { randomBytes, randomUUID } from 'node:crypto';
import { cpSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { machine, median, quantile, ratios, spread, verdict } from './support/figures.mjs';
import { configure, deliveryKeys, enrol, inHouse, preparedHome } from './support/home.mjs';
import { appliance, generator } from './support/processes.mjs';

const { values: given } = parseArgs({
  options: {
    enrolments: { type: 'string', default: '128' },
    /** Enrolments before the measured ones, which find code that is compiled and caches that are filled. */
    warm: { type: 'string', default: '64' },
    clients: { type: 'string', default: '8' },
    people: { type: 'string', default: '256' },
    /** 0: the enrolments alone. */
    keys: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
  },
});
const [enrolments, warm, clients, people, many, rounds, seconds] = [
  given.enrolments,
  given.warm,
  given.clients,
  given.people,
  given.keys,
  given.rounds,
  given.seconds,
].map(Number);
const FEW = 10_000;

const { home, devices } = await preparedHome({ people });
const folder = join(tmpdir(), 'ekms-bench', 'enrolment');
console.log(`bench/enrolment: RSA-3072, ${enrolments} enrolments after ${warm} to warm up, ${clients} at a time\n${machine()}\n`);
await enrolmentTimes(copyOf('times'));
if (many > 0) await rateByKeys(copyOf('few'), copyOf('many'));
rmSync(folder, { recursive: true });

function copyOf(name) {
  const copy = join(folder, name);
  rmSync(copy, { recursive: true, force: true });
  cpSync(home, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
  configure(copy, {});
  return copy;
}

async function enrolmentTimes(copy) {
  const times = { request: [], answer: [], both: [] };
  await inHouse(copy, async (house, transport) => {
    const app = await house.apps.issue('linux', { kind: 'operator' });
    await house.pool.fill(warm + enrolments);
    house.mail.start();
    const keys = deliveryKeys(warm + enrolments);
    const one = async (n) => {
      const took = { request: 0, answer: 0 };
      await enrol(house, app.id, transport.accepted, `fresh${n}@bench.example`, keys[n], took);
      if (n < warm) return;
      times.request.push(took.request);
      times.answer.push(took.answer);
      times.both.push(took.request + took.answer);
    };
    let next = 0;
    const client = async () => {
      while (next < warm + enrolments) await one(next++);
    };
    await Promise.all(Array.from({ length: clients }, client));
  });
  for (const [name, of] of Object.entries(times))
    console.log(
      `${name.padEnd(8)} ms: p50 ${quantile(of, 0.5).toFixed(1)}, p99 ${quantile(of, 0.99).toFixed(1)}, most ${Math.max(...of).toFixed(1)}`,
    );
  verdict('server time of an enrolment, p50 in ms', quantile(times.both, 0.5), 25, quantile(times.both, 0.5) <= 25, 1);
  verdict('server time of an enrolment, p99 in ms', quantile(times.both, 0.99), 100, quantile(times.both, 0.99) <= 100, 1);
}

async function rateByKeys(few, lots) {
  for (const [copy, count] of [
    [few, FEW],
    [lots, many],
  ])
    synthesise(copy, count);
  const rates = { few: [], many: [] };
  for (let round = 0; round < rounds; round++)
    for (const [name, copy] of [
      ['few', few],
      ['many', lots],
    ])
      rates[name].push(await keptRate(copy));
  console.log(`\nkept deliveries per second with ${FEW} keys: ${spread(rates.few)}; with ${many}: ${spread(rates.many)}`);
  verdict(`rate with ${many} keys / with ${FEW}`, median(ratios(rates.many, rates.few)), 0.8);
}

async function keptRate(copy) {
  const server = await appliance(copy);
  const load = await generator({ port: server.port, path: '/v1/keys', ca: readFileSync(join(copy, 'ca.pem'), 'utf8'), devices });
  await load.run(32); // each device once: connections stand, deliveries are kept
  const { rate } = await load.run(32, seconds);
  await load.stop();
  await server.stop();
  return rate;
}

/** Rows as real ones look, of people who never come: random bytes where keys and certificates would be. */
function synthesise(copy, count) {
  const database = new Database(join(copy, 'ekms.db'));
  database.pragma('synchronous = OFF');
  const wrapped = randomBytes(1808);
  const certificate = randomBytes(900);
  const publicKey = randomBytes(422);
  const insert = {
    employee: database.prepare("INSERT INTO employees (id, state, created) VALUES (?, 'active', 1)"),
    key: database.prepare(
      "INSERT INTO keys (id, version, employee, suite, bits, state, mode, kek, public_key_digest, public_key, wrapped, mac, created) VALUES (?, 1, ?, 'rsa', 3072, 'active', 'deliver', '1', ?, ?, ?, ?, 1)",
    ),
    certificate: database.prepare(
      "INSERT INTO certificates (serial, authority, profile, subject_key, employee, address, der, not_before, not_after) VALUES (?, 'people', 'person', ?, ?, ?, ?, 1, 2)",
    ),
    use: database.prepare('INSERT INTO key_uses (key, uses, last_leaf) VALUES (?, 1, ?)'),
  };
  const there = database.prepare('SELECT count(*) AS n FROM keys').get().n;
  database.transaction(() => {
    for (let n = there; n < count; n++) {
      const [employee, key, digest] = [randomUUID(), randomUUID(), randomBytes(32)];
      insert.employee.run(employee);
      insert.key.run(key, employee, digest, publicKey, wrapped, digest);
      insert.certificate.run(randomBytes(16).toString('hex'), key, employee, `person-${n}@bench.example`, certificate);
      insert.use.run(key, digest);
    }
  })();
  database.pragma('wal_checkpoint(TRUNCATE)');
  database.close();
}
