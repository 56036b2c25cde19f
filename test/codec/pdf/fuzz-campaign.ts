import { setImmediate as turn } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { richPdf } from '../../support/rich-pdf.js';
import { encrypted, vector } from './documents.js';
import { dice, mutated, tried } from './fuzz.js';

/** What mutations start from: tables and streams of cross-references, encrypted and plain, ours and others'. */
export async function originals(): Promise<Buffer[]> {
  const [packed, plain] = [await richPdf(), await richPdf({ objectStreams: false })];
  return [
    packed,
    plain,
    encrypted(plain).bytes,
    vector('pyhanko/minimal-pubkey-aes256.pdf'),
    vector('pyhanko/minimal-two-fields-pubkey-aes256.pdf'),
  ];
}

/** Bytes that are held after a collection. */
function held(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Seconds that one document may take by the clock before the whole run is ended: what never ends could not be counted. */
const STUCK = 60;

/** A thread that ends this process, and says at which mutation, when `current` has not moved for too long: a loop without an end lets nothing else here run. */
function watched(seed: number): { current: Int32Array; stop: () => Promise<number> } {
  const current = new Int32Array(new SharedArrayBuffer(4));
  const watchdog = new Worker(
    `const { workerData: { current, seed, stuck } } = require('node:worker_threads');
    let [last, since] = [-1, Date.now()];
    setInterval(() => {
      const now = Atomics.load(current, 0);
      if (now !== last) [last, since] = [now, Date.now()];
      else if (Date.now() - since > stuck * 1000) {
        require('node:fs').writeSync(2, 'pdf-fuzz: mutation ' + now + ' of seed ' + seed + ' does not end\\n');
        process.kill(process.pid, 'SIGABRT');
      }
    }, 1000);`,
    { eval: true, workerData: { current, seed, stuck: STUCK } },
  );
  return { current, stop: () => watchdog.terminate() };
}

export interface Campaign {
  outcomes: Record<string, number>;
  defects: string[];
  slowest: number;
  /** MB more that are held after a collection, from a tenth of the way on. */
  grown: number;
}

export async function pdfFuzz(seed: number, count: number): Promise<Campaign> {
  const roll = dice(seed);
  const from = await originals();
  const told: Campaign = { outcomes: {}, defects: [], slowest: 0, grown: 0 };
  const { current, stop } = watched(seed);
  let early = 0;
  for (let index = 0; index < count; index++) {
    Atomics.store(current, 0, index);
    const bytes = mutated(from[index % from.length] ?? Buffer.alloc(0), roll);
    const { outcome, milliseconds } = tried(bytes);
    const name = outcome.startsWith('DEFECT') ? 'DEFECT' : outcome;
    told.outcomes[name] = (told.outcomes[name] ?? 0) + 1;
    if (name === 'DEFECT') told.defects.push(`mutation ${index}: ${outcome}`);
    told.slowest = Math.max(told.slowest, milliseconds);
    // Ciphers are given back between turns.
    if (index % 50 === 0) await turn();
    if (index === Math.floor(count / 10)) early = held();
  }
  await stop();
  await turn();
  told.grown = (held() - early) / 2 ** 20;
  return told;
}

export async function main(): Promise<void> {
  const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '20000' } } });
  const told = await pdfFuzz(Number(values.seed), Number(values.count));
  console.log(told.outcomes);
  console.log(`slowest ${told.slowest.toFixed(0)} ms, memory ${told.grown.toFixed(0)} MB`);
  for (const defect of told.defects.slice(0, 20)) console.log(defect);
  if (told.defects.length > 0 || told.slowest > 1000) process.exitCode = 1;
}
