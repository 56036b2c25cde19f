import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import type { Finding } from '../../src/commands/finding.js';
import { Appliance } from '../support/appliance.js';
import { LIFTED } from '../support/lifted-budgets.js';
import { refusal } from '../support/wire.js';
import {
  type DeviceKeys,
  enrolDevice,
  fetchKeys,
  keysOf,
  newDeviceKeys,
  newIdentity,
  postSigned,
  requestBody,
  type WireDevice,
} from '../support/wire-device.js';
import { type Asked, load } from './load.js';

/** Within which a refusal must have come, and service be back: 5 s and 30 s are promised, the first with room for a busy machine. */
const REFUSED_MS = 7_000;
const BACK_MS = 30_000;

const disk = mkdtempSync(join(tmpdir(), 'ekms-disk-'));
const isMounted = mounted();

function mounted(): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'tmpfs', disk], { stdio: 'ignore' });
    return true;
  } catch {
    process.stderr.write('\n*** SKIPPED: mounting a tmpfs is not permitted here, so the full disk is not tested ***\n');
    return false;
  }
}

describe('an appliance whose surroundings fail', () => {
  let appliance: Appliance;
  let keys: DeviceKeys[];
  let alice: WireDevice;
  let count = 0;

  beforeAll(async () => {
    keys = await Promise.all(Array.from({ length: 9 }, () => newDeviceKeys()));
    appliance = await Appliance.open({
      settings: { budgets: LIFTED, database: { url: `sqlite:${disk}/ekms.db` }, keys: { bits: 2048, pool: { target: 8 } } },
    });
    await appliance.act('pool.fill', { count: 8 });
    alice = await enrol('alice');
    await keysOf(appliance, alice);
  }, 180_000);

  afterEach(async () => {
    // Whatever it was, it is over, and left nothing behind: the checker says so.
    const findings = (await appliance.act('doctor', { data: true })) as Finding[]; // `doctor` in src/commands/acts.ts
    expect(findings.filter(({ verdict }) => verdict !== 'good')).toEqual([]);
    expect(appliance.said).not.toContain('defect');
  }, 60_000);

  afterAll(async () => {
    await appliance?.close();
    if (isMounted) execFileSync('umount', ['-l', disk]);
    rmSync(disk, { recursive: true, force: true });
  }, 60_000);

  const enrol = (name: string): Promise<WireDevice> => enrolDevice(appliance, `${name}@corp.example`, keys.pop());
  /** An enrolment that is asked for and goes no further: it needs the database and, three times, the token. */
  const ask = () =>
    postSigned(
      appliance,
      '/v1/enrolments',
      requestBody(`person${count++}@corp.example`, { identity: newIdentity(), delivery: (keys[0] as DeviceKeys).delivery }),
    ); // one is kept back
  const isReady = (): Promise<number> =>
    new Promise((resolve) =>
      get({ port: appliance.ports.operation, path: '/health/ready' }, (reply) => resolve(reply.resume().statusCode ?? 0)).on('error', () =>
        resolve(0),
      ),
    );

  async function refused(code: RegExp): Promise<void> {
    const from = performance.now();
    for (;;) {
      const reply = await ask();
      if (reply.status === 503) {
        expect(refusal(reply)).toMatch(code);
        expect(performance.now() - from).toBeLessThan(REFUSED_MS + 2_000);
        expect(reply.headers.some(([name]) => name.toLowerCase() === 'retry-after')).toBe(true);
        return;
      }
      // It may take a moment until the loss shows; nothing that is answered with success may be lost later.
      expect(reply.status).toBe(201);
      if (performance.now() - from > REFUSED_MS) throw new Error('nothing was ever refused');
      await sleep(100);
    }
  }

  async function back(since = performance.now()): Promise<void> {
    for (;;) {
      const { status } = await ask();
      if (status === 201 && (await isReady()) === 200) return;
      expect(status === 201 || status === 503).toBe(true);
      if (performance.now() - since > BACK_MS) throw new Error('service did not come back');
      await sleep(200);
    }
  }

  // The first, for here the write-ahead log still grows at each commit; later it has space of its own.
  (isMounted ? test : test.skip)(
    'the disk of the database is full: refusals, nothing half made, and recovery as soon as there is space',
    async () => {
      const ballast = join(disk, 'ballast');
      fill(ballast);
      try {
        await refused(/^503 storage-unavailable$/);
        // A small write may still find a place in the write-ahead log; then it is whole, and its entry stands.
        const reply = await fetchKeys(appliance, alice);
        if (reply.status === 200)
          expect((await appliance.log()).findLast(({ action }) => action === 'key.deliver')).toMatchObject({ device: alice.id });
        else expect(refusal(reply)).toBe('503 storage-unavailable');
        expect(await appliance.act('device.list', { address: alice.address })).toHaveLength(1); // reading goes on
      } finally {
        rmSync(ballast);
      }
      await back();
      const frank = await enrolDevice(appliance, 'frank@corp.example', await spare());
      expect(await keysOf(appliance, frank)).toHaveLength(1);
    },
    60_000,
  );

  test('the token process is killed under load: refusals within 5 s, service within 30 s, nothing acknowledged is lost', async () => {
    const asking = load(ask, 3);
    const killed: number[] = [];
    const enrolled: WireDevice[] = [];
    try {
      const people = ['bob', 'carol', 'dave'].map(async (name) => enrolled.push(await persistently(name)));
      for (const pause of [500, 4_000]) {
        await sleep(pause);
        const [pid] = tokenProcesses(appliance.pid);
        if (pid === undefined) throw new Error('there is no token process');
        killed.push(performance.now());
        process.kill(pid, 'SIGKILL');
      }
      await back(killed.at(-1));
      await Promise.all(people);
    } finally {
      await asking.stop();
    }
    const asked = await asking.stop();
    expect([...new Set(asked.map(({ said }) => said))].toSorted()).toEqual(['201', '503 token-unavailable']);
    expect(Math.max(...asked.map(({ took }) => took))).toBeLessThan(REFUSED_MS);
    for (const at of killed) expect(firstSuccess(asked, at)).toBeLessThan(BACK_MS);
    for (const device of enrolled)
      expect(await keysOf(appliance, device)).toEqual([expect.objectContaining({ state: 'active', delivery: expect.any(String) })]);
    expect(await fetchKeys(appliance, alice)).toMatchObject({ status: 200 });
  }, 120_000);

  /** Enrols as a person does: with new keys until it works. */
  async function persistently(name: string): Promise<WireDevice> {
    for (const until = Date.now() + BACK_MS; ; await sleep(100))
      try {
        return await enrolDevice(appliance, `${name}@corp.example`, { identity: newIdentity(), delivery: (await spare()).delivery });
      } catch (error) {
        // 409: the answer to its answer was lost on the way
        if (!/: (503|409) /.test(String(error)) || Date.now() > until) throw error;
      }
  }

  /** Never the last one, with which `ask` asks. */
  const spare = async (): Promise<DeviceKeys> => (keys.length > 1 ? (keys.pop() as DeviceKeys) : newDeviceKeys());

  test('the token’s folder is moved away and back: clear refusals, kept deliveries go on, recovery by itself', async () => {
    const folder = appliance.file('token');
    renameSync(folder, `${folder}-away`);
    try {
      await refused(/^503 token-unavailable$/);
      expect(await isReady()).toBe(503);
      // What only alice's device can open needs no token to be served again, with an entry as always.
      expect(await fetchKeys(appliance, alice)).toMatchObject({ status: 200 });
      expect((await appliance.log()).findLast(({ action }) => action === 'key.deliver')).toMatchObject({ device: alice.id });
    } finally {
      renameSync(`${folder}-away`, folder);
    }
    await back();
  }, 60_000);

  test('another process holds the database: a short wait is only a wait, a long one a refusal', async () => {
    const other = new Database(join(disk, 'ekms.db'));
    try {
      other.exec('BEGIN EXCLUSIVE');
      const waits = ask();
      await sleep(1_500);
      other.exec('COMMIT');
      expect((await waits).status).toBe(201);
      other.exec('BEGIN EXCLUSIVE');
      await refused(/^503 storage-unavailable$/);
      // Nothing is released whose entry cannot be written.
      expect(refusal(await fetchKeys(appliance, alice))).toBe('503 storage-unavailable');
      other.exec('COMMIT');
    } finally {
      other.close();
    }
    await back();
  }, 60_000);
});

/** Milliseconds from `at` to the first answer that was a success again. */
function firstSuccess(asked: readonly Asked[], at: number): number {
  const lost = asked.find((one) => one.at + one.took > at && one.said !== '201');
  const found = asked.find((one) => one.said === '201' && one.at > (lost?.at ?? at));
  return found ? found.at + found.took - at : Number.POSITIVE_INFINITY;
}

/** proc_pid_task_children(5) */
const tokenProcesses = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter((child) => readFileSync(`/proc/${child}/cmdline`, 'utf8').includes('tokens/process/main.js'))
    .map(Number);

function fill(path: string): void {
  const file = openSync(path, 'w');
  try {
    for (const size of [65_536, 4_096, 1]) {
      try {
        for (;;) writeSync(file, Buffer.alloc(size));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      }
    }
  } finally {
    closeSync(file);
  }
}
