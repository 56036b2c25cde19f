import 'reflect-metadata'; // what @peculiar/x509 injects with
import { createHash, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { thumbprint } from '../../src/codec/jwk.js';
import { base64url, newId, newSerial, SystemClock, sha256 } from '../../src/foundation/index.js';
import { makeAuthorities } from '../../src/tokens/authorities.js';
import { MemoryHsm } from '../../src/tokens/memory-hsm.js';
import {
  type AgentList,
  type Appointment,
  agentsOf,
  appointmentBytes,
  isApproval,
  type RecoveryApproval,
  recoveryBytes,
  requireApproved,
} from '../../src/tokens/recovery.js';
import { Warden } from '../../src/tokens/warden.js';
import { guardOff } from '../support/guard-off.js';
import { tokenHome } from './process-house.js';

const now = new Date();
const pairs = ['Mona', 'Nils', 'Oscar'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
const agents = {
  quorum: 2,
  agents: pairs.map(({ name, publicKey }) => ({ name, publicKey: publicKey.export({ format: 'der', type: 'spki' }) })),
};
const request = {
  v: 1 as const,
  ...{ case: newId(), employee: newId(), keys: [newId()], device: newId() },
  ...{ reason: 'legal' as const, reference: '', expires: now.getTime() + 1000 },
};
const by = (n: number, of = request) => ({
  agent: pairs[n]?.name ?? '',
  signature: sign(null, recoveryBytes(of), pairs[n]?.privateKey as never),
});

test('a quorum of different agents over this very request, in its time; nothing else', () => {
  const outcome = (approvals: ReturnType<typeof by>[], of = request, at = now) => {
    try {
      requireApproved(of, approvals, agents, at);
      return 'approved';
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  expect(outcome([by(0), by(2)])).toBe('approved');
  expect(outcome([by(0)])).toBe('recovery-not-approved');
  expect(outcome([by(0), by(0)])).toBe('recovery-not-approved');
  expect(outcome([by(0), { ...by(0), agent: 'Nils' }])).toBe('recovery-not-approved');
  expect(outcome([by(0), by(1)], { ...request, device: newId() })).toBe('recovery-not-approved');
  expect(outcome([by(0), by(1)], request, new Date(request.expires))).toBe('recovery-expired');
  const long = { ...request, expires: now.getTime() + 31 * 86_400_000 };
  expect(outcome([by(0, long), by(1, long)], long)).toBe('recovery-not-approved');
  expect(() => requireApproved(request, [by(0), by(1)], undefined, now)).toThrow(expect.objectContaining({ code: 'no-recovery-agents' }));
});

const ORIGIN = 'https://ekms.corp.example:8444';
const PAGE = { rp: 'ekms.corp.example', origin: ORIGIN };
const passkeys = ['Mona', 'Nils', 'Oscar'].map((name) => ({ name, ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) }));
const list: AgentList = {
  quorum: 2,
  agents: passkeys.map(({ name, publicKey }) => ({
    name,
    publicKey: base64url(publicKey.export({ format: 'der', type: 'spki' })),
    passkey: { id: base64url(Buffer.from(name)), ...PAGE },
  })),
};

/** What an authenticator answers; each part can be bent. */
function asserted(
  n: number,
  bytes: Buffer,
  bend: { type?: string; origin?: string; rp?: string; flags?: number; cross?: boolean } = {},
): RecoveryApproval {
  const { type = 'webauthn.get', origin = ORIGIN, rp = PAGE.rp, flags = 0x05, cross = false } = bend;
  const clientData = Buffer.from(JSON.stringify({ type, challenge: base64url(sha256(bytes)), origin, crossOrigin: cross }));
  const authenticatorData = Buffer.concat([sha256(Buffer.from(rp)), Buffer.of(flags, 0, 0, 0, 7)]);
  const signed = Buffer.concat([authenticatorData, createHash('sha256').update(clientData).digest()]);
  const { name, privateKey } = passkeys[n] as (typeof passkeys)[0];
  return { agent: name, signature: sign('sha256', signed, privateKey), passkey: { clientData, authenticatorData } };
}

test('a passkey approves by a challenge made of the request: of that page, of that site, with its person present and verified; nothing else passes', () => {
  const bytes = recoveryBytes(request);
  const agentsByPasskey = agentsOf(list);
  const holds = (approval: RecoveryApproval) => isApproval(bytes, approval, agentsByPasskey);
  expect(holds(asserted(0, bytes))).toBe(true);
  expect(holds({ ...asserted(0, bytes), agent: 'Nils' })).toBe(false);
  expect(holds(asserted(0, recoveryBytes({ ...request, device: newId() })))).toBe(false);
  for (const bend of [
    { type: 'webauthn.create' },
    { origin: 'https://ekms.corp.example' },
    { rp: 'corp.example' },
    { flags: 0x01 },
    { flags: 0x04 },
    { cross: true },
  ])
    expect([bend, holds(asserted(0, bytes, bend))]).toEqual([bend, false]);
  const good = asserted(1, bytes);
  for (const part of ['clientData', 'authenticatorData'] as const)
    for (const cut of [Buffer.alloc(0), Buffer.from('[]'), Buffer.alloc(36), (good.passkey?.[part] ?? Buffer.alloc(0)).slice(0, -1)])
      expect(holds({ ...good, passkey: { ...(good.passkey as { clientData: Buffer; authenticatorData: Buffer }), [part]: cut } })).toBe(
        false,
      );
  // A passkey's owner does not approve by a bare signature, nor a key's by the form of a passkey.
  const { agent, signature } = good;
  expect(holds({ agent, signature })).toBe(false);
  expect(holds({ agent, signature: sign('sha256', bytes, passkeys[1]?.privateKey as never) })).toBe(false);
  expect(isApproval(bytes, { ...by(0), passkey: good.passkey as never }, agents)).toBe(false);
});

test('another list of agents takes a quorum of those in force, the next version, this appliance; the ceremony’s agents count only until then', async () => {
  const hsm = new MemoryHsm();
  const { organisation, domains, publicName, urls } = tokenHome().init;
  const authorities = await makeAuthorities(hsm, { organisation, domains, publicName, urls }, now);
  const warden = new Warden(hsm, authorities, new SystemClock(), agents);
  const wanted: Appointment = { v: 1, appliance: base64url(sha256(authorities.root)), version: 2, list };
  const signed = (n: number, of = wanted) => ({
    agent: pairs[n]?.name ?? '',
    signature: sign(null, appointmentBytes(of), pairs[n]?.privateKey as never),
  });
  const ask = (appointment: Appointment, approvals: RecoveryApproval[], before?: unknown) =>
    warden.run('appoint', { appointment, approvals, ...(before ? { before } : {}) }).then(
      (verdict) => verdict,
      (error: { code: string }) => error.code,
    );
  expect(await ask(wanted, [signed(0)])).toBe('recovery-not-approved');
  expect(await ask(wanted, [signed(0), signed(0)])).toBe('recovery-not-approved');
  const foreign = { ...wanted, appliance: base64url(sha256(Buffer.of(1))) };
  expect(await ask(foreign, [signed(0, foreign), signed(1, foreign)])).toBe('recovery-foreign');
  const later = { ...wanted, version: 3 };
  expect(await ask(later, [signed(0, later), signed(1, later)])).toBe('record-stale');
  for (const bad of [
    { ...list, quorum: 1 },
    { ...list, quorum: 4 },
    { ...list, agents: [...list.agents, { ...list.agents[0], name: 'Eve' }] },
    { ...list, agents: [{ name: 'Eve', publicKey: 'AAAA' }, ...list.agents] },
  ])
    expect(await ask({ ...wanted, list: bad as AgentList }, [])).toBe('token-ask-malformed');

  const second = await ask(wanted, [signed(0), signed(2)]);
  expect(second).toMatchObject({ claims: [{ kind: 'version', id: 'recovery-agents', version: 1 }], value: { record: { version: 2 } } });
  const { value: sealed } = second as { value: { record: { list: AgentList }; mac: Buffer } };
  const third = { ...wanted, version: 3, list: { ...list, agents: list.agents.slice(1) } };
  expect(await ask(third, [signed(0, third), signed(1, third)], sealed)).toBe('recovery-not-approved');
  const bytes = appointmentBytes(third);
  expect(await ask(third, [asserted(0, bytes), asserted(1, bytes)], sealed)).toMatchObject({ claims: [{ version: 2 }] });
  const forged = { ...sealed, record: { ...sealed.record, list: { ...list, agents: list.agents.slice(0, 2) } } };
  expect(await ask(third, [asserted(0, bytes), asserted(1, bytes)], forged)).toBe('record-forged');
  expect(createPublicKey({ key: agentsOf(list).agents[0]?.publicKey as Buffer, format: 'der', type: 'spki' }).asymmetricKeyType).toBe('ec');
});

test('a key under quorum is given to no device, its own employee’s neither, and stays under quorum; with either guard out it is not', async () => {
  type Module = typeof import('../../src/tokens/warden.js');
  const MODE = 'if (record.mode !== mode) throw';
  const STAYS = "if (record.mode === 'quorum' && mode !== record.mode)";
  const without = (guard: string) =>
    guardOff<Module>({ file: 'src/tokens/warden.ts', guard, instead: guard.replace(/\(.*\)/, '(false)') }).Warden;
  const employee = newId();
  const { publicKey: identity } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { publicKey: delivery } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const [spki, deliveryKey] = [identity, delivery].map((key) => key.export({ format: 'der', type: 'spki' })) as [Buffer, Buffer];
  const address = 'documents@corp.example';

  /** What each asking gives: a code, or that it was given. */
  const outcomes = async (Kind: Module['Warden']) => {
    const hsm = new MemoryHsm();
    const { organisation, domains, publicName, urls } = tokenHome().init;
    const warden = new Kind(hsm, await makeAuthorities(hsm, { organisation, domains, publicName, urls }, now), new SystemClock(), agents);
    const given = async <T>(op: string, args: object) => (await warden.run(op, args)).value as T;
    const enrolment = await given('seal', {
      record: {
        ...{ type: 'enrolment', id: newId(), version: 1, address, answer: base64url(sha256('yes')), jkt: thumbprint(spki) },
        ...{ delivery: base64url(sha256(deliveryKey)), expires: Date.now() + 60_000 },
      },
    });
    const record = { type: 'binding', id: newId(), version: 1, employee, address, from: 0, to: null };
    const binding = await given('seal', { record });
    const about = { device: newId(), serial: newSerial(), spki, urls: urls.devices, days: 30 };
    const certificate = await given<Buffer>('issueDevice', { enrolment, answer: 'yes', binding, ...about });
    const pair = await given<{ pair: object; publicKey: Buffer; wrapped: Buffer }>('makePair', {
      n: 1,
      kind: { suite: 'rsa', bits: 2048 },
    });
    const key = await given<object>('assign', { pair: pair.pair, to: { key: newId(), employee, mode: 'quorum' } });
    const ask = { key, blob: { publicKey: pair.publicKey, wrapped: pair.wrapped }, device: { certificate, deliveryKey } };
    const mail = { scheme: 'rsa-pkcs1', encryptedKey: Buffer.alloc(256, 1), length: 32 };
    const asks: [string, object][] = [
      ['release', ask],
      ['decrypt', { ...ask, ask: mail }],
      ['changeKey', { key, to: { mode: 'deliver' } }],
      ['changeKey', { key, to: { mode: 'remote' } }],
    ];
    return Promise.all(
      asks.map(([op, args]) =>
        warden.run(op, args).then(
          () => 'given',
          (error: { code: string }) => error.code,
        ),
      ),
    );
  };
  const REFUSED = ['key-not-deliverable', 'key-not-deliverable', 'key-mode', 'key-mode'];
  expect(await outcomes(Warden)).toEqual(REFUSED);
  expect(await outcomes(without(MODE))).toEqual(['given', 'given', 'key-mode', 'key-mode']);
  expect(await outcomes(without(STAYS))).toEqual(['key-not-deliverable', 'key-not-deliverable', 'given', 'given']);
});
