// What the log costs: appends against raw fdatasync, many writers against one, proofs, offline verification and start-up of a long log against a short one.
// Everything on one file system, in one run: `node_modules/.bin/node bench/audit.mjs [--folder DIR] [--rounds N] [--seconds S] [--long N]`, on a built checkout.
import { generateKeyPairSync, hash, randomInt, sign } from 'node:crypto';
import { closeSync, existsSync, fdatasyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { Checkpoints } from '../dist/src/audit/checkpoints.js';
import { DurableAuditLog } from '../dist/src/audit/durable-audit-log.js';
import { LogTree } from '../dist/src/audit/log-tree.js';
import { LogStanding } from '../dist/src/audit/standing.js';
import { TileReader } from '../dist/src/audit/tile-reader.js';
import { verifyExport } from '../dist/src/codec/audit-log/index.js';
import {
  bundlePath,
  checkpointText,
  decodeBundle,
  Frontier,
  hashLeaf,
  keyId,
  signatureLine,
  tilePath,
  tilesOf,
  verifyByWebCrypto,
} from '../dist/src/codec/merkle/index.js';
import { SystemClock } from '../dist/src/foundation/index.js';
import { openStorage } from '../dist/src/storage/index.js';
import { machine, median, ratios, spread, verdict } from './support/figures.mjs';

const { values: given } = parseArgs({
  options: {
    folder: { type: 'string', default: join(tmpdir(), 'ekms-bench') },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '2' },
    short: { type: 'string', default: '10000' },
    long: { type: 'string', default: '1000000' },
  },
});
const [rounds, seconds, short, long] = [given.rounds, given.seconds, given.short, given.long].map(Number);
const ORIGIN = 'bench.example/v1/audit';
const clock = new SystemClock();
const sha256 = (bytes) => hash('sha256', bytes, 'buffer');
const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const noteKey = { name: ORIGIN, type: 'ed25519', publicKey: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32) };
const event = (n) => ({
  action: 'key.deliver',
  outcome: 'done',
  actor: { kind: 'device', id: `0f8fad5b-d9cb-469f-a165-${String(n % 5_000).padStart(12, '0')}` },
  device: `0f8fad5b-d9cb-469f-a165-${String(n % 5_000).padStart(12, '0')}`,
  employee: `7c9e6679-7425-40de-944b-${String(n % 4_000).padStart(12, '0')}`,
  subject: '16fd2706-8baf-433b-82eb-8c7fada847da',
  request: '6fa459ea-ee8a-3ca4-894e-db77e160355e',
  facts: { kept: true },
});

mkdirSync(given.folder, { recursive: true });
const scratch = mkdtempSync(join(given.folder, 'audit-'));
console.log(
  `bench/audit: ${rounds} rounds of ${seconds} s each way, logs of ${short} and ${long} entries, in ${given.folder}\n${machine()}\n`,
);
try {
  await appends();
  const logs = { short: await logOf(short), long: await logOf(long) };
  await proofs(logs);
  await starts(logs);
  await verification(logs.long);
  for (const { storage } of Object.values(logs)) await storage.close();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

async function appends() {
  const home = mkdtempSync(join(scratch, 'appends-'));
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  const log = new DurableAuditLog(clock);
  const append = (n) => storage.write((unit) => log.append(unit, event(n)));
  const body = Buffer.from(`${JSON.stringify(event(1)).padEnd(500)}\n`);
  const file = openSync(join(home, 'raw'), 'a');
  const db = new Database(join(home, 'raw.db'));
  for (const pragma of ['page_size = 8192', 'journal_mode = WAL', 'synchronous = FULL']) db.pragma(pragma);
  db.exec('CREATE TABLE lines (n INTEGER PRIMARY KEY, line TEXT)');
  const insert = db.prepare('INSERT INTO lines (line) VALUES (?)');
  const rates = { raw: [], commit: [], one: [], many: [] };
  const text = body.toString();
  const raw = () => {
    writeSync(file, body);
    fdatasyncSync(file);
  };
  await during(0.5, 128, append);
  for (let round = 0; round < rounds; round += 1) {
    rates.raw.push(await during(seconds, 1, raw));
    rates.one.push(await during(seconds, 1, append));
    rates.commit.push(await during(seconds, 1, () => void insert.run(text)));
    rates.many.push(await during(seconds, 128, append));
  }
  closeSync(file);
  db.close();
  await storage.close();
  console.log('appends per second: median (lowest … highest)');
  console.log(`  raw: write and fdatasync of 500 bytes          ${spread(rates.raw)}`);
  console.log(`  SQLite alone: one row of 500 bytes, one COMMIT ${spread(rates.commit)}`);
  console.log(`  the log, one writer                            ${spread(rates.one)}`);
  console.log(`  the log, 128 writers                           ${spread(rates.many)}`);
  verdict('one writer / raw fdatasync appends', median(ratios(rates.one, rates.raw)), 0.7);
  console.log(
    `         … / SQLite's own commit of one row: ${median(ratios(rates.one, rates.commit)).toFixed(2)}; SQLite's own commit / raw: ${median(ratios(rates.commit, rates.raw)).toFixed(2)}`,
  );
  verdict('128 writers / one writer', median(ratios(rates.many, rates.one)), 10);
  console.log();
}

/** Calls per second of `work`, by so many at a time. */
async function during(forSeconds, writers, work) {
  const start = performance.now();
  const end = start + forSeconds * 1_000;
  let done = 0;
  const writer = async () => {
    while (performance.now() < end) {
      await work(done);
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: writers }, writer));
  return done / ((performance.now() - start) / 1_000);
}

