import 'reflect-metadata'; // what @peculiar/x509 injects with
import { generateKeyPairSync, sign } from 'node:crypto';
import { beforeAll, expect, test } from '@jest/globals';
import { hashChildren } from '../../src/codec/merkle/index.js';
import { base64url, newId, SystemClock, sha256 } from '../../src/foundation/index.js';
import { type AuthorityCertificates, makeAuthorities } from '../../src/tokens/authorities.js';
import { MemoryHsm } from '../../src/tokens/memory-hsm.js';
import { AGENTS_ID, type BindingRecord, type KeyRecord, macInput } from '../../src/tokens/records.js';
import { applianceName } from '../../src/tokens/recovery.js';
import type { AdoptedKey, TransferKey } from '../../src/tokens/token.js';
import { type TransferRequest, transferBytes } from '../../src/tokens/transfer.js';
import { acceptedLeaf, type TransferAcceptance, transferAcceptanceBytes } from '../../src/tokens/transfer-acceptance.js';
import { Warden } from '../../src/tokens/warden.js';
import { type Guard, guardOff } from '../support/guard-off.js';

const pairs = ['Mona', 'Nils'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
const agents = {
  quorum: 1, // two, all the same
  agents: pairs.map(({ name, publicKey }) => ({ name, publicKey: publicKey.export({ format: 'der', type: 'spki' }) })),
};
const approvalsOf = (request: TransferRequest, who = pairs) =>
  who.map(({ name, privateKey }) => ({ agent: name, signature: sign(null, transferBytes(request), privateKey) }));

const here = new MemoryHsm();
const there = new MemoryHsm();
let authorities: AuthorityCertificates;
let receiver: Warden;
let receiverAuthorities: AuthorityCertificates;
let transferKey: TransferKey;
let key: KeyRecord;
let blob: { wrapped: Buffer; publicKey: Buffer };
let request: TransferRequest;

beforeAll(async () => {
  const settings = { organisation: 'Test', domains: [], publicName: 'localhost', urls: () => ({ crl: 'http://a/', issuer: 'http://a/' }) };
  authorities = await makeAuthorities(here, settings as never, new Date());
  receiverAuthorities = await makeAuthorities(there, settings as never, new Date());
  receiver = new Warden(there, receiverAuthorities, new SystemClock(), agents);
  binding = {
    ...{ type: 'binding', id: newId(), version: 3, employee: TOWARDS.employee, address: 'alice@corp.example', from: 1, to: null },
  };
  const pair = here.generatePair({ suite: 'rsa', bits: 2048 });
  blob = { wrapped: pair.wrapped, publicKey: pair.publicKey };
  key = {
    ...{ type: 'key', id: newId(), version: 1, employee: newId(), suite: 'rsa', bits: 2048, state: 'active', mode: 'deliver', kek: '1' },
    ...{ publicKey: base64url(sha256(pair.publicKey)), wrapped: base64url(sha256(pair.wrapped)) },
  };
  transferKey = (await receiver.run('makeTransferKey', { id: newId(), expires: Date.now() + 60_000 })).value as TransferKey;
  request = {
    ...{ v: 1, transfer: newId(), appliance: applianceName(authorities.root), to: base64url(sha256(transferKey.publicKey)) },
    ...{ employees: [key.employee], reason: 'migration', reference: '', expires: Date.now() + 60_000 },
  };
});

const sent = (bend: object = {}, of: typeof Warden = Warden) => {
  const sealed = { record: key, mac: here.mac(macInput(key)) };
  const ask = { request, approvals: approvalsOf(request), key: sealed, blob, recipient: transferKey.publicKey, ...bend };
  return new of(here, authorities, new SystemClock(), agents).run('transferOut', ask).then(
    ({ value }) => value as Buffer,
    (error: { code: string }) => error.code,
  );
};
const changed = (change: Partial<TransferRequest>) => ({
  request: { ...request, ...change },
  approvals: approvalsOf({ ...request, ...change }),
});

const TOWARDS = { key: newId(), employee: newId(), mode: 'deliver' as const };
let binding: BindingRecord;
/** Of the address that its owner has here, unless a test says otherwise. */
const sealedBinding = (bend: Partial<BindingRecord> = {}) => {
  const record = { ...binding, ...bend };
  return { record, mac: there.mac(macInput(record)) };
};
interface Bring {
  /** Of the line that is brought. */
  line?: object;
  /** Of the acceptance, before it is signed. */
  paper?: Partial<TransferAcceptance>;
  /** Of what is brought beside an acceptance that stays as it was signed. */
  accepted?: object;
  /** Whose the list of owners says that it becomes. */
  owner?: string;
  to?: object;
  by?: typeof pairs;
  ask?: object;
}
/** A file of two lines of which the second is brought, accepted by two agents of the receiver. */
async function bring(
  { line = {}, paper = {}, accepted = {}, owner, to = {}, by = pairs, ask = {} }: Bring = {},
  of: typeof Warden = Warden,
) {
  const content = ((await sent()) as Buffer).toString('base64');
  const own = { state: 'active', addresses: ['Alice@corp.example'] };
  const text = JSON.stringify({ publicKey: blob.publicKey.toString('base64'), content, ...own, ...line });
  const other = acceptedLeaf('another', undefined);
  const acceptance: TransferAcceptance = {
    ...{ v: 1, acceptance: newId(), appliance: applianceName(receiverAuthorities.root), file: ANY, root: ANY, owners: ANY, keys: 2 },
    tree: base64url(hashChildren(sha256, other, acceptedLeaf(text, owner))),
    expires: Date.now() + 60_000,
    ...paper,
  };
  const signed = transferAcceptanceBytes(acceptance);
  const approvals = by.map(({ name, privateKey }) => ({ agent: name, signature: sign(null, signed, privateKey) }));
  const whose = owner === undefined ? {} : { owner };
  return new of(there, receiverAuthorities, new SystemClock(), agents).run('takeIn', {
    transferKey: transferKey.sealed,
    blob: { wrapped: transferKey.wrapped, publicKey: transferKey.publicKey },
    accepted: { acceptance, approvals, line: text, index: 1, proof: [other], binding: sealedBinding(), ...whose, ...accepted },
    to: { ...TOWARDS, ...to },
    ...ask,
  });
}
const ANY = base64url(sha256(Buffer.of(0)));

test('a key goes from token to token, and is the same one there, for reading only', async () => {
  const { value, claims } = await bring();
  const taken = value as AdoptedKey;
  expect(taken.publicKey).toEqual(blob.publicKey);
  expect(taken.key.record).toMatchObject({
    ...{ id: TOWARDS.key, employee: TOWARDS.employee, state: 'deactivated', origin: 'imported', bits: 2048 },
  });
  expect(claims).toEqual([
    { kind: 'version', id: AGENTS_ID, version: 1 },
    { kind: 'open', id: expect.any(String), code: 'transfer-ended' },
    { kind: 'version', id: binding.id, version: binding.version },
  ]);
  const ended = { ...transferKey.sealed.record, expires: Date.now() - 1 };
  const content = (await sent()) as Buffer;
  const bent = Buffer.from(content);
  bent[bent.length - 1] = (bent.at(-1) ?? 0) ^ 1;
  const refused: [Bring, string][] = [
    [{ line: { publicKey: own().toString('base64') } }, 'key-foreign'],
    [{ line: { content: bent.toString('base64') } }, 'blob-corrupt'],
    [{ line: { content: content.subarray(1).toString('base64') } }, 'delivery-malformed'],
    [{ line: { state: 'destroyed' } }, 'key-not-deliverable'],
    [{ ask: { transferKey: { ...transferKey.sealed, record: ended } } }, 'record-forged'],
    [{ ask: { transferKey: { record: ended, mac: there.mac(macInput(ended)) } } }, 'transfer-expired'],
    [{ ask: { blob: { wrapped: blob.wrapped, publicKey: transferKey.publicKey } } }, 'blob-forged'],
    [{ paper: { expires: Date.now() - 1 } }, 'transfer-expired'],
    [{ paper: { expires: Date.now() + 31 * 86_400_000 } }, 'transfer-expired'],
    [{ accepted: { approvals: [] } }, 'recovery-not-approved'],
    [{ line: { quorum: true }, to: { mode: 'remote' } }, 'transfer-not-accepted'],
    [
      {
        ...{ owner: TOWARDS.employee, to: { shared: true }, paper: { mailboxes: ['sales@corp.example'] } },
        accepted: { binding: sealedBinding({ employee: newId(), address: 'sales@corp.example' }) },
      },
      'transfer-not-accepted',
    ],
    [{ accepted: { binding: { ...sealedBinding(), record: { ...binding, employee: newId() } } } }, 'record-forged'],
  ];
  for (const [how, code] of refused) await expect(bring(how)).rejects.toMatchObject({ code });
  expect(((await bring({ line: { quorum: true }, to: { mode: 'quorum' } })).value as AdoptedKey).key.record.mode).toBe('quorum');
  for (const state of ['suspended', 'compromised'])
    expect(((await bring({ line: { state } })).value as AdoptedKey).key.record.state).toBe(state);
  for (const owner of [TOWARDS.employee, 'ALICE@CORP.example']) await expect(bring({ owner })).resolves.toBeDefined();
});

const WARDEN = 'src/tokens/warden.ts';
const OWNER = { file: WARDEN, guard: 'requireOwner(accepted, sent, { ...to, binding });', instead: '' };
const SIGNED = {
  file: WARDEN,
  guard: 'requireTransfer(transferAcceptanceBytes(acceptance), acceptance, approvals, agents, this.clock.now());',
  instead: '',
};
const STANDS = { file: WARDEN, guard: 'const sent = acceptedKey(accepted);', instead: 'const sent = JSON.parse(accepted.line);' };
const mallory = newId();
/** What a compromised API process would have a key that it cannot open taken in by, to read with it. */
const TAKEN: [string, string, () => Bring, Guard][] = [
  ['what nobody accepted', 'recovery-not-approved', () => ({ by: [] }), SIGNED],
  ['what one agent accepted', 'recovery-not-approved', () => ({ by: pairs.slice(1) }), SIGNED],
  [
    'what was accepted for another appliance, whose agents have the same keys',
    'transfer-foreign',
    () => ({ paper: { appliance: ANY } }),
    { file: WARDEN, guard: 'acceptance.appliance !== applianceName(this.authorities.root)', instead: 'false' },
  ],
  ['a line of another file', 'transfer-not-accepted', () => ({ paper: { tree: ANY } }), STANDS],
  [
    'somebody else’s, by a list of owners that was not accepted',
    'transfer-not-accepted',
    () => ({ accepted: { owner: mallory }, to: { employee: mallory } }),
    STANDS,
  ],
  ['somebody else’s, whom nobody named', 'transfer-not-accepted', () => ({ to: { employee: mallory } }), OWNER],
  [
    'somebody else’s than the id in the list says',
    'transfer-not-accepted',
    () => ({ owner: TOWARDS.employee, to: { employee: mallory }, accepted: { binding: sealedBinding({ employee: mallory }) } }),
    OWNER,
  ],
  [
    'somebody’s who has another address',
    'transfer-not-accepted',
    () => ({ to: { employee: mallory }, accepted: { binding: sealedBinding({ employee: mallory, address: 'mallory@corp.example' }) } }),
    OWNER,
  ],
  ['somebody’s who had the address once', 'transfer-not-accepted', () => ({ accepted: { binding: sealedBinding({ to: 1 }) } }), OWNER],
  ['several people’s', 'transfer-not-accepted', () => ({ to: { shared: true }, paper: { mailboxes: ['sales@corp.example'] } }), OWNER],
  [
    'a device’s, where it was a quorum’s',
    'transfer-not-accepted',
    () => ({ line: { quorum: true } }),
    { file: WARDEN, guard: "sent.quorum && to.mode !== 'quorum'", instead: 'false' },
  ],
];
test.each(TAKEN)('%s it does not become; with the guard off it does', async (_, code, how, guard) => {
  await expect(bring(how())).rejects.toMatchObject({ code });
  await expect(bring(how(), guardOff<{ Warden: typeof Warden }>(guard).Warden)).resolves.toBeDefined();
});

test('who is refused because the mailbox is not on the paper is told which acceptance to end first', async () => {
  await expect(bring({ to: { shared: true } })).rejects.toThrow(/\(ekms transfer end [0-9a-f-]{36}\)/);
});

test('a mailbox’s members read with what was accepted as that mailbox’s, and a suspended key is not one that opens', async () => {
  const shared = await bring({ to: { shared: true }, paper: { mailboxes: ['alice@corp.example'] } });
  expect((shared.value as AdoptedKey).key.record.shared).toBe(true);
  const guard = {
    file: WARDEN,
    guard: "sent.state === 'suspended' || sent.state === 'compromised' ? sent.state",
    instead: "false ? 'suspended'",
  };
  const off = await bring({ line: { state: 'suspended' } }, guardOff<{ Warden: typeof Warden }>(guard).Warden);
  expect((off.value as AdoptedKey).key.record.state).toBe('deactivated');
});

const own = () => generateKeyPairSync('rsa', { modulusLength: 3072 }).publicKey.export({ format: 'der', type: 'spki' });
const ATTACKS: [string, string, () => object, Guard][] = [
  [
    'another recipient',
    'transfer-foreign',
    () => ({ recipient: own() }),
    { file: 'src/tokens/warden.ts', guard: '!fits(recipient, request.to)', instead: 'false' },
  ],
  [
    'a transfer of another appliance, whose agents have the same keys',
    'transfer-foreign',
    () => changed({ appliance: base64url(sha256(Buffer.of(1))) }),
    { file: 'src/tokens/warden.ts', guard: 'request.appliance !== applianceName(this.authorities.root)', instead: 'false' },
  ],
  [
    'somebody else’s key',
    'transfer-foreign',
    () => changed({ employees: [newId()] }),
    { file: 'src/tokens/warden.ts', guard: 'request.employees && !request.employees.includes(record.employee)', instead: 'false' },
  ],
  [
    'one agent alone, though the quorum be one',
    'recovery-not-approved',
    () => ({ approvals: approvalsOf(request, pairs.slice(0, 1)) }),
    {
      file: 'src/tokens/warden.ts',
      guard: 'requireTransfer(transferBytes(request), request, approvals, agents, this.clock.now());',
      instead: '',
    },
  ],
];
test.each(ATTACKS)('%s gets nothing; with the guard off it does', async (_, code, bend, guard) => {
  expect(await sent(bend())).toBe(code);
  expect(Buffer.isBuffer(await sent(bend(), guardOff<{ Warden: typeof Warden }>(guard).Warden))).toBe(true);
});

test('what was approved ends, and a request that was changed was not approved', async () => {
  expect(await sent(changed({ expires: Date.now() - 1 }))).toBe('transfer-expired');
  expect(await sent(changed({ expires: Date.now() + 31 * 86_400_000 }))).toBe('transfer-expired');
  expect(await sent({ request: { ...request, reference: 'another' } })).toBe('recovery-not-approved');
  const { employees: _, ...everybody } = request;
  expect(await sent({ request: everybody })).toBe('recovery-not-approved');
  const destroyed = { ...key, state: 'destroyed' as const };
  expect(await sent({ key: { record: destroyed, mac: here.mac(macInput(destroyed)) } })).toBe('key-not-deliverable');
});

test('whether it was taken back is asked of the journal, for each key; with the guard off it is not', async () => {
  const claims = async (of: typeof Warden) => {
    const ask = {
      request,
      approvals: approvalsOf(request),
      key: { record: key, mac: here.mac(macInput(key)) },
      blob,
      recipient: transferKey.publicKey,
    };
    return (await new of(here, authorities, new SystemClock(), agents).run('transferOut', ask)).claims;
  };
  const open = { kind: 'open', id: request.transfer, code: 'transfer-ended' };
  expect(await claims(Warden)).toEqual([
    { kind: 'version', id: AGENTS_ID, version: 1 },
    { kind: 'version', id: key.id, version: key.version },
    open,
  ]);
  const guard = { file: 'src/tokens/warden.ts', guard: "{ kind: 'open', id: request.transfer, code: 'transfer-ended' },", instead: '' };
  expect(await claims(guardOff<{ Warden: typeof Warden }>(guard).Warden)).not.toContainEqual(open);
});
