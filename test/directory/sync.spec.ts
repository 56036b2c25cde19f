import { type KeyObject, X509Certificate } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { collectKeys } from '../../client/src/keys/index.js';
import type { EkmsClient } from '../../client/src/sdk/index.js';
import type { State, Store } from '../../client/src/store/index.js';
import { reconcile } from '../../src/commands/reconcile.js';
import { type DirectoryEntry, MemoryDirectory, readLastSync, type SyncReport } from '../../src/directory/index.js';
import type { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal } from '../support/wire.js';
import { begin, enrolDevice, fetchKeys, giveAnswer, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);

const entry = (id: string, address: string, more: Partial<DirectoryEntry> = {}): DirectoryEntry => ({
  id,
  addresses: [address],
  active: true,
  ...more,
});

let directory: MemoryDirectory;
let ekms: HouseInProcess;
beforeEach(async () => {
  directory = new MemoryDirectory();
  ekms = await HouseInProcess.open({ people: directory, settings: { keys: { bits: 2048, pool: { target: 2 } } } });
});
afterEach(async () => {
  expect(ekms.defects).toEqual([]);
  await ekms.close();
});

const sync = () => ekms.act('directory.sync', {}) as Promise<SyncReport>;
const ALL = 'documents@corp.example';
const preview = () => ekms.act('directory.preview', {}) as Promise<SyncReport>;
const stateOf = async (address: string) =>
  (
    await ekms.db.one<{ state: string }>(
      'SELECT state FROM employees WHERE id = (SELECT employee FROM bindings WHERE address = ? AND to_time IS NULL)',
      [address],
    )
  )?.state;
async function until(holds: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 15_000; !(await holds()); await new Promise((resolve) => setTimeout(resolve, 20)))
    if (Date.now() > end) throw new Error('it did not come to hold');
}
async function people(count: number): Promise<void> {
  for (let n = 0; n < count; n++) directory.put(entry(`p${n}`, `p${n}@corp.example`));
  await sync();
}

test('a joiner has key and certificate before the first day; the first device gets that very key', async () => {
  directory.put(entry('anna', 'Anna@corp.example'));
  await sync();
  const keys = () => ekms.db.all<{ id: string }>("SELECT id FROM keys WHERE state = 'active'");
  await until(async () => (await keys()).length === 1);
  const [made] = await keys();
  expect(await ekms.house.directory.of('anna@corp.example')).toHaveLength(1);
  const device = await enrolDevice(ekms, 'anna@corp.example');
  expect((await keysOf(ekms, device)).map(({ id }) => id)).toEqual([made?.id]);
});

test('a mover keeps employee, devices and key, gets a certificate for the new address, and the old one names them no more', async () => {
  directory.put(entry('anna', 'anna.meier@corp.example'));
  await sync();
  const device = await enrolDevice(ekms, 'anna.meier@corp.example');
  const [before] = await keysOf(ekms, device);
  ekms.pass(2_000); // certificates of one second are in no order
  directory.put(entry('anna', 'anna.schmidt@corp.example'));
  expect((await sync()).steps.map(({ act }) => act)).toEqual(['end-address', 'add-address']);
  const [after] = await keysOf(ekms, device);
  expect(after?.id).toBe(before?.id);
  const [found] = await ekms.house.directory.of('anna.schmidt@corp.example');
  const certificate = new X509Certificate(found ?? Buffer.alloc(0));
  expect(certificate.subjectAltName).toContain('anna.schmidt@corp.example');
  expect(certificate.publicKey.equals(new X509Certificate(before?.certificates[0] ?? '').publicKey)).toBe(true);
  expect(await ekms.house.directory.of('anna.meier@corp.example')).toEqual([]);
  // A further device, by the new address, is the same person's.
  const second = await enrolDevice(ekms, 'anna.schmidt@corp.example');
  expect(second.employee).toBe(device.employee);
  // A later key names the new address alone; the device that enrolled by the old one takes it all the same.
  await ekms.act('key.replace', { address: 'anna.schmidt@corp.example', because: 'superseded' });
  const held = await collected(device);
  expect(held.refused).toEqual([]);
  expect(held.keys.map(({ state, leaves }) => [state, leaves[0]?.addresses])).toEqual([
    ['active', ['anna.schmidt@corp.example']],
    ['deactivated', ['anna.schmidt@corp.example']],
  ]);
});

