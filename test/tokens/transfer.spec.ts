import 'reflect-metadata'; // what @peculiar/x509 injects with
import { generateKeyPairSync, sign } from 'node:crypto';
import { beforeAll, expect, test } from '@jest/globals';
import { base64url, newId, SystemClock, sha256 } from '../../src/foundation/index.js';
import { type AuthorityCertificates, makeAuthorities } from '../../src/tokens/authorities.js';
import { MemoryHsm } from '../../src/tokens/memory-hsm.js';
import { type KeyRecord, macInput } from '../../src/tokens/records.js';
import { applianceName } from '../../src/tokens/recovery.js';
import type { AdoptedKey, TransferKey } from '../../src/tokens/token.js';
import { type TransferRequest, transferBytes } from '../../src/tokens/transfer.js';
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
let transferKey: TransferKey;
let key: KeyRecord;
let blob: { wrapped: Buffer; publicKey: Buffer };
let request: TransferRequest;

beforeAll(async () => {
  const settings = { organisation: 'Test', domains: [], publicName: 'localhost', urls: () => ({ crl: 'http://a/', issuer: 'http://a/' }) };
  authorities = await makeAuthorities(here, settings as never, new Date());
  receiver = new Warden(there, await makeAuthorities(there, settings as never, new Date()), new SystemClock());
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

test('a key goes from token to token, and is the same one there, for reading only', async () => {
  const content = (await sent()) as Buffer;
  const to = { publicKey: key.publicKey, key: newId(), employee: newId(), mode: 'deliver' };
  const ask = { transferKey: transferKey.sealed, content, to };
  const bring = (bend: object) =>
    receiver.run('takeIn', { ...ask, blob: { wrapped: transferKey.wrapped, publicKey: transferKey.publicKey }, ...bend });
  const taken = (await bring({})).value as AdoptedKey;
  expect(taken.publicKey).toEqual(blob.publicKey);
  expect(taken.key.record).toMatchObject({
    ...{ id: to.key, employee: to.employee, state: 'deactivated', origin: 'imported', bits: 2048 },
  });
  await expect(bring({ to: { ...to, publicKey: base64url(sha256(Buffer.of(1))) } })).rejects.toMatchObject({ code: 'key-foreign' });
  const bent = Buffer.from(content);
  bent[bent.length - 1] = (bent.at(-1) ?? 0) ^ 1;
  await expect(bring({ content: bent })).rejects.toMatchObject({ code: 'blob-corrupt' });
  await expect(bring({ content: content.subarray(1) })).rejects.toMatchObject({ code: 'delivery-malformed' });
  const ended = { ...transferKey.sealed.record, expires: Date.now() - 1 };
  await expect(bring({ transferKey: { ...transferKey.sealed, record: ended } })).rejects.toMatchObject({ code: 'record-forged' });
  await expect(bring({ transferKey: { record: ended, mac: there.mac(macInput(ended)) } })).rejects.toMatchObject({
    code: 'transfer-expired',
  });
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
      guard: 'requireTransfer(request, approvals, agents, this.clock.now());',
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
  expect(await claims(Warden)).toContainEqual(open);
  const guard = { file: 'src/tokens/warden.ts', guard: "{ kind: 'open', id: request.transfer, code: 'transfer-ended' },", instead: '' };
  expect(await claims(guardOff<{ Warden: typeof Warden }>(guard).Warden)).not.toContainEqual(open);
});
