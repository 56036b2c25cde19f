import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { newId, newSerial } from '../../src/foundation/index';
import { TokenProcess } from '../../src/tokens/token-client';
import { ENTRY, enrol, giveKey, type Held, initialisedHome, type Person, type TokenHome, URLS } from './process-house';

describe('a token process on SoftHSM', () => {
  let home: TokenHome;
  let token: TokenProcess;
  let alice: Person;
  let held: Held;

  beforeAll(async () => {
    home = initialisedHome();
    token = new TokenProcess({ entry: ENTRY, settings: home.settings });
    await token.start();
    alice = await enrol(token);
    held = await giveKey(token, alice);
  }, 60_000);
  afterAll(async () => {
    await token?.stop();
    home?.remove();
  });

  test('releases a key that an unmodified openssl opens with the delivery key, byte for byte the private key', async () => {
    const { delivery, signature } = await token.release(held.key, held.blob, alice.evidence);
    const folder = mkdtempSync(join(home.home, 'openssl-'));
    writeFileSync(join(folder, 'delivery.der'), delivery);
    writeFileSync(join(folder, 'device.pem'), alice.delivery.export({ format: 'pem', type: 'pkcs8' }));
    const pkcs8 = execFileSync('openssl', ['cms', '-decrypt', '-inform', 'DER', '-binary', '-in', 'delivery.der', '-inkey', 'device.pem'], { cwd: folder });
    const key = createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
    expect(key.export({ format: 'der', type: 'spki' })).toEqual(held.blob.publicKey);
    expect(signature.split('.')).toHaveLength(3);
  });

  test('gives a pair to one owner only, and each enrolment makes one device only', async () => {
    const pool = await token.makePair({ suite: 'rsa', bits: 2048 });
    const gifts = await Promise.allSettled(
      Array.from({ length: 20 }, () => token.assign(pool.pair, { key: newId(), employee: alice.employee, mode: 'deliver' })),
    );
    expect(gifts.filter((gift) => gift.status === 'fulfilled')).toHaveLength(1);
    for (const gift of gifts) if (gift.status === 'rejected') expect(gift.reason).toMatchObject({ kind: 'conflict', code: 'pair-spent' });
    const { enrolment, answer, binding, identity } = alice;
    const again = token.issueDevice({ enrolment, answer, binding, device: newId(), serial: newSerial(), spki: identity, urls: URLS, days: 1 });
    await expect(again).rejects.toMatchObject({ kind: 'conflict', code: 'enrolment-spent' });
  });

  test('a wrong answer and a forged pair use nothing up', async () => {
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
    await expect(token.release(held.key, held.blob, alice.evidence)).rejects.toMatchObject({ kind: 'forbidden', code: 'record-stale' });
    held = { ...held, key: changed };
    await token.block(alice.device);
    await expect(token.release(held.key, held.blob, alice.evidence)).rejects.toMatchObject({ kind: 'forbidden', code: 'device-blocked' });
    await token.unblock(alice.device);
    await token.release(held.key, held.blob, alice.evidence);
  });

  test('says that a blob is corrupt and goes on', async () => {
    const wrapped = Buffer.from(held.blob.wrapped);
    wrapped[40] = (wrapped[40] ?? 0) ^ 1;
    await expect(token.release(held.key, { ...held.blob, wrapped }, alice.evidence)).rejects.toMatchObject({ code: 'blob-forged' });
    await expect(token.openBytes(Buffer.alloc(40), 'x')).rejects.toMatchObject({ code: 'seal-broken' });
    expect(await token.health()).toMatchObject({ state: 'ready', recoveries: 0 });
  });

  test('a caller cannot choose the number of a pair, nor a verb that is none', async () => {
    const call = (op: string, args: unknown) => (token as unknown as { call(op: string, args: unknown): Promise<unknown> }).call(op, args);
    const made = await call('makePair', { kind: { suite: 'rsa', bits: 2048 }, n: 7_000_000 });
    expect((made as { pair: { record: { n: number } } }).pair.record.n).toBeLessThan(1000);
    await expect(call('sign', { key: 'root' })).rejects.toMatchObject({ kind: 'malformed', code: 'token-ask-malformed' });
    await expect(call('block', { id: '../x' })).rejects.toMatchObject({ kind: 'malformed' });
  });
});
