import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { expect, test } from '@jest/globals';

/** `ekms campaign crash --seed S --count N` runs more of them. */
const RUNS = 12;
const SEED = process.env['EKMS_SEED'] ?? '1';

async function campaign(...args: string[]): Promise<{ status: number; said: string; result: unknown }> {
  const child = spawn(process.execPath, [resolve(__dirname, 'crash-campaign.mjs'), '--seed', SEED, ...args], { env: { ...process.env } });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  const [status] = (await once(child, 'close')) as [number];
  const last = /^\{.*\}$/m.exec(said)?.[0] ?? '{}';
  process.stderr.write(`crash campaign ${args.join(' ')}: ${last}\n`);
  return { status, said, result: JSON.parse(last) };
}

test('an appliance that is killed at any step loses, doubles and abandons nothing, and serves again within 30 s', async () => {
  const { status, said, result } = await campaign('--count', String(RUNS));
  if (status !== 0) throw new Error(said);
  // A fault that never fired is no run.
  expect(result).toMatchObject({ runs: RUNS, fired: RUNS, failed: 0 });
}, 600_000);

test('the campaign sees it when a start does not finish what a crash cut in half', async () => {
  const { status, said, result } = await campaign('--count', '1', '--only', 'token issueDevice after', '--without-reconcile');
  expect({ status, result }).toMatchObject({ status: 1, result: { runs: 1, fired: 1, failed: 1 } });
  expect(said).toMatch(/intent enrol [0-9a-f-]+ is still open/);
}, 120_000);
