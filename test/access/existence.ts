import { randomUUID } from 'node:crypto';
import { Agent, request } from 'node:https';
import { signedFields } from '../../client/src/sdk/index.js';
import { dice } from '../faults/dice.js';
import { Appliance, DOMAIN } from '../support/appliance.js';
import { LIFTED } from '../support/lifted-budgets.js';
import { newDeviceKeys, requestBody } from '../support/wire-device.js';

export interface Findings {
  /** How many requests of each kind. */
  count: number;
  /** Answers that differ in a byte from the first one, ids and what is drawn at random set aside. */
  different: number;
  /** Welch's t of the latencies, and of those below the ninetieth percentile of all. */
  t: number;
  tCropped: number;
}

/**
 * Asks a real appliance, over HTTPS, to enrol devices of people it knows and of people it does not, in an order drawn from the seed, and compares
 * what it says and how long it takes. Each address is asked for once, so each request goes the whole way to a mail.
 */
export async function compareAnswers(seed: number, count: number): Promise<Findings> {
  const ekms = await Appliance.open({ settings: { budgets: LIFTED, keys: { bits: 2048, pool: { target: 0 } } } });
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: [ekms.root] });
  try {
    await ekms.db.write(async (unit) => {
      for (let n = 0; n < count; n++) {
        const employee = randomUUID();
        await unit.run("INSERT INTO employees (id, state, created) VALUES (?, 'active', 0)", [employee]);
        await unit.run('INSERT INTO bindings (id, version, employee, address, shown, from_time, mac) VALUES (?, 1, ?, ?, ?, 0, ?)', [
          ...[randomUUID(), employee, `known${n}@${DOMAIN}`, `known${n}@${DOMAIN}`, Buffer.alloc(32)],
        ]);
      }
    });
    const keys = await newDeviceKeys();
    const roll = dice(seed);
    const order = [...Array(count).keys()].flatMap((n) => [`known${n}`, `nobody${n}`].map((name) => ({ name, at: roll(1_000_000_000) })));
    order.sort((a, b) => a.at - b.at);
    const took: Record<'known' | 'nobody', number[]> = { known: [], nobody: [] };
    let first: string | undefined;
    let different = 0;
    const ask = (address: string) => exchange(ekms, agent, requestBody(address, keys));
    for (let warm = 0; warm < 50; warm++) await ask(`warm${warm}@${DOMAIN}`);
    for (const { name } of order) {
      const { said, milliseconds } = await ask(`${name}@${DOMAIN}`);
      first ??= said;
      if (said !== first) different++;
      took[name.startsWith('known') ? 'known' : 'nobody'].push(milliseconds);
    }
    const all = [...took.known, ...took.nobody].toSorted((a, b) => a - b);
    const most = all[Math.floor(all.length * 0.9)] ?? 0;
    const cropped = (values: number[]) => values.filter((value) => value < most);
    return { count, different, t: welch(took.known, took.nobody), tCropped: welch(cropped(took.known), cropped(took.nobody)) };
  } finally {
    agent.destroy();
    await ekms.close();
  }
}

/** The whole answer as text, with ids, halves, nonces and times replaced by their lengths. */
function exchange(ekms: Appliance, agent: Agent, value: object): Promise<{ said: string; milliseconds: number }> {
  const path = '/v1/enrolments';
  const body = Buffer.from(JSON.stringify(value));
  const headers = {
    'content-type': 'application/json',
    'content-length': String(body.length),
    ...signedFields(ekms.app, 'POST', path, body, ekms.now()),
  };
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const asked = request({ host: 'localhost', port: ekms.port, method: 'POST', path, headers, agent }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        const milliseconds = performance.now() - began;
        const fields = response.rawHeaders.join('\n').replace(/^Date\n.*$/im, 'Date');
        const text = Buffer.concat(pieces)
          .toString()
          .replace(/"(id|half|nonce|expiresAt)":"([^"]*)"/g, (_, name: string, random: string) => `"${name}":${random.length}`);
        resolve({ said: `${response.statusCode}\n${fields}\n\n${text}`, milliseconds });
      });
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** Welch's t of two samples of unequal variance. */
export function welch(a: readonly number[], b: readonly number[]): number {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const share = (values: readonly number[]) => {
    const middle = mean(values);
    return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1) / values.length;
  };
  return (mean(a) - mean(b)) / Math.sqrt(share(a) + share(b));
}
