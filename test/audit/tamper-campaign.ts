import { parseArgs } from 'node:util';
import { dice } from '../faults/dice.js';
import { falseAlarm, faultsOf, Signer, TAMPERINGS } from './tampering.js';

const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '100' } } });
const [seed, count] = [Number(values.seed), Number(values.count)];
const roll = dice(seed);
const signer = new Signer();
const faults: string[] = [];
for (const kind of Object.keys(TAMPERINGS)) for (let n = 0; n < count; n += 1) faults.push(...(await faultsOf(kind, roll, signer)));
let alarms = 0;
for (let n = 0; n < count; n += 1) {
  const alarm = await falseAlarm(roll, signer);
  if (alarm) faults.push(alarm);
  if (alarm) alarms += 1;
}
for (const fault of faults) console.error(fault);
console.log(
  JSON.stringify({
    seed,
    kinds: Object.keys(TAMPERINGS).length,
    tampered: Object.keys(TAMPERINGS).length * count,
    clean: count,
    alarms,
    faults: faults.length,
  }),
);
process.exitCode = faults.length === 0 ? 0 : 1;
