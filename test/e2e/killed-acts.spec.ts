import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { Appliance } from '../support/appliance.js';
import { TestAdministrator } from '../support/officers.js';
import { refusal } from '../support/wire.js';
import { enrolDevice, fetchKeys, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(120_000);

/** Five of them, multiplied, keep SQLite busy for minutes: whoever runs this statement stands still in the middle of its unit. */
const STAND_STILL = `SELECT count(*) FROM ${['a', 'b', 'c', 'd', 'e', 'f'].map((name) => `sqlite_schema ${name}`).join(', ')}`;

/** The appliance's process is killed (SIGKILL) in the middle of an act, at a place that the database holds it at. */
describe('kill -9', () => {
  let appliance: Appliance;
  let db: Database.Database;
  let anna: TestAdministrator;
  let boris: TestAdministrator;
  let otto: TestAdministrator;
  let device: WireDevice;
  let fired = 0;
  beforeAll(async () => {
    appliance = await Appliance.open({ settings: { keys: { bits: 2048, pool: { target: 1 } } } });
    db = new Database(appliance.file('ekms.db'), { timeout: 10_000 });
    device = await enrolDevice(appliance, 'dora@corp.example');
    otto = await TestAdministrator.register(appliance, 'otto', 'auditor');
    anna = await TestAdministrator.register(appliance, 'anna');
    boris = await TestAdministrator.register(appliance, 'boris');
  });
  afterAll(async () => {
    db?.close();
    await appliance?.close();
  });
  afterEach(() => {
    db.exec('DROP TRIGGER IF EXISTS stand_still');
  });

  const one = <T>(sql: string, ...values: unknown[]): T | undefined => db.prepare(sql).get(...values) as T | undefined;
  const entries = (action: string) =>
    one<{ n: number }>("SELECT count(*) AS n FROM audit_entries WHERE action = ? AND outcome = 'done'", action)?.n ?? 0;

  /** Has the appliance stand still in the unit of this change, kills it there as soon as `reached` is on disk, and starts it anew. */
  async function killedAt(
    change: string,
    act: () => Promise<unknown>,
    reached: () => boolean,
    before: () => void = () => undefined,
  ): Promise<void> {
    db.exec(`CREATE TRIGGER stand_still AFTER UPDATE ON ${change} BEGIN ${STAND_STILL}; END`);
    const under = act().catch(() => undefined); // its connection dies
    for (const until = Date.now() + 30_000; !reached(); await sleep(5)) if (Date.now() > until) throw new Error('it never came there');
    await sleep(300); // on to where it stands still
    const { pid } = appliance;
    process.kill(pid, 'SIGKILL');
    fired++;
    await under;
    for (const until = Date.now() + 10_000; isThere(pid) && Date.now() < until; ) await sleep(20);
    db.exec('DROP TRIGGER stand_still');
    before();
    await appliance.start();
  }
  const approvalsOf = (id: string) => one<{ n: number }>('SELECT count(*) AS n FROM approvals WHERE request = ?', id)?.n ?? 0;
  const stateOf = (id: string) => one<{ state: string }>('SELECT state FROM requests WHERE id = ?', id)?.state;
  const roleOf = () => one<{ role: string }>('SELECT role FROM administrators WHERE id = ?', otto.id)?.role;
  const asked = async (role: string) => ((await anna.act('admin.role', { id: otto.id, role })).json as { id: string }).id;

  test('in the unit that spends the approval: nothing was done, and the next start does it, once', async () => {
    const id = await asked('operator');
    const before = entries('administrator.role');
    await killedAt(
      "requests WHEN new.state = 'spent'",
      () => boris.approve(id),
      () => approvalsOf(id) === 1,
      () => expect([stateOf(id), roleOf(), entries('administrator.role')]).toEqual(['open', 'auditor', before]),
    );
    expect([stateOf(id), roleOf(), entries('administrator.role')]).toEqual(['done', 'operator', before + 1]);
  });

  test('after the act, before it was written down that it is done: it is not done again, told as cut, and may be asked for again', async () => {
    const id = await asked('auditor');
    const before = entries('administrator.role');
    await killedAt(
      "requests WHEN new.state = 'done'",
      () => boris.approve(id),
      () => stateOf(id) === 'spent',
    );
    expect([stateOf(id), roleOf(), entries('administrator.role')]).toEqual(['interrupted', 'auditor', before + 1]);
    expect((await anna.ask('GET', `requests/${id}`)).json).toMatchObject({ state: 'interrupted', reason: 'interrupted' });
    const again = await asked('operator');
    expect(await boris.approve(again)).toMatchObject({ json: { state: 'done' } });
    expect(roleOf()).toBe('operator');
  });

  test('while a withdrawn app’s devices are being ended: they get nothing, and the next start ends them', async () => {
    const { id } = appliance.app;
    const stateOfDevice = () => one<{ state: string }>('SELECT state FROM devices WHERE id = ?', device.id)?.state;
    let intent: unknown;
    await killedAt(
      "devices WHEN new.state = 'revoked'",
      () => appliance.act('app.revoke', { id, devices: true }),
      () => one<{ state: string }>('SELECT state FROM apps WHERE id = ?', id)?.state === 'stopped',
      () => {
        expect(stateOfDevice()).toBe('active');
        intent = one("DELETE FROM intents WHERE kind = 'end-devices' RETURNING *");
      },
    );
    // Guard off: without the intent nobody ends them, though the withdrawn app still keeps keys from them.
    expect(stateOfDevice()).toBe('active');
    expect(refusal(await fetchKeys(appliance, device))).toBe('403 device-blocked');
    await appliance.stop();
    db.prepare('INSERT INTO intents (id, kind, body, created) VALUES (:id, :kind, :body, :created)').run(intent);
    await appliance.start();
    expect(stateOfDevice()).toBe('revoked');
    expect(refusal(await fetchKeys(appliance, device))).toBe('403 device-blocked');
    expect(db.prepare("SELECT kind FROM intents WHERE kind = 'end-devices'").all()).toEqual([]);
    process.stdout.write(`kill -9 in the middle of an act: ${fired} of 3 fired\n`);
    expect(fired).toBe(3);
  });
});

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