/** What the reference client takes of all that a device is served, beginning with nothing. */
async function collected(device: WireDevice) {
  const pkcs8 = (key: KeyObject) => key.export({ format: 'der', type: 'pkcs8' }).toString('base64');
  let state: State = {
    ...{ v: 1, server: '', address: device.address, device: device.id, employee: device.employee, root: ekms.root, keys: [] },
    ...{ certificates: [device.certificates], identityKey: pkcs8(device.keys.identity), deliveryKey: pkcs8(device.keys.delivery) },
  };
  const store = {
    read: async () => state,
    update: async (change: (before: State) => State) => {
      state = change(state);
      return state;
    },
    keepReceipt: async () => undefined,
  };
  const keys = await keysOf(ekms, device);
  const client = { keys: async () => ({ keys, retryAfter: undefined }) };
  return collectKeys(store as unknown as Store, client as unknown as EkmsClient, () => new Date()); // as much of both as it uses
}

test('a leaver gets nothing after the next run, a returner gets all back; what an operator stopped stays stopped', async () => {
  directory.put(entry('anna', 'anna@corp.example'), entry('bob', 'bob@corp.example'));
  await sync();
  const [anna, bob] = [await enrolDevice(ekms, 'anna@corp.example'), await enrolDevice(ekms, 'bob@corp.example')];
  const [key] = await keysOf(ekms, anna);
  directory.put(entry('anna', 'anna@corp.example', { active: false }));
  await ekms.act('employee.stop', { address: 'bob@corp.example' });
  await sync();
  expect(refusal(await fetchKeys(ekms, anna))).toBe('403 employee-blocked');
  expect(refusal(await giveAnswer(ekms, await begin(ekms, 'anna@corp.example')))).toBe('403 directory-unlisted');
  directory.put(entry('anna', 'anna@corp.example'));
  await sync();
  expect((await keysOf(ekms, anna)).map(({ id }) => id)).toEqual([key?.id]);
  expect(refusal(await fetchKeys(ekms, bob))).toBe('403 employee-blocked');
  const told = (await ekms.log(200)).map(({ action }) => action);
  expect(told).toEqual(expect.arrayContaining(['employee.stop', 'employee.resume']));
});

test('a stop that somebody marks in the database as the directory’s is not taken back', async () => {
  directory.put(entry('anna', 'anna@corp.example'));
  await sync();
  const device = await enrolDevice(ekms, 'anna@corp.example');
  await ekms.act('employee.stop', { address: 'anna@corp.example' });
  await ekms.db.write((unit) =>
    unit.run('UPDATE employees SET directory_stop = ? WHERE id = ?', [Buffer.from('stopped'), device.employee]),
  );
  expect(await sync()).toMatchObject({ missed: 1 });
  expect(refusal(await fetchKeys(ekms, device))).toBe('403 employee-blocked');
});

