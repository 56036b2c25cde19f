import 'reflect-metadata';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { reconcile } from '../../src/commands/reconcile.js';
import { prepareEscrow } from '../../src/custody/escrow-journal.js';
import * as fromEscrow from '../../src/custody/from-escrow.js';
import { Fault } from '../../src/foundation/index.js';
import { KeyStore, KeyVault, type StoredKey } from '../../src/keys/index.js';
import * as keyVault from '../../src/keys/key-vault.js';
import { eachKind } from '../support/database.js';
import { escrowLines } from '../support/escrow-lines.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);
const BY = { kind: 'system' } as const;
eachKind((kind) => {
  let folder: string;
  let second: string;
  let house: HouseInProcess;
  let employee: string;
  let key: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ekms-second-'));
    second = join(folder, 'second');
    await prepareEscrow(second, tmpdir(), true);
    const settings = { keys: { bits: 2048, pool: { target: 1 } }, durability: 'two', escrow: { directory: second } };
    house = await HouseInProcess.open({ kind, settings });
    const alice = await enrolDevice(house, 'alice@corp.example');
    employee = alice.employee;
    key = (await keysOf(house, alice))[0]?.id ?? '';
    await house.act('key.replace', { address: 'alice@corp.example', because: 'superseded' });
  });
  afterAll(async () => {
    await house?.close();
    rmSync(folder, { recursive: true });
  });

  const journalled = async () => (await escrowLines(second, house.token)).lines.flatMap((line) => (line.t === 'change' ? [line.key] : []));
  const wrapped = async () => (await house.db.one<{ wrapped: Buffer }>('SELECT wrapped FROM keys WHERE id = ?', [key]))?.wrapped.length;

  /** A destruction whose unit of work fails, as when a hold or PostgreSQL's end comes between; resolves with what the second place heard of it. */
  async function cutDestruction(Vault: typeof KeyVault) {
    const { storage, audit, token, issuance, budgets, clock, mailboxes } = house.house;
    const vault = new Vault(storage, audit, token, issuance, budgets, clock, 'deliver', mailboxes, house.house.second);
    const failed = vault.change(key, { state: 'destroyed' }, BY, async () => {
      throw new Fault('conflict', 'key-held', 'a hold came meanwhile');
    });
    await expect(failed).rejects.toMatchObject({ code: 'key-held' });
    expect(await wrapped()).toBeGreaterThan(0);
    return (await journalled()).at(-1)?.sealed.record.state;
  }

  test('a destruction that did not take place is nothing that the second place tells of', async () => {
    expect(await cutDestruction(KeyVault)).toBe('deactivated');
    const unguarded = guardOff<typeof keyVault>({
      file: 'src/keys/key-vault.ts',
      guard: "if (next.record.state !== 'destroyed') await this.second.changed({ ...key, sealed: next });",
      instead: "await this.second.changed({ ...key, sealed: next, wrapped: next.record.state === 'destroyed' ? NOTHING : key.wrapped });",
    });
    expect(await cutDestruction(unguarded.KeyVault)).toBe('destroyed');
  });

  test('what it tells of is not carried out by a restore while a hold is in force', async () => {
    const { hold } = (await house.act('hold.place', { who: 'alice@corp.example', reference: 'case 7' })) as { hold: string };
    expect(await fromEscrow.takeFromEscrow(house.house, second)).toMatchObject({ changes: 0, held: 1, unreadable: 0 });
    expect(await wrapped()).toBeGreaterThan(0);
    expect(await house.log(1)).toMatchObject([{ action: 'key.change', outcome: 'refused', reason: 'key-held', key, employee }]);

    // Without that guard, in a copy of the row: the key is gone.
    const before = await new KeyStore().find(house.db, key);
    const unguarded = guardOff<typeof fromEscrow>({
      ...{ file: 'src/custody/from-escrow.ts', guard: "record.state === 'destroyed' && onHold.has(record.employee)", instead: 'false' },
    });
    expect(await unguarded.takeFromEscrow(house.house, second)).toMatchObject({ changes: 1 });
    expect(await wrapped()).toBe(0);
    if (before) await house.db.write((unit) => new KeyStore().overwrite(unit, before));
    await house.act('hold.lift', { id: hold });
  });

  test('a key is destroyed while the second place is away: it hears of it when it is back, and then a restore leaves it so', async () => {
    const before = (await new KeyStore().find(house.db, key)) as StoredKey;
    const lines = (await journalled()).length;
    renameSync(second, `${second}.away`);
    expect(await house.act('key.change', { id: key, state: 'destroyed', reason: 'request' })).toMatchObject({
      statement: expect.any(String),
    });
    expect(await wrapped()).toBe(0);
    await reconcile(house.house); // an appliance that is started now starts
    renameSync(`${second}.away`, second);
    expect(await house.db.all("SELECT id FROM intents WHERE kind = 'change-key'")).toEqual([{ id: key }]);
    await reconcile(house.house);
    expect(await house.db.all("SELECT id FROM intents WHERE kind = 'change-key'")).toEqual([]);
    expect((await journalled()).slice(lines)).toMatchObject([
      { sealed: { record: { id: key, state: 'destroyed' } }, wrapped: Buffer.alloc(0) },
    ]);
    // A change to the same version that lost against it, and was written down before that was seen.
    const record = { ...before.sealed.record, version: before.sealed.record.version + 1, state: 'compromised' as const };
    await house.house.second.changed({ ...before, sealed: { ...before.sealed, record } });
    await fromEscrow.takeFromEscrow(house.house, second);
    expect(await wrapped()).toBe(0);
  });
});
