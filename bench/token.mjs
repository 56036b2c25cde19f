// Releases through the token process against a C loop of the same PKCS#11 calls on the same token: what the process, its channel, its
// guards and its encodings cost. Usage: see README.md.
import { parseArgs } from 'node:util';
import { cLoop } from './support/c-loop.mjs';
import { machine, median, ratios, spread, verdict } from './support/figures.mjs';
import { askedReleases, preparedHome, tokenProcess } from './support/home.mjs';

const { values: given } = parseArgs({
  options: {
    bits: { type: 'string', default: '3072' },
    people: { type: 'string', default: '256' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
  },
});
const [bits, people, rounds, seconds] = [given.bits, given.people, given.rounds, given.seconds].map(Number);
/** Calls under way at a time: enough that no session waits for the next one. */
const IN_FLIGHT = 8;

const { home, devices } = await preparedHome({ people, bits });
const asks = await askedReleases(home, devices);
const loop = await cLoop(home, asks[0]);

console.log(`bench/token: RSA-${bits}, ${people} keys and devices, ${rounds} rounds of ${seconds} s each way\n${machine()}\n`);
for (const sessions of [1, 2]) {
  const rates = { rewrap: [], release: [], process: [] };
  for (let round = 0; round < rounds; round++) {
    rates.rewrap.push(await loop('rewrap', sessions, seconds));
    rates.process.push(await throughProcess(sessions));
    rates.release.push(await loop('release', sessions, seconds));
  }
  console.log(`${sessions} session${sessions > 1 ? 's' : ''}, releases per second: median (lowest … highest)`);
  console.log(`  C loop, key moved only (unwrap, 2 reads, CEK, import, 2 wraps, 3 destroys)  ${spread(rates.rewrap)}`);
  console.log(`  C loop, with record MAC and delivery signature                             ${spread(rates.release)}`);
  console.log(`  token process (all of that, guards, CMS, JWS, channel)                     ${spread(rates.process)}`);
  verdict(`token process / C loop of the same calls, ${sessions} session(s)`, median(ratios(rates.process, rates.release)), 0.7);
  console.log(`         … / C loop that only moves the key: ${median(ratios(rates.process, rates.rewrap)).toFixed(2)}\n`);
}

/** A token process with that many workers, asked from this process as the API process asks it. */
async function throughProcess(workers) {
  const token = await tokenProcess(home, workers);
  try {
    await run(token, 0.5); // code that has run hot
    return await run(token, seconds);
  } finally {
    await token.stop();
  }
}

async function run(token, forSeconds) {
  const start = performance.now();
  const end = start + forSeconds * 1000;
  let [next, done] = [0, 0];
  const client = async () => {
    while (performance.now() < end) {
      const { key, blob, device } = asks[next++ % asks.length];
      await token.release(key, blob, device);
      done++;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, client));
  return (done / (performance.now() - start)) * 1000;
}
