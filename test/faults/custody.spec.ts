import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { expect, test } from '@jest/globals';

/** `ekms campaign custody --seed S --count N` runs more of them. */
const RUNS = 4;
const SEED = process.env['EKMS_SEED'] ?? '1';

test('an appliance that is killed between two steps of birth, backup, rotation or restore goes on, and nothing is lost, doubled or without an owner', async () => {
  const words = [resolve(__dirname, 'custody-campaign.mjs'), '--seed', SEED, '--count', String(RUNS), '--short'];
  const child = spawn(process.execPath, words);
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  const [status] = (await once(child, 'close')) as [number];
  const last = /^\{.*\}$/m.exec(said)?.[0] ?? '{}';
  process.stderr.write(`custody campaign: ${last}\n`);
  if (status !== 0) throw new Error(said);
  // A fault that never fired is no run.
  expect(JSON.parse(last)).toMatchObject({ fired: RUNS, failed: 0 });
}, 900_000);
