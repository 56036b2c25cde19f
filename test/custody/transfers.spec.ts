import 'reflect-metadata';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { parseEnvelopedKey } from '../../src/codec/cms/index.js';
import { reconcile } from '../../src/commands/reconcile.js';
import { rootIn, verifyTransfer, writeTransfer } from '../../src/commands/transfer-file.js';
import { prepareEscrow } from '../../src/custody/escrow-journal.js';
import * as fromEscrow from '../../src/custody/from-escrow.js';
import {
  type FiledAcceptance,
  type ImportedKey,
  LinesWithOwners,
  type TransferCard,
  type TransferHead,
  type TransferLine,
  type TransferredKey,
} from '../../src/custody/index.js';
import type * as keyImports from '../../src/custody/key-imports.js';
import type * as keyTransfers from '../../src/custody/key-transfers.js';
import { base64url, newId, sha256 } from '../../src/foundation/index.js';
import { openIntents } from '../../src/storage/index.js';
import { type Appointment, applianceName, appointmentBytes } from '../../src/tokens/index.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);
const pairs = ['Mona', 'Nils'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
const listOf = (of: typeof pairs) => ({
  quorum: 2,
  agents: of.map(({ name, publicKey }) => ({ name, publicKey: publicKey.export({ format: 'der', type: 'spki' }) })),
});
/** The receiver has agents of its own. */
const receivers = ['Petra', 'Quentin'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
const BY = { kind: 'operator' } as const;
const settings = { keys: { bits: 2048, pool: { target: 2 } } };

let folder: string;
let here: HouseInProcess;
let there: HouseInProcess;
let mallory: WireDevice;
/** The receiver's second place. */
let second: string;
let path: string;
/** Lines of keys in the file. */
let lines: string[];

/** The same list once more, as the row that the API process has of a list that was appointed. */
async function appoint(to: HouseInProcess, of: typeof pairs): Promise<void> {
  const { authorities, recoveryAgents } = to.house;
  const list = { quorum: 2, agents: listOf(of).agents.map(({ name, publicKey }) => ({ name, publicKey: base64url(publicKey) })) };
  const appointment: Appointment = { v: 1, appliance: applianceName(authorities.root), version: 2, list };
  const approvals = of.map(({ name, privateKey }) => ({
    agent: name,
    signature: sign(null, appointmentBytes(appointment), privateKey),
  }));
  const { record, mac } = await to.token.appoint({ appointment, approvals });
  await to.db.write((unit) =>
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
  here = await HouseInProcess.open({ settings, agents: listOf(pairs) });
  second = join(folder, 'second');
  await prepareEscrow(second, tmpdir(), true);
  const two = { ...settings, durability: 'two', escrow: { directory: second } };
  there = await HouseInProcess.open({ settings: two, agents: listOf(receivers) });
  const alice = await enrolDevice(here, 'alice@corp.example');
  await keysOf(here, alice);
  await appoint(here, pairs);
  await appoint(there, receivers);
  await here.act('documents.recovery-on', { address: 'documents@corp.example' });
  mallory = await enrolDevice(there, 'mallory@corp.example');
  await enrolDevice(there, 'alice@corp.example');
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
const accept = async (args: object) => (await there.act('transfer.accept', args)) as FiledAcceptance;
const approveThere = async ({ acceptance, sign: bytes }: FiledAcceptance, by = receivers, to = there) => {
  for (const { name, privateKey } of by)
    await to.act('transfer.approve', {
      transfer: acceptance,
      by: { agent: name, signature: sign(null, Buffer.from(bytes, 'base64'), privateKey).toString('base64') },
    });
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

test('nobody alone gets anything of a transfer; what two agents accepted comes in, line by line, whose they said', async () => {
  expect(lines).toHaveLength(2);
  const asked = await accept(await what(TO_MALLORY));
  expect(asked).toMatchObject({ approvals: 0, quorum: 2, request: { keys: 2 } });
  for (const line of lines) expect(await take(asked.acceptance, line)).toBe('recovery-not-approved');
  await approveThere(asked, receivers.slice(0, 1));
  expect(await take(asked.acceptance, lines[0] ?? '')).toBe('recovery-not-approved');
  expect(await accept(await what(TO_MALLORY))).toMatchObject({ acceptance: asked.acceptance, approvals: 1 });

  // What they accept is other owners than the operator would have.
  const right = await what([['documents@corp.example', 'alice@corp.example']]);
  const filed = await accept(right);
  await approveThere(filed);
  expect(await accept(right)).toMatchObject({ acceptance: filed.acceptance, approvals: 2 });
  expect(await there.act('transfer.list', {})).toContainEqual(
    expect.objectContaining({ transfer: filed.acceptance, owners: right.owners, approvals: ['Petra', 'Quentin'] }),
  );
  await expect(there.act('transfer.page', { transfer: filed.acceptance })).rejects.toMatchObject({ code: 'transfer-incoming' });
  expect(await there.log(20)).toContainEqual(
    expect.objectContaining({
      ...{ action: 'transfer.accept', outcome: 'done', subject: filed.acceptance },
      facts: expect.objectContaining({ file: right.file, root: right.sender, keys: 2, people: 1 }),
    }),
  );
  const bend = (line: string, change: object) => JSON.stringify({ ...JSON.parse(line), ...change });
  for (const line of lines)
    for (const bent of [
      bend(line, { addresses: ['mallory@corp.example'] }),
      bend(line, { employee: mallory.employee }),
      bend(line, { quorum: undefined, bits: 2049 }),
    ])
      expect(await take(filed.acceptance, bent)).toBe('transfer-not-accepted');

  // Whoever writes the database has the rows fit other owners, or other lines: the token process holds them against what was signed.
  const before = await there.db.one<{ leaves: Buffer; owners: string }>('SELECT leaves, owners FROM transfer_acceptances WHERE id = ?', [
    filed.acceptance,
  ]);
  const rows = async (leaves: Buffer, owners: string) => {
    await there.db.write((unit) =>
      unit.run('UPDATE transfer_acceptances SET leaves = ?, owners = ? WHERE id = ?', [leaves, owners, filed.acceptance]),
    );
    await accept(await what([])).then(({ acceptance }) => take(acceptance, lines[0] ?? '')); // which has the rows read anew
  };
  const theirs = new LinesWithOwners(new Map(TO_MALLORY));
  for (const line of lines) theirs.add(line, JSON.parse(line) as TransferLine);
  await rows(theirs.all.leaves, JSON.stringify(TO_MALLORY));
  for (const line of lines) expect(await take(filed.acceptance, line)).toBe('transfer-not-accepted');
  await rows(before?.leaves ?? Buffer.alloc(0), before?.owners ?? '');

  for (const line of lines) expect(await take(filed.acceptance, line)).toMatchObject({ outcome: 'imported' });
  for (const line of lines) expect(await take(filed.acceptance, line)).toMatchObject({ outcome: 'there' });
  const taken = await there.db.all<{ mode: string; address: string }>(
    "SELECT k.mode, b.address FROM keys k JOIN bindings b ON b.employee = k.employee WHERE k.origin = 'imported' ORDER BY k.mode",
  );
  expect(taken).toEqual([
    { mode: 'deliver', address: 'alice@corp.example' },
    { mode: 'quorum', address: 'alice@corp.example' },
  ]);
});

test('agents are shown no file that its sender did not sign, nor one that was changed since', async () => {
  const fails = (args: object) =>
    accept(args).then(
      () => 'filed',
      ({ code }: { code: string }) => code,
    );
  const copy = join(folder, 'copy');
  writeFileSync(copy, readFileSync(path));
  const asked = await what([['x@corp.example', 'y@corp.example']], copy);
  const foreign = rootIn(Buffer.from(there.root));
  const root = foreign.toString('base64');
  expect(await fails({ ...asked, sender: base64url(sha256(foreign)), root })).toBe('statement-invalid');
  expect(await fails({ ...asked, sender: base64url(sha256(foreign)) })).toBe('certificate-malformed');
  expect(await fails({ ...asked, file: base64url(sha256('another')) })).toBe('transfer-file-other');
  expect(await fails({ ...asked, path: join(folder, 'none') })).toBe('transfer-file-unreadable');
  writeFileSync(copy, readFileSync(copy, 'utf8').replace('alice@corp.example', 'mallory@corp.example'));
  expect(await fails(asked)).toBe('transfer-file-malformed');
});

test('an acceptance that was taken back, or whose time is over, takes nothing in, not for whoever writes the database, nor after a restore', async () => {
  const [line = ''] = lines;
  const filed = await accept(
    await what([
      ['alice@corp.example', mallory.employee],
      ['documents@corp.example', mallory.employee],
    ]),
  );
  const { acceptance: id } = filed;
  await approveThere(filed);
  const takeIn = async () => {
    const { key, accepted } = await there.house.acceptedTransfers.keyOf(id, line);
    const sealed = await there.house.transferKeys.find(parseEnvelopedKey(Buffer.from(key.content, 'base64')).keyIdentifier);
    const to = { key: newId(), employee: mallory.employee, mode: 'quorum' } as const;
    return there.token.takeIn({ ...sealed, accepted, to }).then(
      () => 'taken',
      ({ code }: { code: string }) => code,
    );
  };
  expect(await takeIn()).toBe('taken');
  there.pass(31 * 86_400_000);
  expect(await takeIn()).toBe('transfer-expired');
  there.pass(-31 * 86_400_000);
  await there.act('transfer.end', { transfer: id });
  await there.db.write((unit) => unit.run('UPDATE transfers SET ended = NULL WHERE id = ?', [id]));
  expect(await takeIn()).toBe('transfer-ended');
  await there.token.unblock(id);
  expect(await takeIn()).toBe('taken');
  await there.db.write((unit) => unit.run('UPDATE transfers SET ended = 1 WHERE id = ?', [id]));
  await there.house.transfers.tellTokenAll();
  expect(await takeIn()).toBe('transfer-ended');
});

test('what has come to its end is asked for anew, signatures of others count for nobody, and the mailboxes that several people read are named to who signs', async () => {
  await there.act('mailbox.create', { address: 'sales@corp.example' });
  const asked = await what([['alice@corp.example', 'Sales@corp.example']]);
  const first = await accept(asked);
  expect(first.request.mailboxes).toEqual(['sales@corp.example']);
  await there.db.write((unit) =>
    unit.run("INSERT INTO recovery_signatures (paper, agent, signature, time) VALUES (?, 'Petra', ?, 0)", [first.acceptance, Buffer.of(1)]),
  );
  expect(await accept(asked)).toMatchObject({ acceptance: first.acceptance, approvals: 0 });
  await there.act('transfer.end', { transfer: first.acceptance });
  const next = await accept(asked);
  expect(next.acceptance).not.toBe(first.acceptance);
  there.pass(31 * 86_400_000);
  expect((await accept(asked)).acceptance).not.toBe(next.acceptance);
  there.pass(-31 * 86_400_000);
  const line = JSON.parse(lines[0] ?? '') as TransferredKey;
  const both = { ...line, addresses: ['alice@corp.example', 'mallory@corp.example'] };
  expect(await there.house.imports.receive({ key: both }, BY)).toMatchObject({ outcome: 'refused', code: 'owner-ambiguous' });
});

test('a mailbox made after the acceptance was filed is on its paper only once that one was ended', async () => {
  const asked = await what([['alice@corp.example', 'late@corp.example']]);
  const first = await accept(asked);
  await there.act('mailbox.create', { address: 'late@corp.example' });
  expect((await accept(asked)).request).toEqual(first.request);
  await there.act('transfer.end', { transfer: first.acceptance });
  expect((await accept(asked)).request.mailboxes).toEqual(['late@corp.example']);
});

test('a transfer is for some days, and to an RSA key of 3,072 bits or more; its people are told once; taken back and cut off, the token process hears of it at the next start', async () => {
  const card = (await there.act('transfer.key', {})) as TransferCard;
  const ask = { recipient: card.publicKey, reason: 'migration', reference: '', days: 7 };
  const spki = (key: KeyObject) => key.export({ format: 'der', type: 'spki' }).toString('base64');
  for (const days of [0, 31])
    await expect(here.act('transfer.file', { ...ask, days })).rejects.toMatchObject({ code: 'transfer-malformed' });
  for (const recipient of [
    spki(generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey),
    spki(generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey),
    'AAAA',
  ])
    await expect(here.act('transfer.file', { ...ask, recipient })).rejects.toMatchObject({ code: 'recipient-malformed' });

  const { transfer, sign: bytes } = (await here.act('transfer.file', ask)) as { transfer: string; sign: string };
  await approved(transfer, Buffer.from(bytes, 'base64'));
  const told = async () => Number((await here.db.one<{ n: number }>('SELECT COUNT(*) AS n FROM mails'))?.n);
  const before = await told();
  await page(transfer);
  const once = await told();
  expect(once).toBeGreaterThan(before);
  await page(transfer);
  expect(await told()).toBe(once);

  const block = jest.spyOn(here.token, 'block').mockRejectedValueOnce(new Error('killed'));
  await expect(here.act('transfer.end', { transfer })).rejects.toThrow('killed');
  block.mockRestore();
  expect(await page(transfer)).not.toEqual([]);
  await reconcile(here.house);
  await expect(page(transfer)).rejects.toMatchObject({ code: 'transfer-ended' });
});

test('at the desk a foreign signature, one over something else and one that comes too late count for nothing; with the guards off they are written down', async () => {
  const { transfer, sign: bytes } = await filed();
  const [mona, nils] = pairs;
  if (!mona || !nils) throw new Error('there are two');
  const signed = (by: typeof mona, over = Buffer.from(bytes, 'base64')) => ({
    agent: mona.name,
    signature: sign(null, over, by.privateKey),
  });
  const Unguarded = guardOff<typeof keyTransfers>({
    file: 'src/custody/key-transfers.ts',
    guard: 'if (!isApproval(bytesOf(request), approval, agents))',
    instead: 'if (false)',
  }).KeyTransfers;
  const { storage, audit, token, employees, recoveryAgents, mail, lives, clock, authorities } = here.house;
  const off = new Unguarded({ storage, audit, token, employees, agents: recoveryAgents, mail, lives, clock, authorities });
  for (const wrong of [signed(nils), signed(mona, Buffer.from('another')), { ...signed(mona), agent: 'Eve' }]) {
    await expect(here.house.transfers.approve(transfer, wrong, BY)).rejects.toMatchObject({ code: 'approval-invalid' });
    await expect(off.approve(transfer, wrong, BY)).resolves.toBeDefined();
  }
  // The token process believes none of them all the same.
  await expect(page(transfer)).rejects.toMatchObject({ code: 'recovery-not-approved' });
  await approved(transfer, Buffer.from(bytes, 'base64'));
  expect(await page(transfer)).toContainEqual(expect.objectContaining({ content: expect.any(String) }));
  here.pass(8 * 86_400_000);
  try {
    await expect(here.house.transfers.approve(transfer, signed(mona), BY)).rejects.toMatchObject({ code: 'transfer-expired' });
    await expect(page(transfer)).rejects.toMatchObject({ code: 'transfer-expired' });
  } finally {
    here.pass(-8 * 86_400_000);
  }
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
    const asked = await accept(await what([], to));
    await approveThere(asked);
    accepted = asked.acceptance;
  });
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

  test('dates and holds are in the second place too: a restore of a backup from before the transfer has them; with the guard off it has the keys alone', async () => {
    const employee = await employeeThere();
    const state = async () => {
      const { keys, holds } = await there.house.lives.of(employee);
      return [
        keys.filter(({ imported }) => imported).map(({ created: _, ...key }) => key),
        holds.map(({ reference, placed }) => ({ reference, placed })),
      ];
    };
    const before = await state();
    const forget = () =>
      there.db.write(async (unit) => {
        const keys = "(SELECT id FROM keys WHERE employee = ? AND origin = 'imported')";
        for (const [table, column] of [
          ['key_changes', 'key'],
          ['certificates', 'subject_key'],
          ['keys', 'id'],
        ])
          await unit.run(`DELETE FROM ${table} WHERE ${column} IN ${keys}`, [employee]);
        await unit.run('DELETE FROM key_holds', []);
      });
    await forget();
    const unguarded = guardOff<typeof fromEscrow>({
      ...{ file: 'src/custody/from-escrow.ts', guard: 'if (life) await lives.received(', instead: 'if (false) await lives.received(' },
    });
    expect(await unguarded.takeFromEscrow(there.house, second)).toMatchObject({ unreadable: 0, unopenable: 0 });
    expect(await state()).not.toEqual(before);
    expect((await state())[1]).toEqual([]);
    await forget();
    expect(await fromEscrow.takeFromEscrow(there.house, second)).toMatchObject({ unreadable: 0, unopenable: 0 });
    expect(await state()).toEqual(before);
    expect((await state())[1]).toMatchObject([{ reference: 'case 7' }]);
  });

  test('with the guards off a held one is destroyed; an older file says nothing, and so does the report', async () => {
    const other = await HouseInProcess.open({ settings, agents: listOf(receivers) });
    try {
      // Without agents of its own a receiver takes nothing in, and files nothing that nobody could sign.
      const digest = base64url(sha256('a file'));
      const what = { file: digest, root: digest, owners: [] };
      await expect(other.house.acceptedTransfers.file(what, new LinesWithOwners(new Map()).all, BY)).rejects.toMatchObject({
        code: 'no-recovery-agents',
      });
      expect(await other.db.all('SELECT id FROM transfers')).toEqual([]);
      await appoint(other, receivers);
      await enrolDevice(other, of);
      const { storage, audit, token, employees, second, lives, clock, transferKeys, acceptedTransfers, imports } = other.house;
      const parts = { storage, audit, token, employees, second, lives, clock, transferKeys, mode: 'deliver' as const };
      // What is sealed to this one: the content of another key of ours, made here.
      const card = (await other.act('transfer.key', {})) as TransferCard;
      const ask = { recipient: card.publicKey, reason: 'migration', reference: '', days: 7, people: [bob.employee] };
      const { transfer, sign: bytes } = (await here.act('transfer.file', ask)) as { transfer: string; sign: string };
      await approved(transfer, Buffer.from(bytes, 'base64'));
      const again = (await page(transfer)) as TransferredKey[];
      const Unguarded = guardOff<typeof keyImports>(
        { file: FILE, guard: 'if (life) await lives.received(', instead: 'if (false) await lives.received(' },
        { guard: 'if (life) await lives.settleHold(', instead: 'if (false) await lives.settleHold(' },
      ).KeyImports;
      const [one, two] = again.filter(({ state }) => state !== 'deactivated');
      if (!one || !two) throw new Error('they were not sent');
      const { life: _, ...older } = two;
      const destroyed = { ...one, state: 'destroyed' as const };
      const inFile = new LinesWithOwners(new Map());
      for (const line of [one, older, destroyed]) inFile.add(JSON.stringify(line), line);
      const paper = await acceptedTransfers.file(what, inFile.all, BY);
      await approveThere(paper, receivers, other);
      const keyOf = (line: TransferredKey) => acceptedTransfers.keyOf(paper.acceptance, JSON.stringify(line));

      const taken = await new Unguarded(parts).receive(await keyOf(one), BY);
      expect(await other.db.one('SELECT state FROM keys WHERE id = ?', [taken.key ?? ''])).toEqual({ state: one.state });
      await other.act('key.change', { id: taken.key ?? '', state: 'destroyed', reason: 'request' });
      const said = await imports.receive(await keyOf(older), BY);
      expect(said).toMatchObject({ outcome: 'imported', words: expect.stringContaining('older version') });
      expect(await other.db.one('SELECT state FROM keys WHERE id = ?', [said.key ?? ''])).toEqual({ state: two.state });
      expect(await imports.receive(await keyOf(destroyed), BY)).toMatchObject({ outcome: 'refused', code: 'key-destroyed' });
    } finally {
      await other.close();
    }
  });
});
