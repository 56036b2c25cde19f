import 'reflect-metadata';
import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { RowSeal } from '../../src/access/index.js';
import { RequestFiled } from '../../src/commands/ask-appliance.js';
import { rootIn, verifyTransfer, writeTransfer } from '../../src/commands/transfer-file.js';
import {
  AcceptedTransfers,
  acceptanceId,
  type ImportedKey,
  type TransferCard,
  type TransferHead,
  type TransferLine,
  type TransferredKey,
} from '../../src/custody/index.js';
import type * as keyImports from '../../src/custody/key-imports.js';
import { base64url, sha256 } from '../../src/foundation/index.js';
import { openIntents } from '../../src/storage/index.js';
import { type Appointment, applianceName, appointmentBytes } from '../../src/tokens/index.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { TestAdministrator } from '../support/officers.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);
const pairs = ['Mona', 'Nils'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
const agents = {
  quorum: 2,
  agents: pairs.map(({ name, publicKey }) => ({ name, publicKey: publicKey.export({ format: 'der', type: 'spki' }) })),
};
const BY = { kind: 'operator' } as const;
const settings = { keys: { bits: 2048, pool: { target: 2 } } };

let folder: string;
let here: HouseInProcess;
let there: HouseInProcess;
let officers: TestAdministrator[];
let mallory: WireDevice;
let path: string;
/** Lines of keys in the file. */
let lines: string[];

/** The same list once more, as the row that the API process has of a list that was appointed. */
async function appoint(): Promise<void> {
  const { authorities, recoveryAgents } = here.house;
  const list = { quorum: 2, agents: agents.agents.map(({ name, publicKey }) => ({ name, publicKey: base64url(publicKey) })) };
  const appointment: Appointment = { v: 1, appliance: applianceName(authorities.root), version: 2, list };
  const approvals = pairs.map(({ name, privateKey }) => ({
    agent: name,
    signature: sign(null, appointmentBytes(appointment), privateKey),
  }));
  const { record, mac } = await here.token.appoint({ appointment, approvals });
  await here.db.write((unit) =>
    unit.run('INSERT INTO recovery_agents (version, list, mac, created) VALUES (?, ?, ?, 0)', [
      record.version,
      JSON.stringify(record.list),
      mac,
    ]),
  );
  await recoveryAgents.settleRaise();
}
const approved = async (transfer: string, bytes: Buffer) => {
  for (const { name, privateKey } of pairs)
    await here.act('transfer.approve', { transfer, by: { agent: name, signature: sign(null, bytes, privateKey).toString('base64') } });
};
const filed = async (...people: string[]) => {
  const card = (await there.act('transfer.key', {})) as TransferCard;
  const ask = { recipient: card.publicKey, reason: 'migration', reference: '', days: 7, ...(people.length > 0 ? { people } : {}) };
  return (await here.act('transfer.file', ask)) as { transfer: string; sign: string };
};
const page = async (transfer: string, after?: string) =>
  (await here.act('transfer.page', { transfer, ...(after ? { after } : {}) })) as TransferLine[];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-transfers-'));
  here = await HouseInProcess.open({ settings, agents });
  there = await HouseInProcess.open({ settings });
  const alice = await enrolDevice(here, 'alice@corp.example');
  await keysOf(here, alice);
  await appoint();
  await here.act('documents.recovery-on', { address: 'documents@corp.example' });
  mallory = await enrolDevice(there, 'mallory@corp.example');
  await enrolDevice(there, 'alice@corp.example');
  officers = [await TestAdministrator.register(there, 'anna'), await TestAdministrator.register(there, 'boris')];
  const { transfer, sign: bytes } = await filed();
  await approved(transfer, Buffer.from(bytes, 'base64'));
  path = join(folder, 'package');
  lines = await written(path, transfer);
});
/** The file of an approved transfer; resolves with its lines of keys. */
async function written(to: string, transfer: string): Promise<string[]> {
  await writeTransfer(to, (await here.act('transfer.head', { transfer })) as TransferHead, {
    page: (after) => page(transfer, after),
    close: async (of) => (await here.act('transfer.close', { transfer, ...of })) as string,
    say: () => undefined,
  });
  return readFileSync(to, 'utf8').trim().split('\n').slice(1, -1);
}
afterAll(async () => {
  await here?.close();
  await there?.close();
  rmSync(folder, { recursive: true, force: true });
});

