import 'reflect-metadata'; // what @peculiar/x509 injects with
import { constants, createPublicKey, generateKeyPairSync, publicEncrypt, randomBytes, sign } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { newId, SystemClock } from '../../src/foundation/index.js';
import { Journal, type MemberRecord, type Sealed } from '../../src/tokens/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { type RecoveryApproval, type RecoveryRequest, recoveryBytes } from '../../src/tokens/recovery.js';
import { Warden } from '../../src/tokens/warden.js';
import { guardOff } from '../support/guard-off.js';
import { enrol, giveKey, type Held, type Person, tokenHome } from './process-house.js';

/** Everything by which a key, or its use, goes to a device of somebody else. Each guard is shown once to be what refuses: with it taken out, the attempt succeeds. */
describe('keys for devices of others', () => {
  const clock = new SystemClock();
  const folder = mkdtempSync(join(tmpdir(), 'ekms-others-'));
  const pairs = ['Mona', 'Nils', 'Oscar'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
  const agents = {
    quorum: 2,
    agents: pairs.map(({ name, publicKey }) => ({ name, publicKey: publicKey.export({ format: 'der', type: 'spki' }) })),
  };
  let token: MemoryToken;
  let warden: Warden;
  let alice: Person;
  let bob: Person;
  let held: Held;
  let later: Held;

  const { organisation, domains, publicName, urls } = tokenHome().init;
  beforeAll(async () => {
    token = await MemoryToken.open(join(folder, 'journal'), { organisation, domains, publicName, urls }, clock, agents);
    warden = new Warden(token.hsm, await token.certificates(), clock, agents);
    alice = await enrol(token);
    bob = await enrol(token, 'bob@corp.example');
    held = await giveKey(token, alice);
    later = await giveKey(token, alice);
  }, 60_000);
  afterAll(async () => {
    await token?.close();
    rmSync(folder, { recursive: true });
  });

  type Guarded = { file: string; guard: string; instead: string };
  /** With all guards, and with this one taken out. */
  const both = async (ask: (warden: Warden) => Promise<unknown>, off: Guarded): Promise<[string, string]> => {
    const { Warden: Open } = guardOff<{ Warden: typeof Warden }>(off);
    const outcome = (of: Warden) =>
      ask(of).then(
        () => 'given',
        (error: { code: string }) => error.code,
      );
    return [await outcome(warden), await outcome(new Open(token.hsm, await token.certificates(), clock, agents))];
  };
  const WARDEN = 'src/tokens/warden.ts';
  /** `MemoryToken.seal` gives back whatever type went in. */
  const seal = (record: MemberRecord, before?: Sealed<MemberRecord>): Promise<Sealed<MemberRecord>> => token.seal(record, before);

  describe('a recovery case', () => {
    const request = (more: Partial<RecoveryRequest> = {}): RecoveryRequest => ({
      ...{ v: 1, case: newId(), employee: alice.employee, keys: [held.key.record.id], device: bob.device },
      ...{ reason: 'departed', reference: '', expires: Date.now() + 86_400_000 },
      ...more,
    });
    const by = (n: number, of: RecoveryRequest): RecoveryApproval => ({
      agent: pairs[n]?.name ?? '',
      signature: sign(null, recoveryBytes(of), pairs[n]?.privateKey as never),
    });
    const ask =
      (of: RecoveryRequest, approvals: RecoveryApproval[], more: object = {}) =>
      (warden: Warden) =>
        warden.run('recover', { request: of, approvals, key: held.key, blob: held.blob, device: bob.evidence, ...more });
    const QUORUM = { file: WARDEN, guard: 'requireApproved(request, approvals, agents, this.clock.now());', instead: '' };

    test('one agent alone, or one twice', async () => {
      const of = request();
      expect(await both(ask(of, [by(0, of)]), QUORUM)).toEqual(['recovery-not-approved', 'given']);
      expect(await both(ask(of, [by(0, of), by(0, of)]), QUORUM)).toEqual(['recovery-not-approved', 'given']);
    });

    test('a request that was changed after they signed', async () => {
      const of = request({ keys: [later.key.record.id] });
      expect(await both(ask({ ...of, keys: [held.key.record.id] }, [by(0, of), by(1, of)]), QUORUM)).toEqual([
        'recovery-not-approved',
        'given',
      ]);
    });

    test('a case whose time is over, and one that is to last too long', async () => {
      for (const [expires, code] of [
        [Date.now() - 1, 'recovery-expired'],
        [Date.now() + 31 * 86_400_000, 'recovery-not-approved'],
      ] as const) {
        const of = request({ expires });
        expect(await both(ask(of, [by(0, of), by(1, of)]), QUORUM)).toEqual([code, 'given']);
      }
    });

    test('another device than the one that they named', async () => {
      const of = request();
      const guard =
        "if (device.device !== request.device) throw forbidden('recovery-foreign', 'this case was approved for another device');";
      const attempt = ask(of, [by(0, of), by(1, of)], { device: alice.evidence });
      expect(await both(attempt, { file: WARDEN, guard, instead: '' })).toEqual(['recovery-foreign', 'given']);
    });

    test('another key than those that they named', async () => {
      const of = request({ keys: [later.key.record.id] });
      const guard = '!(request.reading || request.keys.includes(record.id))';
      expect(await both(ask(of, [by(0, of), by(1, of)]), { file: WARDEN, guard, instead: 'false' })).toEqual(['recovery-foreign', 'given']);
    });

    test('to read for a time: any message, also of a later key, one content key at a time and never the key; taken back, nothing', async () => {
      const of = request({ reading: true, expires: Date.now() + 300 * 86_400_000 });
      const approvals = [by(0, of), by(2, of)];
      const cek = randomBytes(32);
      const key = createPublicKey({ key: later.blob.publicKey, format: 'der', type: 'spki' });
      const encryptedKey = publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, cek);
      const mail = { scheme: 'rsa-pkcs1', encryptedKey, length: 32 } as const;
      const one = { request: of, approvals, key: later.key, blob: later.blob, device: bob.evidence, mail };
      expect(await token.recover(one)).toHaveProperty('encryptedKey');
      const guard = "if (!mail) throw forbidden('recovery-foreign', 'this case is for reading one message at a time: it gives no key');";
      expect(await both(ask(of, approvals), { file: WARDEN, guard, instead: '' })).toEqual(['recovery-foreign', 'given']);
      const foreign = request({ reading: true, employee: bob.employee });
      const WHOSE = { file: WARDEN, guard: 'record.employee !== request.employee ||', instead: '' };
      expect(await both(ask(foreign, [by(0, foreign), by(1, foreign)], { mail }), WHOSE)).toEqual(['recovery-foreign', 'given']);
      await token.block(of.case);
      await expect(token.recover(one)).rejects.toMatchObject({ code: 'recovery-ended' });
    });
  });

  describe('a shared mailbox', () => {
    const mailbox = newId();
    let shared: Held;
    let member: Sealed<MemberRecord>;
    const membership = (more: Partial<MemberRecord> = {}): MemberRecord => ({
      ...{ type: 'member', id: newId(), version: 1, mailbox, employee: bob.employee, from: Date.now(), to: null },
      ...more,
    });
    const ask =
      ({ key, blob }: Held, of: Sealed<MemberRecord> | undefined) =>
      (warden: Warden) =>
        warden.run('release', { key, blob, device: bob.evidence, ...(of ? { member: of } : {}) });
    const FITS = {
      file: WARDEN,
      guard: 'if (member.mailbox !== key.employee || member.employee !== device.employee || member.to !== null)',
      instead: 'if (false)',
    };

    beforeAll(async () => {
      const { pair, wrapped, publicKey } = await token.makePair({ suite: 'rsa', bits: 2048 });
      shared = {
        key: await token.assign(pair, { key: newId(), employee: mailbox, mode: 'deliver', shared: true }),
        blob: { wrapped, publicKey },
      };
      member = await seal(membership());
    });

    test('a member gets its key; without a membership, with somebody else’s, of another mailbox or one that ended, nobody does', async () => {
      expect(await token.release(shared.key, shared.blob, bob.evidence, member)).toHaveProperty('delivery');
      const NONE = { file: WARDEN, guard: 'device.employee === record.employee ? []', instead: 'true ? []' };
      expect(await both(ask(shared, undefined), NONE)).toEqual(['not-the-owner', 'given']);
      for (const more of [{ employee: alice.employee }, { mailbox: newId() }])
        expect(await both(ask(shared, await seal(membership(more))), FITS)).toEqual(['not-the-owner', 'given']);
      const ended = await seal({ ...member.record, version: 2, to: Date.now() }, member);
      expect(await both(ask(shared, ended), FITS)).toEqual(['not-the-owner', 'given']);
      await expect(token.release(shared.key, shared.blob, bob.evidence, member)).resolves.toHaveProperty('delivery');
      await token.raise(ended);
      await expect(token.release(shared.key, shared.blob, bob.evidence, member)).rejects.toMatchObject({ code: 'record-stale' });
    });

    test('a person’s own key is nobody else’s, whatever membership the token was asked to seal; and no key becomes shared later', async () => {
      const sealed = await seal(membership({ mailbox: alice.employee }));
      expect(await both(ask(held, sealed), { file: WARDEN, guard: '!sealed || !key.shared', instead: '!sealed' })).toEqual([
        'not-the-owner',
        'given',
      ]);
      const forged = { ...held, key: { ...held.key, record: { ...held.key.record, shared: true as const } } };
      const GENUINE = { file: WARDEN, guard: 'if (!sameBytes(this.hsm.mac(macInput(sealed.record)), sealed.mac))', instead: 'if (false)' };
      expect(await both(ask(forged, sealed), GENUINE)).toEqual(['record-forged', 'given']);
    });

    test('a membership ends and never begins again, nor becomes another’s', async () => {
      const first = await seal(membership());
      const ended = await seal({ ...first.record, version: 2, to: Date.now() }, first);
      for (const change of [{ to: null }, { to: null, employee: alice.employee }])
        await expect(seal({ ...ended.record, version: 3, ...change }, ended)).rejects.toMatchObject({
          code: 'record-forged',
        });
      await expect(seal({ ...first.record, version: 2, mailbox: alice.employee }, first)).rejects.toMatchObject({
        code: 'record-forged',
      });
    });
  });

  test('a person on hold: the token process makes no destroyed version of their keys, also after a restart and from a copy; with the guard off it does', async () => {
    const path = join(folder, 'held');
    const attempt = async (Of: typeof Journal) => {
      const journal = await Of.open(path, clock);
      const { claims } = await warden.run('changeKey', { key: held.key, to: { state: 'destroyed' } });
      const outcome = await journal.admit(claims).then(
        () => 'destroyed',
        (error: { code: string }) => error.code,
      );
      await journal.close();
      return outcome;
    };
    Journal.create(path);
    const journal = await Journal.open(path, clock);
    await journal.hold(alice.employee);
    await journal.close();
    expect(await attempt(Journal)).toBe('key-held');
    const off = { file: 'src/tokens/journal.ts', guard: 'if (!this.held.has(claim.id)) return;', instead: 'return;' };
    expect(await attempt(guardOff<{ Journal: typeof Journal }>(off).Journal)).toBe('destroyed');
    const again = await Journal.open(path, clock);
    const copy = again.copy();
    await again.close();
    rmSync(path);
    await Journal.restore(path, copy, clock);
    expect(await attempt(Journal)).toBe('key-held');
    const lifted = await Journal.open(path, clock);
    await lifted.unhold(alice.employee);
    await lifted.close();
    expect(await attempt(Journal)).toBe('destroyed');
  });
});
