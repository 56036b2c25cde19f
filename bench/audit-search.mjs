// First pages of a search in a log of many entries, by every criterion, on SQLite and, where EKMS_TEST_POSTGRES names a throw-away cluster, on PostgreSQL.
// Rows are synthesised: entries and values lie as the product lays them, leaves are no hashes; the product's own thread gathers the postings, and its own
// search is measured: every kind of question must have its first page in time, each with the youngest entries not in the index yet.
// Usage: bench/audit-search.mjs [--entries N] [--rounds N] [--young N: entries that the index has not seen]; PostgreSQL: pg_virtualenv -t sh -c
// 'EKMS_TEST_POSTGRES="postgres://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/postgres" node_modules/.bin/node bench/audit-search.mjs'. A million entries: some minutes each.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { AuditSearch, DurableAuditLog, SearchIndex, SearchThread, searchQuestion } from '../dist/src/audit/index.js';
import { newId, SystemClock } from '../dist/src/foundation/index.js';
import { openStorage } from '../dist/src/storage/index.js';
import { machine, quantile, verdict } from './support/figures.mjs';

const { values: given } = parseArgs({
  options: {
    entries: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '200' },
    young: { type: 'string', default: '511' },
  },
});
const [count, rounds, young] = [given.entries, given.rounds, given.young].map(Number);
const WANTED = 100;
const DAY = 86_400_000;
const start = Date.parse('2026-01-01T00:00:00Z');
const any = (list) => list[Math.floor(Math.random() * list.length)];

const people = Array.from({ length: 5_000 }, (_, n) => ({
  id: newId(),
  key: newId(),
  address: `p${n}@corp.example`,
  devices: [newId(), newId()],
}));
const networks = Array.from({ length: 4_000 }, (_, n) => `10.${n >> 8}.${n & 255}.7`);

console.log(`bench/audit-search: first pages of 50 in a log of ${count} entries\n${machine()}\n`);
const home = mkdtempSync(join(tmpdir(), 'ekms-bench-search-'));
try {
  await measure('SQLite', { url: 'sqlite:ekms.db', home });
} finally {
  rmSync(home, { recursive: true, force: true });
}
const cluster = process.env.EKMS_TEST_POSTGRES;
if (cluster) {
  const name = `ekms_bench_${randomBytes(4).toString('hex')}`;
  const ask = async (sql, url = cluster) => {
    const client = new pg.Client(url);
    await client.connect();
    return await client.query(sql).finally(() => client.end());
  };
  await ask(`CREATE DATABASE ${name}`);
  try {
    const url = new URL(cluster);
    url.pathname = `/${name}`;
    await measure('PostgreSQL', { url: url.href, home: tmpdir() }, () => settle((sql) => ask(sql, url.href)));
  } finally {
    await ask(`DROP DATABASE ${name} WITH (FORCE)`);
  }
} else console.log('PostgreSQL: not measured, EKMS_TEST_POSTGRES is not set');

/**
 * A log grows to this over years; here it was written within minutes, and the server is still at work behind it: checkpoints, and autovacuum's first
 * look at the tables. That is the loading's cost, not a search's, so it is done to its end before anything is measured.
 */
async function settle(ask) {
  const began = performance.now();
  await ask('VACUUM (ANALYZE)');
  await ask('CHECKPOINT');
  const busy = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'";
  while ((await ask(busy)).rowCount > 0) await new Promise((resolve) => setTimeout(resolve, 200));
  console.log(
    `PostgreSQL: vacuum, analyze and checkpoint of what was loaded: ${((performance.now() - began) / 1000).toFixed(1)} s, before the searches`,
  );
}