const root = () => rootIn(Buffer.from(here.root));
const what = async (owners: [string, string][], of = path) => {
  const { file } = await verifyTransfer(of, root());
  return { path: of, file, sender: base64url(sha256(root())), root: root().toString('base64'), owners };
};
const idOf = ({ file, sender, owners }: Awaited<ReturnType<typeof what>>) => acceptanceId({ file, root: sender, owners });
const request = async (args: object): Promise<string> => {
  const asked = await there.act('transfer.accept', args).catch((error: unknown) => error);
  if (!(asked instanceof RequestFiled)) throw asked;
  return asked.request.id;
};
const take = (acceptance: string, line: string) =>
  there.act('transfer.take', { acceptance, line }).then(
    (said) => said as ImportedKey,
    ({ code }: { code: string }) => code,
  );
const TO_MALLORY: [string, string][] = [
  ['alice@corp.example', 'mallory@corp.example'],
  ['documents@corp.example', 'mallory@corp.example'],
];

test('one operator alone gets nothing of a transfer; what two officers accepted comes in, line by line, whose they said', async () => {
  expect(lines).toHaveLength(2);
  const asked = await what(TO_MALLORY);
  const id = await request(asked);
  for (const line of lines) expect(await take(idOf(asked), line)).toBe('transfer-not-accepted');
  expect(await officers[0]?.approve(id)).toMatchObject({ status: 200, json: { state: 'open' } });
  expect(await take(idOf(asked), lines[0] ?? '')).toBe('transfer-not-accepted');

  // What they accept is other owners than the operator would have.
  const right = await what([['documents@corp.example', 'alice@corp.example']]);
  const other = await request(right);
  for (const officer of officers) await officer.approve(other);
  expect(await there.act('transfer.accepted', { acceptance: idOf(right) })).toBe(true);
  expect(await there.act('transfer.accepted', { acceptance: idOf(asked) })).toBe(false);
  expect(await there.log(20)).toContainEqual(
    expect.objectContaining({
      action: 'transfer.accept',
      outcome: 'done',
      facts: { file: right.file, root: right.sender, keys: 2, people: 1 },
    }),
  );
  const bend = (line: string, change: object) => JSON.stringify({ ...JSON.parse(line), ...change });
  const bent = lines.flatMap((line) => [
    bend(line, { addresses: ['mallory@corp.example'] }),
    bend(line, { employee: mallory.employee }),
    bend(line, { quorum: undefined, bits: 2049 }),
  ]);
  const { storage, audit, clock } = there.house;
  const seal = await RowSeal.open(storage, there.token);
  const guard = {
    file: 'src/custody/accepted-transfers.ts',
    guard: 'if (!accepted.lines.has(base64url(sha256(line))))',
    instead: 'if (false)',
  };
  const off = new (guardOff<{ AcceptedTransfers: typeof AcceptedTransfers }>(guard).AcceptedTransfers)({ storage, audit, seal, clock });
  for (const line of bent) {
    expect(await take(idOf(right), line)).toBe('transfer-not-accepted');
    expect(await off.keyOf(idOf(right), line)).toHaveProperty('key');
  }

  for (const line of lines) expect(await take(idOf(right), line)).toMatchObject({ outcome: 'imported' });
  for (const line of lines) expect(await take(idOf(right), line)).toMatchObject({ outcome: 'there' });
  const taken = await storage.all<{ mode: string; address: string }>(
    "SELECT k.mode, b.address FROM keys k JOIN bindings b ON b.employee = k.employee WHERE k.origin = 'imported' ORDER BY k.mode",
  );
  expect(taken).toEqual([
    { mode: 'deliver', address: 'alice@corp.example' },
    { mode: 'quorum', address: 'alice@corp.example' },
  ]);
});

