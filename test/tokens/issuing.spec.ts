import 'reflect-metadata'; // what @peculiar/x509 injects with
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Clock, newId, newSerial, SystemClock } from '../../src/foundation/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { macInput } from '../../src/tokens/records.js';
import { Warden } from '../../src/tokens/warden.js';
import { guardOff } from '../support/guard-off.js';
import { enrol, giveKey, type Held, type Person, tokenHome, URLS } from './process-house.js';

/** What an API process that somebody took over could ask to be certified or opened. Each is refused by one guard of the warden: with it taken out, it is given. */
const now = new SystemClock();
const folder = mkdtempSync(join(tmpdir(), 'ekms-issuing-'));
let token: MemoryToken;
let alice: Person;
let bob: Person;
let held: Held;

beforeAll(async () => {
  const { organisation, domains, publicName, urls } = tokenHome().init;
  token = await MemoryToken.open(join(folder, 'journal'), { organisation, domains, publicName, urls }, now);
  [alice, bob] = [await enrol(token), await enrol(token, 'bob@corp.example')];
  held = await giveKey(token, alice);
}, 60_000);
afterAll(async () => {
  await token?.close();
  rmSync(folder, { recursive: true });
});

const otherKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' });
const named = () => ({ device: newId(), serial: newSerial(), urls: URLS, days: 30 });
const enrolled = ({ enrolment, answer, binding, identity: spki }: Person) => ({ ...named(), enrolment, answer, binding, spki });
const certified = (address: string, { key, blob: { publicKey } }: Held, { binding }: Person) => ({
  ...{ key, binding, shown: address, publicKey, serial: newSerial(), urls: URLS, days: 30 },
});
const ended = async ({ binding }: Person) =>
  token.seal({ ...binding.record, version: binding.record.version + 1, to: Date.now() }, binding);
const later: Clock = { now: () => new Date(Date.now() + 3_600_000) };

type Attempt = [what: string, guard: string, code: string, op: string, args: () => Promise<object> | object, clock?: Clock];
const ATTEMPTS: Attempt[] = [
  [
    'a device for an enrolment that has expired',
    'enrolment.expires <= now.getTime()',
    'enrolment-expired',
    'issueDevice',
    () => enrolled(alice),
    later,
  ],
  [
    'a device with another identity key than the enrolment’s',
    'thumbprint(ask.spki) !== enrolment.jkt',
    'answer-wrong',
    'issueDevice',
    () => ({ ...enrolled(alice), spki: otherKey() }),
  ],
  [
    'a device of bob’s by alice’s enrolment',
    'binding.address !== enrolment.address || binding.to !== null',
    'binding-ended',
    'issueDevice',
    () => ({ ...enrolled(alice), binding: bob.binding }),
  ],
  [
    'a device of somebody whose address has ended',
    'binding.address !== enrolment.address || binding.to !== null',
    'binding-ended',
    'issueDevice',
    async () => ({ ...enrolled(bob), binding: await ended(bob) }),
  ],
  [
    'bob’s address on alice’s key',
    'binding.employee !== key.employee || binding.to !== null',
    'not-the-owner',
    'issuePerson',
    () => certified('bob@corp.example', held, bob),
  ],
  [
    'another address than the one that is bound',
    'parseAddress(ask.shown).key !== binding.address',
    'not-the-owner',
    'issuePerson',
    () => certified('carol@corp.example', held, alice),
  ],
  [
    'another public key under the record of alice’s',
    '!fits(ask.publicKey, key.publicKey)',
    'blob-forged',
    'issuePerson',
    () => ({
      ...certified('alice@corp.example', held, alice),
      publicKey: generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'der', type: 'spki' }),
    }),
  ],
  [
    'a certificate for a key that is deactivated',
    "key.state !== 'active'",
    'key-state',
    'issuePerson',
    async () => ({ ...certified('alice@corp.example', held, alice), key: await token.changeKey(held.key, { state: 'deactivated' }) }),
  ],
  [
    'a certificate for signing mail with a key that is not the token’s',
    "ask.profile === 'mail-signing' && !sameBytes(ask.spki, this.hsm.publicKey('mail'))",
    'infrastructure-refused',
    'issueInfrastructure',
    () => ({ profile: 'mail-signing', spki: otherKey(), names: ['ekms@corp.example'], serial: newSerial(), urls: URLS, days: 30 }),
  ],
  [
    'a TLS certificate for longer than a stolen moment may leave behind',
    'ask.days > most',
    'infrastructure-refused',
    'issueInfrastructure',
    () => ({ profile: 'tls-server', spki: otherKey(), names: ['localhost'], serial: newSerial(), urls: URLS, days: 9 }),
  ],
  [
    'a key from outside made one that people encrypt to',
    "state === 'active' && record.origin === 'imported'",
    'key-state',
    'changeKey',
    () => {
      const record = { ...held.key.record, state: 'suspended', origin: 'imported' } as const;
      return { key: { record, mac: token.hsm.mac(macInput(record)) }, to: { state: 'active' } };
    },
  ],
  [
    'the key itself of one that is used remotely only',
    'record.mode !== mode',
    'key-not-deliverable',
    'release',
    async () => ({ ...(await giveKey(token, alice, 'remote')), device: alice.evidence }),
  ],
];

test.each(ATTEMPTS)('%s: refused; guard off: given', async (_, guard, code, op, args, clock = now) => {
  const { Warden: Open } = guardOff<{ Warden: typeof Warden }>({
    file: 'src/tokens/warden.ts',
    guard: `if (${guard})`,
    instead: 'if (false as boolean)',
  });
  const asked = await args();
  const certificates = await token.certificates();
  const outcome = (of: typeof Warden) =>
    new of(token.hsm, certificates, clock).run(op, asked).then(
      () => 'given',
      (error: { code: string }) => error.code,
    );
  expect([await outcome(Warden), await outcome(Open)]).toEqual([code, 'given']);
});

test('a binding keeps the directory’s id that it was sealed with; guard off: one person becomes another', async () => {
  const named = { ...bob.binding.record, id: newId(), version: 1, directory: 'entry of bob' };
  const before = await token.seal(named);
  const ask = { record: { ...named, version: 2, directory: 'entry of carol' }, predecessor: before };
  const { Warden: Open } = guardOff<{ Warden: typeof Warden }>({
    file: 'src/tokens/warden.ts',
    guard: 'return same && (before.directory === undefined || before.directory === after.directory);',
    instead: 'return same;',
  });
  const certificates = await token.certificates();
  await expect(new Warden(token.hsm, certificates, now).run('seal', ask)).rejects.toMatchObject({ code: 'record-forged' });
  await new Open(token.hsm, certificates, now).run('seal', ask);
});