async function measure(kind, settings, settled = async () => undefined) {
  const storage = await openStorage(settings);
  try {
    let began = performance.now();
    await fill(storage, 0, count - young);
    console.log(`${kind}: ${count - young} entries made in ${((performance.now() - began) / 1000).toFixed(0)} s`);
    const index = new SearchIndex(
      storage,
      new SearchThread(join(import.meta.dirname, '../dist/programs/audit/search-worker.js'), settings),
    );
    began = performance.now();
    const before = process.threadCpuUsage();
    await index.catchUp();
    await index.stop();
    const spent = performance.now() - began;
    const { user, system } = process.threadCpuUsage(before);
    const here = (user + system) / 1000;
    const each = (ms) => ((ms * 1000) / (count - young)).toFixed(1);
    console.log(
      `${kind}: postings of them in ${(spent / 1000).toFixed(1)} s, ${each(spent)} µs each, of which ${each(here)} µs of CPU in the thread that answers devices`,
    );
    await fill(storage, count - young, count);
    await settled();
    const search = new AuditSearch(storage, new DurableAuditLog(new SystemClock()), index);
    const questions = {
      nothing: () => ({}),
      person: () => ({ person: any(people).address }),
      employee: () => ({ person: any(people).id }),
      key: () => ({ key: any(people).key }),
      device: () => ({ device: any(any(people).devices) }),
      action: () => ({ action: any(['key.deliver', 'mail.send', 'binding.begin', 'key.decrypt']) }),
      outcome: () => ({ outcome: any(['refused', 'done']) }),
      address: () => ({ address: any(networks) }),
      time: () => {
        const from = start + Math.random() * 300 * DAY;
        return { from: new Date(from).toISOString(), to: new Date(from + DAY).toISOString() };
      },
      'all at once': () => {
        const who = any(people);
        return {
          person: who.address,
          key: who.key,
          device: any(who.devices),
          action: 'key.deliver',
          outcome: 'done',
          address: any(networks),
        };
      },
      'two that never meet': () => ({ action: 'binding.begin', outcome: 'refused' }),
    };
    // In turns, so that what else the machine does meanwhile falls on every kind alike.
    const seen = Object.fromEntries(Object.keys(questions).map((name) => [name, { spans: [], cpu: [], found: 0 }]));
    for (let n = 0; n < rounds; n += 1)
      for (const [name, question] of Object.entries(questions)) {
        const { filter } = searchQuestion.parse(question());
        const [from, used] = [performance.now(), process.threadCpuUsage()];
        seen[name].found += (await search.look(filter, { count: 50 })).entries.length;
        seen[name].spans.push(performance.now() - from);
        const { user, system } = process.threadCpuUsage(used);
        seen[name].cpu.push((user + system) / 1000);
      }
    let slowest = 0;
    for (const [name, { spans, cpu, found }] of Object.entries(seen)) {
      const p99 = quantile(spans, 0.99);
      slowest = Math.max(slowest, p99);
      console.log(
        `  ${name.padEnd(20)} p50 ${quantile(spans, 0.5).toFixed(1).padStart(6)} ms, p99 ${p99.toFixed(1).padStart(6)} ms (of CPU here p50 ${quantile(cpu, 0.5).toFixed(1).padStart(4)}, p99 ${quantile(cpu, 0.99).toFixed(1).padStart(5)}), ${(found / rounds).toFixed(1)} entries a page`,
      );
    }
    verdict(`${kind}: p99 of a first page of the slowest kind, in ms`, slowest, `at most ${WANTED}`, slowest <= WANTED, 1);
  } finally {
    await storage.close();
  }
}

async function fill(storage, from, to) {
  for (let at = 0; from === 0 && at < people.length; at += 250)
    await storage.write(async (unit) => {
      for (const { id, key, devices } of people.slice(at, at + 250)) {
        await unit.run("INSERT INTO employees (id, state, created) VALUES (?, 'active', 1)", [id]);
        await unit.run(
          `INSERT INTO keys (id, version, employee, suite, bits, state, mode, kek, public_key_digest, public_key, wrapped, mac, created)
         VALUES (?, 1, ?, 'rsa', 3072, 'active', 'deliver', 'k', ?, ?, ?, ?, 1)`,
          [key, id, Buffer.from(key), Buffer.alloc(1), Buffer.alloc(1), Buffer.alloc(1)],
        );
        for (const device of devices)
          await unit.run(
            `INSERT INTO devices (id, employee, certificate_digest, serial, delivery_key, delivery_digest, identity_jkt, platform, app, state, enrolled)
           VALUES (?, ?, ?, 's', ?, ?, ?, 'linux', 'a', 'active', 1)`,
            [device, id, Buffer.from(device), Buffer.alloc(1), Buffer.from(device), device],
          );
      }
    });
  const step = 100;
  for (let at = from; at < to; at += step) {
    const rows = Array.from({ length: Math.min(step, to - at) }, (_, n) => row(at + n));
    await storage.write(async (unit) => {
      const columns = '(idx, leaf, body, time, action, outcome, key, device, employee)';
      await insert(
        unit,
        `audit_entries ${columns}`,
        rows.map(({ entry }) => entry),
      );
      await insert(
        unit,
        'audit_values (idx, name, salt, value)',
        rows.flatMap(({ values }) => values),
      );
    });
  }
}

/** Rows of one statement: a round trip for each would take hours. */
function insert(unit, table, rows) {
  const places = rows.map((one) => `(${one.map(() => '?').join(', ')})`).join(', ');
  return unit.run(`INSERT INTO ${table} VALUES ${places}`, rows.flat());
}

function row(index) {
  const time = start + Math.floor((index / count) * 320 * DAY);
  const dice = Math.random();
  const who = index < people.length ? people[index] : any(people);
  const base = { index: String(index), time: new Date(time).toISOString(), v: 1 };
  const used = { employee: who.id, device: any(who.devices), key: who.key };
  const network = any(networks);
  const [body, values] =
    index < people.length
      ? [{ action: 'binding.begin', outcome: 'done', actor: { kind: 'system' }, employee: who.id }, { address: who.address }]
      : dice < 0.75
        ? [
            {
              action: 'key.deliver',
              outcome: 'done',
              actor: { kind: 'device', id: used.device },
              ...used,
              use: '1',
              facts: { kept: true },
            },
            { network },
          ]
        : dice < 0.9
          ? [{ action: 'mail.send', outcome: 'done', actor: { kind: 'system' }, facts: { kind: 'challenge' } }, { recipient: who.address }]
          : dice < 0.95
            ? [{ action: 'device.admit', outcome: 'refused', reason: 'device-unknown', actor: { kind: 'stranger' } }, { network }]
            : [{ action: 'key.decrypt', outcome: 'done', actor: { kind: 'device', id: used.device }, ...used, use: '1' }, { network }];
  const json = JSON.stringify({ ...base, ...body });
  return {
    entry: [index, Buffer.alloc(32), json, time, body.action, body.outcome, body.key ?? null, body.device ?? null, body.employee ?? null],
    values: Object.entries(values).map(([name, value]) => [index, name, Buffer.alloc(32), value]),
  };
}