describe('an address that changes hands', () => {
  test('between two runs: who enrols by it is somebody new, with no history', async () => {
    directory.put(entry('anna', 'sales@corp.example'));
    await sync();
    const former = await enrolDevice(ekms, 'sales@corp.example');
    const [formerKey] = await keysOf(ekms, former);
    // The directory gives the address to bob; no run has seen it yet.
    directory.put(entry('anna', 'anna@corp.example'), entry('bob', 'sales@corp.example'));
    // What was begun under the former owner ends; what is begun now is bob's.
    expect(refusal(await giveAnswer(ekms, await begin(ekms, 'sales@corp.example')))).toBe('403 enrolment-denied');
    const next = await enrolDevice(ekms, 'sales@corp.example');
    expect(next.employee).not.toBe(former.employee);
    const keys = await keysOf(ekms, next);
    expect(keys).toHaveLength(1);
    expect(keys[0]?.id).not.toBe(formerKey?.id);
    expect((await keysOf(ekms, former)).map(({ id }) => id)).toEqual([formerKey?.id]);
  });

  test('with the question to the directory left out, the newcomer would get the former owner’s key', async () => {
    const open = await HouseInProcess.open({ people: directory, settings: { keys: { bits: 2048, pool: { target: 2 } } } });
    try {
      (open.house.desk as unknown as { parts: { owners: undefined } }).parts.owners = undefined; // the guard off
      directory.put(entry('anna', 'sales@corp.example'));
      await open.act('directory.sync', {});
      const former = await enrolDevice(open, 'sales@corp.example');
      directory.put(entry('anna', 'anna@corp.example'), entry('bob', 'sales@corp.example'));
      const next = await enrolDevice(open, 'sales@corp.example');
      expect(next.employee).toBe(former.employee);
    } finally {
      await open.close();
    }
  });

  test('a directory that is away lets nobody enrol, and the devices that are there go on', async () => {
    directory.put(entry('anna', 'anna@corp.example'));
    await sync();
    const device = await enrolDevice(ekms, 'anna@corp.example');
    const begun = await begin(ekms, 'anna@corp.example');
    directory.away = true;
    expect(refusal(await giveAnswer(ekms, begun))).toBe('503 directory-unavailable');
    expect(await keysOf(ekms, device)).toHaveLength(1);
    directory.away = false;
    expect((await giveAnswer(ekms, begun)).status).toBe(200);
  });

  test('who is in no directory does not enrol, unless ekms.yaml lets them', async () => {
    expect(refusal(await giveAnswer(ekms, await begin(ekms, 'stranger@corp.example')))).toBe('403 directory-unlisted');
  });
});

describe('a mass-leaver accident', () => {
  test.each([
    ['an empty answer', 0],
    ['a much smaller answer', 7],
  ])('%s stops nobody: an alarm, and a confirmed run does it', async (_, left) => {
    await people(12);
    for (const id of [...directory.entries.keys()].slice(left)) directory.entries.delete(id);
    await expect(sync()).rejects.toMatchObject({ code: 'directory-losses' });
    expect(await stateOf('p11@corp.example')).toBe('active');
    expect((await ekms.log(1))[0]).toMatchObject({ action: 'directory.sync', outcome: 'refused', reason: 'directory-losses' });
    expect(await readLastSync(ekms.db)).toMatchObject({ outcome: 'refused', reason: 'directory-losses' });
    const dry = await preview();
    expect(dry).toMatchObject({ needsConfirmation: true, linked: 12 });
    // One more is missing since somebody looked: that is another decision.
    const [first] = [...directory.entries.values()];
    if (first) {
      directory.entries.delete(first.id);
      await expect(ekms.act('directory.confirm', { digest: dry.digest })).rejects.toMatchObject({ code: 'directory-changed' });
      directory.put(first);
    }
    await ekms.act('directory.confirm', { digest: dry.digest });
    expect(await stateOf('p11@corp.example')).toBe('stopped');
  });

  test('two leavers of twelve are an ordinary day', async () => {
    await people(12);
    directory.entries.delete('p0');
    directory.entries.delete('p1');
    await sync();
    expect([await stateOf('p0@corp.example'), await stateOf('p2@corp.example')]).toEqual(['stopped', 'active']);
  });

  test('people who were left out of a long answer, and are there when asked for, are no leavers', async () => {
    await people(12);
    const whole = directory.people.bind(directory);
    directory.people = async () => (await whole()).slice(0, -1);
    await expect(sync()).rejects.toMatchObject({ code: 'directory-incomplete' });
    expect(await stateOf('p11@corp.example')).toBe('active');
  });
});

