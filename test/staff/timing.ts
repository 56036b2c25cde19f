import { Agent, request } from 'node:https';
import { MemoryDirectory } from '../../src/directory/index.js';
import { HouseInProcess } from '../support/house-in-process.js';

/** What a stranger measures: whether the appliance takes longer, or says another thing, for people who are there. */
export interface Measured {
  what: string;
  requests: number;
  /** Welch's t over the times of both halves: below 4.5 nothing is told apart. */
  t: number;
  /** Milliseconds, medians. */
  known: number;
  unknown: number;
  /** Different answers, ids, times and tokens taken out. */
  answers: string[];
}

const PEOPLE = 200;
/** Requests before anything is measured. */
const WARM = 40;

/** Asks for codes, or tries passwords, for people who are there and people who are not, in random order, on one connection. Asker and appliance share this process. */
export async function measure(count: number, dice: (sides: number) => number): Promise<Measured[]> {
  const directory = new MemoryDirectory();
  for (let n = 0; n < PEOPLE; n++) directory.put({ id: `p${n}`, addresses: [`p${n}@corp.example`], active: true });
  for (const id of directory.entries.keys()) directory.passwords.set(id, 'a right password');
  const most = 1_000_000_000;
  const lifted = { minute: most, day: most };
  const house = await HouseInProcess.open({
    people: directory,
    settings: {
      directory: { url: 'ldaps://localhost', bindDn: 'cn=x', passwordFile: 'x', base: 'dc=x' },
      staff: { signIn: ['code', 'ldap'] },
      budgets: { signIns: { source: { minute: most }, site: lifted, appliance: lifted }, refusals: { source: lifted } },
    },
  });
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: [house.root] });
  try {
    const base = house.house.origins.of('staff');
    const measured: Measured[] = [];
    for (const [what, body] of [
      ['codes', (address: string) => ({ address })],
      ['passwords', (address: string) => ({ address, password: 'a wrong password' })],
    ] as const) {
      const times = { known: [] as number[], unknown: [] as number[] };
      const answers = new Set<string>();
      for (let n = -WARM; n < count * 2; n++) {
        // Tries of one address are few in a quarter of an hour, and so are mails.
        if (n % PEOPLE === 0) house.pass(16 * 60_000);
        const who = dice(2) === 0 ? 'known' : 'unknown';
        const address = `${who === 'known' ? 'p' : 'x'}${Math.abs(n) % PEOPLE}@corp.example`;
        const { took, told } = await timed(agent, `${base}/v1/staff/${what}`, body(address));
        answers.add(told);
        if (n >= 0) times[who].push(took);
      }
      measured.push({
        what,
        requests: count * 2,
        t: welch(times.known, times.unknown),
        known: median(times.known),
        unknown: median(times.unknown),
        answers: [...answers],
      });
    }
    if (house.defects.length > 0) throw house.defects[0];
    return measured;
  } finally {
    agent.destroy();
    await house.close();
  }
}

/** Ids, times, dates and sizes of what differs anyway are taken out; everything else must be the same. */
const plain = (text: string): string => text.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID').replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME');

function timed(agent: Agent, url: string, value: object): Promise<{ took: number; told: string }> {
  const body = JSON.stringify(value);
  const { origin } = new URL(url);
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const asking = request(
      url,
      { method: 'POST', agent, headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), origin } },
      (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (piece: string) => {
          text += piece;
        });
        answer.on('end', () => {
          const took = performance.now() - began;
          const headers = answer.rawHeaders.filter(
            (_, at) => at % 2 === 0 || !/^(date|content-length)$/i.test(answer.rawHeaders[at - 1] ?? ''),
          );
          resolve({ took, told: plain(`${answer.statusCode} ${headers.join(' ')} ${text}`) });
        });
      },
    );
    asking.on('error', reject);
    asking.end(body);
  });
}

const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

/** B. L. Welch, 1947: the difference of two means by their own variances. The slowest hundredth of each half is the machine's, not ours. */
function welch(a: number[], b: number[]): number {
  const [x, y] = [a, b].map((values) => values.toSorted((p, q) => p - q).slice(0, Math.ceil(values.length * 0.99))) as [number[], number[]]; // two in, two out
  const variance = (values: number[]) => {
    const middle = mean(values);
    return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
  };
  return (mean(x) - mean(y)) / Math.sqrt(variance(x) / x.length + variance(y) / y.length);
}
