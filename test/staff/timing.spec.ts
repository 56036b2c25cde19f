import { expect, jest, test } from '@jest/globals';
import { dice } from '../faults/dice.js';
import { measure } from './timing.js';

/** Set by `ekms campaign staff-timing`. */
const COUNT = Number(process.env['EKMS_TIMING_COUNT'] ?? 0);
const SEED = Number(process.env['EKMS_TIMING_SEED'] ?? 1);

jest.setTimeout(120_000 + COUNT * 500);

/** Without a campaign it is short, with a wide bound: what it would find then is a difference that anybody sees. */
test('whoever asks for a code or tries a password learns neither by words nor by time who is there', async () => {
  for (const { what, requests, answers, t, known, unknown } of await measure(COUNT || 100, dice(SEED))) {
    process.stderr.write(`${what}: ${requests} requests, t ${t.toFixed(2)}, medians ${known.toFixed(2)} and ${unknown.toFixed(2)} ms\n`);
    expect(answers).toHaveLength(1);
    expect(Math.abs(t)).toBeLessThan(COUNT ? 4.5 : 10);
  }
});
