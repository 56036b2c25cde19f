// Wraps `--count N` keys under a new KEK while devices ask for theirs, kills the appliance `--kills K` times in it at moments that `--seed S` chooses, and opens every key afterwards. Says how
// many kills fired, what was asked and refused, and p99 against what it is before and after. Exit status 0 only if every kill fired, nothing was refused and every key opens. The ratio
// of times is said, not judged: a loaded machine is no fault of the rotation.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { copyHome, preparedHome } from '../../bench/support/home.mjs';
import { openAll, synthesise } from '../../bench/support/many-keys.mjs';
import { rotateUnderRetrievals } from '../../bench/support/rotation.mjs';
import '../support/typescript.mjs';

const { dice } = await import('../faults/dice.ts');
const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '10000' },
    kills: { type: 'string', default: '5' },
  },
});
const [seed, count, kills] = [values.seed, values.count, values.kills].map(Number);
const BITS = 2048;
const CLIENTS = 4;

const folder = mkdtempSync(join(tmpdir(), 'ekms-rotation-campaign-'));
try {
  const home = join(folder, 'home');
  const prepared = await preparedHome({ people: 32, bits: BITS, custodians: true });
  copyHome(prepared.home, home, { bits: BITS });
  await synthesise(home, { real: count, count, bits: BITS });
  const roll = dice(seed);
  const at = () => (1 + roll(1_000)) / 1_000;
  const { server, ...found } = await rotateUnderRetrievals({ home, devices: prepared.devices, clients: CLIENTS, kills, at });
  await server.stop();
  const { keys, lost, keks } = await openAll(home);
  const { killed, asked, refused, calm, meanwhile, rate } = found;
  console.log(
    `${found.keys} keys wrapped anew, ${Math.round(rate)} a second; killed and resumed ${killed} of ${kills} times; retrievals: ${asked} asked, ${refused} failed; p99 ${meanwhile.toFixed(1)} ms against ${calm.toFixed(1)} ms before and after: ${(meanwhile / calm).toFixed(2)} times (wanted: at most 2)`,
  );
  console.log(`${keys} keys opened afterwards under KEK ${keks.join(', ')}: ${lost.length} lost`);
  for (const id of lost.slice(0, 20)) console.log(`LOST ${id}`);
  if (killed < kills || refused > 0 || lost.length > 0 || keks.length !== 1 || keys !== count + prepared.devices.length)
    process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