describe('who writes the database and is in the directory', () => {
  /** Points anna's binding at mallory's id in the directory; resolves with whose keys mallory's new device gets. */
  async function play(house: HouseInProcess): Promise<{ anna: string; mallory: string | undefined }> {
    directory.put(entry('a', 'anna@corp.example'));
    await house.act('directory.sync', {});
    const anna = await enrolDevice(house, 'anna@corp.example');
    await house.db.write(async (unit) => {
      await unit.run("UPDATE bindings SET directory = 'm' WHERE employee = ?", [anna.employee]);
      await unit.run("UPDATE employees SET directory_id = 'm' WHERE id = ?", [anna.employee]);
    });
    directory.put(entry('m', 'mallory@corp.example'));
    await house.act('directory.sync', {});
    const reply = await giveAnswer(house, await begin(house, 'mallory@corp.example'));
    return { anna: anna.employee, mallory: (reply.json as { employee?: string }).employee };
  }

  test('does not become somebody else by exchanging ids', async () => {
    const { anna, mallory } = await play(ekms);
    expect(mallory).not.toBe(anna);
    expect((await ekms.log(200)).filter(({ reason }) => reason === 'record-forged').length).toBeGreaterThan(0);
  });

  test('with the seal taken out, they would', async () => {
    const guardless = (token: MemoryToken) => {
      token.hsm.mac = () => Buffer.alloc(32);
    };
    const open = await HouseInProcess.open({
      people: directory,
      token: guardless,
      settings: { keys: { bits: 2048, pool: { target: 2 } } },
    });
    try {
      const { anna, mallory } = await play(open);
      expect(mallory).toBe(anna);
    } finally {
      await open.close();
    }
  });
});

describe('a returner with a new entry', () => {
  async function leaveAndReturn() {
    directory.put(entry('old', 'anna@corp.example'), entry('zoe', 'zoe@corp.example'));
    await sync();
    const before = await enrolDevice(ekms, 'anna@corp.example');
    const [key] = await keysOf(ekms, before);
    directory.entries.delete('old');
    await sync();
    directory.put(entry('new', 'anna@corp.example'));
    await sync();
    return { before, key };
  }
  const owners = () => ekms.act('employee.owners', { address: 'anna@corp.example' }) as Promise<{ employee: string; to: string | null }[]>;

  test('is a new employee with no history, until two are joined; then devices get the former keys', async () => {
    const { before, key } = await leaveAndReturn();
    const stranger = await enrolDevice(ekms, 'anna@corp.example');
    expect(stranger.employee).not.toBe(before.employee);
    expect((await keysOf(ekms, stranger)).map(({ id }) => id)).not.toContain(key?.id);
    expect((await owners()).map(({ employee, to }) => [employee, to === null])).toEqual([
      [stranger.employee, true],
      [before.employee, false],
    ]);
    await ekms.act('employee.join', { address: 'anna@corp.example', former: before.employee });
    await ekms.act('employee.resume', { address: 'anna@corp.example' });
    const again = await enrolDevice(ekms, 'anna@corp.example');
    expect(again.employee).toBe(before.employee);
    expect((await keysOf(ekms, again)).map(({ id }) => id)).toContain(key?.id);
    // The next run finds everything as it should be.
    expect((await preview()).steps).toEqual([]);
    expect((await ekms.log(200)).find(({ action }) => action === 'employee.join')).toMatchObject({
      employee: before.employee,
      subject: stranger.employee,
    });
  });

  test('is joined to a former owner of that address only, whatever the database says', async () => {
    await leaveAndReturn();
    directory.put(entry('bob', 'bob@corp.example'));
    await sync();
    const bob = await enrolDevice(ekms, 'bob@corp.example');
    await expect(ekms.act('employee.join', { address: 'anna@corp.example', former: bob.employee })).rejects.toMatchObject({
      code: 'employee-unknown',
    });
    await ekms.db.write((unit) =>
      unit.run("UPDATE bindings SET employee = ? WHERE address = 'anna@corp.example' AND to_time IS NOT NULL", [bob.employee]),
    );
    await expect(ekms.act('employee.join', { address: 'anna@corp.example', former: bob.employee })).rejects.toMatchObject({
      code: 'record-forged',
    });
  });
});