test('officers accept no file that its sender did not sign, none that was changed since, and no row that somebody wrote', async () => {
  const fails = async (args: object) => {
    const id = await request(args);
    await officers[0]?.approve(id);
    return (await officers[1]?.approve(id))?.json as { state: string; reason?: string };
  };
  const copy = join(folder, 'copy');
  writeFileSync(copy, readFileSync(path));
  const asked = await what([], copy);
  const foreign = rootIn(Buffer.from(there.root));
  expect(await fails({ ...asked, sender: base64url(sha256(foreign)), root: foreign.toString('base64') })).toMatchObject({
    reason: 'statement-invalid',
  });
  expect(await fails({ ...asked, file: base64url(sha256('another')) })).toMatchObject({ reason: 'transfer-file-other' });
  expect(await fails({ ...asked, path: join(folder, 'none') })).toMatchObject({ reason: 'transfer-file-unreadable' });
  writeFileSync(copy, readFileSync(copy, 'utf8').replace('alice@corp.example', 'mallory@corp.example'));
  expect(await fails(asked)).toMatchObject({ reason: 'transfer-file-malformed' });
  expect(await there.act('transfer.accepted', { acceptance: idOf(asked) })).toBe(false);

  const id = idOf(await what(TO_MALLORY));
  await there.db.write((unit) =>
    unit.run(
      "INSERT INTO transfer_acceptances (id, lines, owners, mac, created) SELECT ?, lines, ?, mac, created FROM transfer_acceptances WHERE owners <> '[]' LIMIT 1",
      [id, JSON.stringify(TO_MALLORY)],
    ),
  );
  expect(await take(id, lines[0] ?? '')).toBe('transfer-not-accepted');
});

test('a transfer that was taken back gives no key more, not to whoever writes the database, nor after a restore', async () => {
  const { transfer, sign: bytes } = await filed();
  await approved(transfer, Buffer.from(bytes, 'base64'));
  expect(await page(transfer)).toContainEqual(expect.objectContaining({ content: expect.any(String) }));
  await here.act('transfer.end', { transfer });
  await expect(here.act('transfer.end', { transfer })).rejects.toMatchObject({ code: 'transfer-ended' });
  await expect(here.act('transfer.end', { transfer: 'none' })).rejects.toMatchObject({ code: 'transfer-unknown' });
  expect(await openIntents(here.db)).toEqual([]);
  await here.db.write((unit) => unit.run('UPDATE transfers SET ended = NULL WHERE id = ?', [transfer]));
  await expect(page(transfer)).rejects.toMatchObject({ code: 'transfer-ended' });

  // A token that knows nothing of it, as after a restore, hears of it from the rows.
  await here.token.unblock(transfer);
  expect(await page(transfer)).toContainEqual(expect.objectContaining({ content: expect.any(String) }));
  await here.db.write((unit) => unit.run('UPDATE transfers SET ended = 1 WHERE id = ?', [transfer]));
  await here.house.transfers.tellTokenAll();
  await expect(page(transfer)).rejects.toMatchObject({ code: 'transfer-ended' });
});