/** A log of so many entries, its tree grown and signed. */
async function logOf(size) {
  const home = join(scratch, `log-${size}`);
  if (!existsSync(home)) mkdirSync(home);
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  const log = new DurableAuditLog(clock);
  const began = performance.now();
  for (let done = 0; done < size; )
    await storage.write(async (unit) => {
      for (let n = 0; n < 2_000 && done < size; n += 1, done += 1) await log.append(unit, event(done));
    });
  const tree = new LogTree(storage);
  await tree.grow();
  process.stderr.write(`a log of ${size} entries was made in ${Math.round((performance.now() - began) / 1_000)} s\n`);
  await publish(storage, tree);
  return { home, size, storage, tree, tiles: new TileReader(storage) };
}

async function publish(storage, tree, standing = new LogStanding()) {
  await new Checkpoints({ tree, tiles: new TileReader(storage), token: signer(tree), standing, clock, origin: ORIGIN }).publish();
  if (standing.breach) throw new Error(standing.breach.words);
}

/** As the token process has it: the last head, and a signature over the next. */
function signer(tree) {
  return {
    auditHead: async () => {
      const { note, signed } = await tree.state();
      return note === null ? null : { origin: ORIGIN, size: signed, root: note.split('\n')[2] };
    },
    signHead: async ({ to }) => {
      const text = checkpointText({ ...to, root: Buffer.from(to.root, 'base64') });
      const signature = sign(null, Buffer.from(text), privateKey);
      return `${text}\n${signatureLine({ name: ORIGIN, keyId: keyId(sha256, noteKey), signature })}`;
    },
  };
}

async function proofs({ short: few, long: many }) {
  const times = { few: [], many: [] };
  const timed = async ({ tiles, size }) => {
    const began = performance.now();
    for (let n = 0; n < 500; n += 1) await tiles.inclusion(randomInt(size), size);
    return (performance.now() - began) / 500;
  };
  await timed(few);
  await timed(many);
  for (let round = 0; round < rounds; round += 1) {
    times.few.push(await timed(few));
    times.many.push(await timed(many));
  }
  console.log(`inclusion proof, ms: ${spread(times.few, 3)} of ${few.size}; ${spread(times.many, 3)} of ${many.size}`);
  const ratio = median(ratios(times.many, times.few));
  verdict(`proof at ${many.size} / at ${few.size}`, ratio, 1.5, ratio <= 1.5);
  console.log();
}

/** Opens the database, appends the first entry, and has the head signed: what the log itself does at a start. */
async function starts({ short: few, long: many }) {
  const times = { few: [], many: [] };
  const timed = async ({ home, storage: open }) => {
    void open; // stays open, so that closing does not count
    const began = performance.now();
    const storage = await openStorage({ url: 'sqlite:ekms.db', home });
    const log = new DurableAuditLog(clock);
    await storage.write((unit) => log.append(unit, event(1)));
    await publish(storage, new LogTree(storage));
    const took = performance.now() - began;
    await storage.close();
    return took;
  };
  await timed(few);
  await timed(many);
  for (let round = 0; round < Math.max(9, rounds); round += 1) {
    times.few.push(await timed(few));
    times.many.push(await timed(many));
  }
  console.log(`start of the log, ms: ${spread(times.few, 1)} with ${few.size}; ${spread(times.many, 1)} with ${many.size}`);
  const ratio = median(ratios(times.many, times.few));
  verdict(`start-up with ${many.size} / with ${few.size}`, ratio, 2, ratio <= 2);
  console.log();
}

async function verification({ tiles, tree }) {
  const { note, signed } = await tree.state();
  const files = new Map([['checkpoint', Buffer.from(note)]]);
  const entries = [];
  for (const tile of tilesOf(signed)) {
    files.set(tilePath(tile), await tiles.tile(tile));
    if (tile.level > 0) continue;
    const bundle = await tiles.bundle(tile);
    files.set(bundlePath(tile), bundle);
    entries.push(...decodeBundle(bundle).entries); // the bundle's own bytes: a million entries are held once
  }
  const source = { read: async (path) => files.get(path), paths: async () => [...files.keys()] };
  const rates = { raw: [], verified: [] };
  for (let round = 0; round < Math.min(rounds, 3); round += 1) {
    let began = performance.now();
    const frontier = new Frontier(sha256);
    for (const entry of entries) frontier.append(hashLeaf(sha256, entry));
    frontier.root();
    rates.raw.push(entries.length / ((performance.now() - began) / 1_000));
    began = performance.now();
    const { damages } = await verifyExport(source, { sha256, verify: verifyByWebCrypto, key: noteKey });
    rates.verified.push(entries.length / ((performance.now() - began) / 1_000));
    if (damages.length > 0) throw new Error(JSON.stringify(damages[0]));
  }
  console.log(
    `entries per second: ${spread(rates.verified)} verified; ${spread(rates.raw)} hashed into a tree (one leaf and one node hash each)`,
  );
  verdict(`offline verification of ${entries.length} / raw Merkle hashing`, median(ratios(rates.verified, rates.raw)), 0.4);
}
