import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';

const SEED = process.env['EKMS_SEED'] ?? '1';

/** Runs `<name>-campaign.mjs` beside this file, as `ekms campaign` does; `result` is the line of JSON that it ends with. */
export async function campaign(name: 'crash' | 'custody', ...args: string[]): Promise<{ status: number; said: string; result: unknown }> {
  const child = spawn(process.execPath, [resolve(__dirname, `${name}-campaign.mjs`), '--seed', SEED, ...args], { env: { ...process.env } });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  const [status] = (await once(child, 'close')) as [number];
  const last = /^\{.*\}$/m.exec(said)?.[0] ?? '{}';
  process.stderr.write(`${name} campaign ${args.join(' ')}: ${last}\n`);
  return { status, said, result: JSON.parse(last) };
}