describe('how keys lived where they come from', () => {
  const of = 'bob@corp.example';
  const FILE = 'src/custody/key-imports.ts';
  let bob: WireDevice;
  let sent: string[];
  const parsed = () => sent.map((line) => JSON.parse(line) as TransferredKey);

  beforeAll(async () => {
    bob = await enrolDevice(here, of);
    await here.house.pool.fill(1);
    const [active] = await keysOf(here, bob);
    await here.db.write((unit) => unit.run('UPDATE keys SET created = 5 WHERE id = ?', [active?.id ?? '']));
    for (const because of ['compromised', 'superseded']) {
      await here.act('key.replace', { address: of, because });
      await here.house.pool.fill(1);
      await here.house.issuance.serveWaiting();
    }
    const now = (await keysOf(here, bob)).find(({ state }) => state === 'active');
    await here.act('key.change', { id: now?.id ?? '', state: 'suspended', reason: 'legal' });
    await here.act('hold.place', { who: bob.employee, reference: 'case 7' });
    await enrolDevice(there, of);
    const { transfer, sign: bytes } = await filed(bob.employee);
    await approved(transfer, Buffer.from(bytes, 'base64'));
    const to = join(folder, 'bobs');
    sent = await written(to, transfer);
    await officersAccept(await what([], to));
  });
  const officersAccept = async (args: Awaited<ReturnType<typeof what>>) => {
    const id = await request(args);
    for (const officer of officers) await officer.approve(id);
    expect(await there.act('transfer.accepted', { acceptance: idOf(args) })).toBe(true);
    accepted = idOf(args);
  };
  let accepted: string;
  const employeeThere = async () =>
    (await there.db.one<{ employee: string }>('SELECT employee FROM bindings WHERE address = ? AND to_time IS NULL', [of]))?.employee ?? '';

  test('states, dates with reasons and legal holds are in what the sender signed, and are so at the receiver: what was suspended opens nothing, what is held is not destroyed, none becomes active', async () => {
    expect(
      parsed()
        .map(({ state }) => state)
        .sort(),
    ).toEqual(['compromised', 'deactivated', 'suspended']);
    for (const { life } of parsed()) expect(life?.holds).toMatchObject([{ reference: 'case 7' }]);
    for (const line of sent) {
      const { state } = JSON.parse(line) as TransferredKey;
      const said = (await take(accepted, line)) as ImportedKey;
      expect(said).toMatchObject({ outcome: 'imported', words: expect.stringContaining('on legal hold') });
      if (state !== 'deactivated') expect(said.words).toContain(`it is ${state} there`);
    }
    const { keys, holds } = await there.house.lives.of(await employeeThere());
    const received = keys.filter(({ imported }) => imported);
    expect(received.map(({ state }) => state).sort()).toEqual(['compromised', 'deactivated', 'suspended']);
    expect(received.find(({ state }) => state === 'compromised')?.changes).toMatchObject([
      { state: 'active', reason: 'birth', time: 5, elsewhere: true },
      { state: 'compromised', reason: 'compromised', elsewhere: true },
    ]);
    expect(holds).toMatchObject([{ reference: 'case 7', lifted: null }]);
    for (const { id } of received) {
      await expect(there.house.lives.setState(id, 'destroyed', 'request', BY)).rejects.toMatchObject({ code: 'key-held' });
      await expect(there.house.lives.setState(id, 'active', 'other', BY)).rejects.toMatchObject({ code: 'key-state' });
    }
    // The token process knows of the hold too, and of what it is that is not handed out.
    await there.db.write((unit) => unit.run('DELETE FROM key_holds', []));
    await expect(there.house.lives.setState(received[0]?.id ?? '', 'destroyed', 'request', BY)).rejects.toMatchObject({
      code: 'key-held',
    });
    for (const line of sent) expect(await take(accepted, line)).toMatchObject({ outcome: 'there' });
    expect((await there.house.lives.of(await employeeThere())).holds).toHaveLength(1);
  });

  test('with the guards off a suspended key is one that opens, and a held one is destroyed; an older file says nothing, and so does the report', async () => {
    const other = await HouseInProcess.open({ settings });
    try {
      await enrolDevice(other, of);
      const { storage, audit, token, employees, second, lives, clock, transferKeys } = other.house;
      const [first] = parsed();
      const suspended = parsed().find(({ state }) => state === 'suspended') ?? first;
      if (!suspended) throw new Error('no key was sent');
      const parts = { storage, audit, token, employees, second, lives, clock, transferKeys, mode: 'deliver' as const };
      // What is sealed to this one: the content of another key of ours, made here.
      const card = (await other.act('transfer.key', {})) as TransferCard;
      const ask = { recipient: card.publicKey, reason: 'migration', reference: '', days: 7, people: [bob.employee] };
      const { transfer, sign: bytes } = (await here.act('transfer.file', ask)) as { transfer: string; sign: string };
      await approved(transfer, Buffer.from(bytes, 'base64'));
      const again = (await page(transfer)) as TransferredKey[];
      const Unguarded = guardOff<typeof keyImports>(
        {
          file: FILE,
          guard: "state === 'suspended' || state === 'compromised' ? { state } : {};\n    const to",
          instead: '{};\n    const to',
        },
        { guard: 'if (life) await lives.received(', instead: 'if (false) await lives.received(' },
        { guard: 'if (life) await lives.settleHold(', instead: 'if (false) await lives.settleHold(' },
      ).KeyImports;
      const [one, two] = again.filter(({ state }) => state !== 'deactivated');
      if (!one || !two) throw new Error('they were not sent');
      const taken = await new Unguarded(parts).receive({ key: one, dryRun: false }, BY);
      const stood = await other.db.one('SELECT state FROM keys WHERE id = ?', [taken.key ?? '']);
      expect(stood).toEqual({ state: 'deactivated' });
      await other.act('key.change', { id: taken.key ?? '', state: 'destroyed', reason: 'request' });

      const { life: _, ...older } = two;
      const said = await other.house.imports.receive({ key: older, dryRun: false }, BY);
      expect(said).toMatchObject({ outcome: 'imported', words: expect.stringContaining('older version') });
      expect(await other.db.one('SELECT state FROM keys WHERE id = ?', [said.key ?? ''])).toEqual({ state: two.state });
      expect(
        await other.house.imports.receive({ key: { ...one, publicKey: suspended.publicKey, state: 'destroyed' }, dryRun: false }, BY),
      ).toMatchObject({
        outcome: 'refused',
        code: 'key-destroyed',
      });
    } finally {
      await other.close();
    }
  });
});
