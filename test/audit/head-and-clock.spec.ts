import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { ClockWatch, DurableAuditLog, HeadArchive, LogTree } from '../../src/audit/index.js';
import { type AuditEvent, Clock, type Storage } from '../../src/foundation/index.js';
import { openStorage } from '../../src/storage/index.js';

class SetClock extends Clock {
  time = Date.UTC(2026, 2, 2, 8);
  override now(): Date {
    return new Date(this.time);
  }
}
const started: AuditEvent = { action: 'appliance.start', outcome: 'done', actor: { kind: 'system' } };

let folder: string;
let storage: Storage & { close(): Promise<void> };
let clock: SetClock;
let audit: DurableAuditLog;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-clock-'));
  storage = await openStorage({ url: 'sqlite:ekms.db', home: folder });
  clock = new SetClock();
  audit = new DurableAuditLog(clock, undefined, undefined, {
    version: () => 7,
    networkOf: (address) => (address === '10.1.2.3' ? 'employees' : 'elsewhere'),
  });
});
afterEach(async () => {
  await storage.close();
  rmSync(folder, { recursive: true });
});

const append = (event: AuditEvent = started) => storage.write((unit) => audit.append(unit, event));
const entries = async (action: string) =>
  (await storage.all<{ body: string }>('SELECT body FROM audit_entries WHERE action = ? ORDER BY idx', [action])).map(
    ({ body }) => JSON.parse(body) as { policy?: string; from?: string; facts?: object },
  );

test('an entry says which policy was in force, and of a request in which of its networks it came from', async () => {
  await append();
  await append({ action: 'device.list', outcome: 'done', actor: { kind: 'device' }, personal: { network: '10.1.2.3' } });
  await append({ action: 'device.list', outcome: 'done', actor: { kind: 'device' }, personal: { network: '192.0.2.1' } });
  expect(await entries('appliance.start')).toMatchObject([{ policy: '7' }]);
  expect((await entries('appliance.start'))[0]).not.toHaveProperty('from');
  expect(await entries('device.list')).toMatchObject([{ from: 'employees' }, { from: 'elsewhere' }]);
});

test('a clock that was set is an entry, forward and back, also while nothing ran; one that only goes is none', async () => {
  let steady = 0;
  const watch = new ClockWatch(storage, audit, clock, () => steady);
  await append();
  clock.time -= 60_000;
  await watch.look();
  const pass = (milliseconds: number, jump = 0) => {
    steady += milliseconds;
    clock.time += milliseconds + jump;
  };
  for (const [milliseconds, jump] of [
    [1_000, 0],
    [300_000, 900],
    [1_000, 5_000],
    [1_000, -7_000],
    [1_000, 0],
  ] as const) {
    pass(milliseconds, jump);
    await watch.look();
  }
  expect((await entries('clock.jump')).map(({ facts }) => facts)).toEqual([
    { direction: 'back', milliseconds: 60_000 },
    { direction: 'forward', milliseconds: 5_000 },
    { direction: 'back', milliseconds: 7_000 },
  ]);
});

test('a head goes to archives once in its hours, and not where nothing happened but that', async () => {
  const tree = new LogTree(storage);
  const mailed: string[] = [];
  const mail = async (note: string) => async () => void mailed.push(note);
  const archive = new HeadArchive({ storage, audit, tree, clock, mail }, 24);
  const sign = async () => {
    const { size } = await tree.grow();
    await tree.keep(`ekms/v1/audit\n${size}\n${'A'.repeat(43)}=\n\n— ekms AAAAAAAA\n`, size, clock.time);
  };
  await archive.sendDue();
  expect(mailed).toEqual([]);
  for (let n = 0; n < 20; n += 1) await append();
  await sign();
  await archive.sendDue();
  await archive.sendDue();
  expect(await entries('audit.head')).toMatchObject([{ facts: { origin: 'ekms/v1/audit', size: 20 } }]);
  clock.time += 25 * 3_600_000;
  await sign();
  await archive.sendDue();
  expect(mailed).toHaveLength(1);
  for (let n = 0; n < 20; n += 1) await append();
  await sign();
  await archive.sendDue();
  expect(mailed.map((note) => note.split('\n')[1])).toEqual(['20', '41']);
});
