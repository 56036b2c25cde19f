import { execFileSync } from 'node:child_process';
import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readRevocationList } from '../../src/codec/x509/index.js';
import { newId, newSerial } from '../../src/foundation/index.js';
import type { Token } from '../../src/tokens/index.js';
import { enrol, giveKey, type Held, type Person, URLS } from './process-house.js';

/** What every `Token` keeps, however it reaches its warden. */
export function tokenContract(name: string, open: () => Promise<{ token: Token; close(): Promise<void> }>): void {
  describe(name, () => {
    let token: Token;
    let close: () => Promise<void>;
    let alice: Person;
    let held: Held;

    beforeAll(async () => {
      ({ token, close } = await open());
      alice = await enrol(token);
      held = await giveKey(token, alice);
    }, 60_000);
    afterAll(() => close?.());

    test('releases a key that an unmodified openssl opens with the delivery key: the private key, byte for byte', async () => {
      const { delivery, signature } = await token.release(held.key, held.blob, alice.evidence);
      const folder = mkdtempSync(join(tmpdir(), 'ekms-openssl-'));
      writeFileSync(join(folder, 'delivery.der'), delivery);
      writeFileSync(join(folder, 'device.pem'), alice.delivery.export({ format: 'pem', type: 'pkcs8' }));
      const ask = ['cms', '-decrypt', '-inform', 'DER', '-binary', '-in', 'delivery.der', '-inkey', 'device.pem'];
      const pkcs8 = execFileSync('openssl', ask, { cwd: folder });
      rmSync(folder, { recursive: true });
      const key = createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
      expect(key.export({ format: 'der', type: 'spki' })).toEqual(held.blob.publicKey);
      expect(signature.split('.')).toHaveLength(3);
    });

    test('shows its authorities, its signing keys and its health', async () => {
      const certificates = await token.certificates();
      expect(Object.keys(certificates).sort()).toEqual(['delivery', 'devices', 'infrastructure', 'people', 'root']);
      expect(Buffer.isBuffer(certificates.root)).toBe(true);
      expect(await token.signingKey('audit')).toMatchObject({ name: 'audit', algorithm: 'ed25519' });
      expect(await token.health()).toEqual({ state: 'ready', queued: 0, recoveries: 0 });
    });

    test('gives a pair to one owner only, and each enrolment makes one device only', async () => {
      const pool = await token.makePair({ suite: 'rsa', bits: 2048 });
      const to = () => ({ key: newId(), employee: alice.employee, mode: 'deliver' }) as const;
      const gifts = await Promise.allSettled(Array.from({ length: 20 }, () => token.assign(pool.pair, to())));
      expect(gifts.filter((gift) => gift.status === 'fulfilled')).toHaveLength(1);
      for (const gift of gifts) if (gift.status === 'rejected') expect(gift.reason).toMatchObject({ kind: 'conflict', code: 'pair-spent' });
      const { enrolment, answer, binding, identity } = alice;
      const again = token.issueDevice({
        enrolment,
        answer,
        binding,
        device: newId(),
        serial: newSerial(),
        spki: identity,
        urls: URLS,
        days: 1,
      });
      await expect(again).rejects.toMatchObject({ kind: 'conflict', code: 'enrolment-spent' });
    });

    test('a forged pair uses nothing up', async () => {
      const pool = await token.makePair({ suite: 'rsa', bits: 2048 });
      const forged = { ...pool.pair, record: { ...pool.pair.record, n: pool.pair.record.n + 1_000_000 } };
      const to = { key: newId(), employee: alice.employee, mode: 'deliver' } as const;
      await expect(token.assign(forged, to)).rejects.toMatchObject({ code: 'record-forged' });
      await token.assign(pool.pair, to);
    });

    test('refuses an old version once a new one was raised, and a blocked device until it is unblocked', async () => {
      const changed = await token.changeKey(held.key, { state: 'deactivated' });
      await token.release(held.key, held.blob, alice.evidence);
      await token.raise(changed);
      const stale = token.release(held.key, held.blob, alice.evidence);
      await expect(stale).rejects.toMatchObject({ kind: 'forbidden', code: 'record-stale' });
      held = { ...held, key: changed };
      await token.block(alice.device);
      const blocked = token.release(held.key, held.blob, alice.evidence);
      await expect(blocked).rejects.toMatchObject({ kind: 'forbidden', code: 'device-blocked' });
      await token.unblock(alice.device);
      await token.release(held.key, held.blob, alice.evidence);
    });

    test('an authority is followed by another, each signs its own list; of a retired one nothing counts', async () => {
      const first = await token.authorities();
      expect(first.map(({ name, n, state }) => `${name} ${n} ${state}`)).toEqual([
        'root 1 serving',
        'people 1 serving',
        'devices 1 serving',
        'infrastructure 1 serving',
      ]);
      await expect(token.succeedKey('devices', 3, URLS)).rejects.toMatchObject({ code: 'key-number' });
      await expect(token.retireAuthority('devices', 1)).rejects.toMatchObject({ code: 'authority-in-use' });
      // Told again, it is the same one.
      const made = await token.succeedKey('devices', 2, URLS);
      expect(await token.succeedKey('devices', 2, URLS)).toEqual(made);
      const issuers = (await token.authorities()).filter((each) => each.name === 'devices');
      expect(issuers.map(({ n, state }) => `${n} ${state}`)).toEqual(['1 former', '2 serving']);
      const [former, serving] = issuers.map(({ certificate }) => new X509Certificate(certificate));
      const root = new X509Certificate((await token.certificates()).root);
      expect(serving?.verify(root.publicKey)).toBe(true);
      expect(serving?.publicKey.export({ format: 'der', type: 'spki' })).toEqual(made.publicKey);

      const bob = await enrol(token, 'bob@corp.example');
      expect(new X509Certificate(bob.evidence.certificate).verify(serving?.publicKey as KeyObject)).toBe(true);
      const theirs = await giveKey(token, bob);
      await token.release(theirs.key, theirs.blob, bob.evidence);
      await token.release(held.key, held.blob, alice.evidence);
      const list = (n: number) => token.issueCrl({ authority: 'devices', n, number: 1, entries: [], days: 7 });
      const isBy = async (n: number, issuer: X509Certificate | undefined) =>
        (await readRevocationList(await list(n), [issuer?.raw ?? Buffer.alloc(0)])) !== undefined;
      expect([await isBy(1, former), await isBy(2, serving), await isBy(1, serving)]).toEqual([true, true, false]);
      await expect(list(3)).rejects.toMatchObject({ code: 'authority-unknown' });

      await token.retireAuthority('devices', 1);
      await token.retireAuthority('devices', 1);
      expect((await token.tokenKeys()).find((each) => each.name === 'devices')).toMatchObject({ n: 2, former: [] });
      await expect(list(1)).rejects.toMatchObject({ code: 'authority-retired' });
      await expect(token.release(held.key, held.blob, alice.evidence)).rejects.toMatchObject({ code: 'device-untrusted' });
      await token.release(theirs.key, theirs.blob, bob.evidence);
      // Whoever comes after is let in by the one that serves.
      [alice, held] = [bob, theirs];
    });

    test('remembers that bootstrap is over', async () => {
      expect(await token.bootstrapIsOver()).toBe(false);
      await token.endBootstrap();
      await token.endBootstrap();
      expect(await token.bootstrapIsOver()).toBe(true);
    });

    test('refuses damaged bytes and goes on', async () => {
      const wrapped = Buffer.from(held.blob.wrapped);
      wrapped[40] = (wrapped[40] ?? 0) ^ 1;
      const damaged = token.release(held.key, { ...held.blob, wrapped }, alice.evidence);
      await expect(damaged).rejects.toMatchObject({ code: 'blob-forged' });
      await expect(token.openBytes(Buffer.alloc(40), 'x')).rejects.toMatchObject({ kind: 'conflict', code: 'seal-broken' });
      const sealed = await token.sealBytes(Buffer.from('one'), 'x');
      await expect(token.openBytes(sealed, 'y')).rejects.toMatchObject({ code: 'seal-broken' });
      expect((await token.openBytes(sealed, 'x')).toString()).toBe('one');
      expect(await token.health()).toMatchObject({ state: 'ready', recoveries: 0 });
    });

    test('a caller cannot choose the number of a pair, nor ask for a verb that is none', async () => {
      // The cast: what a caller could send who does not keep to the types.
      const call = (op: string, args: unknown) =>
        (token as unknown as { call(op: string, args: unknown): Promise<unknown> }).call(op, args);
      const made = await call('makePair', { kind: { suite: 'rsa', bits: 2048 }, n: 7_000_000 });
      expect((made as { pair: { record: { n: number } } }).pair.record.n).toBeLessThan(1000);
      await expect(call('sign', { key: 'root' })).rejects.toMatchObject({ kind: 'malformed', code: 'token-ask-malformed' });
      await expect(call('block', { id: '../x' })).rejects.toMatchObject({ kind: 'malformed' });
      await expect(call('makePair', null)).rejects.toMatchObject({ kind: 'malformed' });
    });
  });
}