test('a leaver’s retrieval stops within the interval, without anybody’s doing', async () => {
  directory.put(entry('anna', 'anna@corp.example'));
  await sync();
  const device = await enrolDevice(ekms, 'anna@corp.example');
  const rounds = ekms.house.directorySync?.every(50, (error) => ekms.defects.push(error));
  try {
    directory.away = true; // outages do not end the rounds
    await new Promise((resolve) => setTimeout(resolve, 150));
    directory.away = false;
    directory.entries.delete('anna');
    directory.put(entry('bob', 'bob@corp.example'));
    await until(async () => refusal(await fetchKeys(ekms, device)) === '403 employee-blocked');
  } finally {
    await rounds?.stop();
  }
});

test('a dry run says what would be done and does nothing', async () => {
  directory.put(entry('anna', 'anna@corp.example'));
  const before = await ekms.log(200);
  expect((await preview()).steps).toEqual([expect.objectContaining({ act: 'join', directory: 'anna' })]);
  expect(await ekms.db.all('SELECT id FROM employees')).toEqual([]);
  expect(await ekms.log(200)).toEqual(before);
});

test('the recovery reader of documents, which two persons turn on and off, is nobody whom the directory stops or strips', async () => {
  await ekms.db.write(async (unit) => {
    const binding = await ekms.house.employees.propose({ key: ALL, shown: ALL });
    await ekms.house.employees.insert(unit, binding, { kind: 'operator' });
    await unit.run("UPDATE employees SET mode = 'quorum'", []);
  });
  for (const more of [{}, { active: false }, { addresses: ['other@corp.example'] }]) {
    directory.put(entry('reader', ALL, more));
    await sync();
    expect(await stateOf(ALL)).toBe('active');
    expect(await ekms.db.all("SELECT id FROM employees WHERE mode = 'quorum' AND directory_id IS NULL")).toHaveLength(1);
  }
});

test('that nothing changed is no entry; that the directory went away and came back is one each', async () => {
  directory.put(entry('anna', 'anna@corp.example'));
  await sync();
  await ekms.house.premade.serve();
  const count = async () => (await ekms.log(500)).filter(({ action }) => action === 'directory.sync').length;
  const before = await count();
  await sync();
  expect(await count()).toBe(before);
  directory.away = true;
  for (let n = 0; n < 3; n++) await expect(sync()).rejects.toMatchObject({ code: 'directory-unavailable' });
  expect(await count()).toBe(before + 1);
  directory.away = false;
  await sync();
  expect(await count()).toBe(before + 2);
});

test('a run that is cut off anywhere is finished by the next one', async () => {
  directory.put(entry('a', 'a@corp.example'), entry('b', 'b@corp.example'), entry('c', 'c@corp.example'));
  await sync();
  directory.put(
    entry('a', 'b@corp.example'),
    entry('b', 'a@corp.example'),
    entry('c', 'c@corp.example', { active: false }),
    entry('d', 'd@corp.example'),
  );
  const { db } = ekms;
  const write = db.write.bind(db);
  let fired = 0;
  for (let round = 0; ; round++) {
    expect(round).toBeLessThan(60);
    const { digest } = await preview();
    let left = round % 4;
    db.write = async (work) => {
      if (left-- > 0) return write(work);
      fired += 1;
      throw new Error('the process died here');
    };
    const isDone = await ekms.house.directorySync?.run(digest).then(
      () => true,
      (error: Error) => error.message !== 'the process died here' && Promise.reject(error),
    );
    db.write = write;
    if (isDone) break;
  }
  process.stderr.write(`directory sync: ${fired} cuts fired\n`);
  expect(fired).toBeGreaterThan(0);
  expect((await preview()).steps).toEqual([]);
  const ids = await ekms.db.all<{ address: string; directory: string }>(
    'SELECT address, directory FROM bindings WHERE to_time IS NULL ORDER BY address',
  );
  expect(ids.map(({ address, directory: id }) => `${address} ${id}`)).toEqual([
    'a@corp.example b',
    'b@corp.example a',
    'c@corp.example c',
    'd@corp.example d',
  ]);
  await reconcile(ekms.house);
  expect(await ekms.db.all("SELECT id FROM intents WHERE kind <> 'give-key'")).toEqual([]);
});
