import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { expect, test } from '@jest/globals';

/** `ekms campaign custody` and `ekms campaign restore --seed S --count N` run more of them. */
const KILLS = 4;
const RESTORES = 6;
const SEED = process.env['EKMS_SEED'] ?? '1';

async function campaign(...args: string[]): Promise<{ status: number; said: string; result: unknown }> {
  const child = spawn(process.execPath, [resolve(__dirname, 'custody-campaign.mjs'), '--seed', SEED, ...args]);
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  const [status] = (await once(child, 'close')) as [number];
  const last = /^\{.*\}$/m.exec(said)?.[0] ?? '{}';
  process.stderr.write(`custody campaign ${args.join(' ')}: ${last}\n`);
  return { status, said, result: JSON.parse(last) };
}

test('killed between two steps of birth, backup, rotation or restore it goes on, restored it is whole, and a pair never has two owners', async () => {
  const { status, said, result } = await campaign('--count', String(KILLS), '--restores', String(RESTORES), '--short', '--by-copy');
  if (status !== 0) throw new Error(said);
  // A fault that never fired is no run. A folder put back by hand instead of restored gives a pair twice, and the check sees it.
  expect(result).toMatchObject({ fired: KILLS, failed: 0, restores: RESTORES, failedRestores: 0, doublesByCopy: 1 });
  expect((result as { refusals: number }).refusals).toBeGreaterThan(10 * RESTORES);
}, 900_000);
