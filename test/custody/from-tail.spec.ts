import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { afterEach, expect, jest, test } from '@jest/globals';
import { examine } from '../../src/commands/doctor.js';
import * as fromTail from '../../src/custody/from-tail.js';
import type { TailEntry } from '../../src/custody/known-log.js';
import { newId } from '../../src/foundation/index.js';
import { authorityId } from '../../src/tokens/index.js';
import { eachKind } from '../support/database.js';
import { type Guard, guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);
eachKind((kind) => {
  let house: HouseInProcess;
  afterEach(() => house?.close());

  const FILE = 'src/custody/from-tail.ts';
  const open = async (): Promise<{ alice: WireDevice; key: string; serial: string }> => {
    house = await HouseInProcess.open({ kind, settings: { keys: { bits: 2048, pool: { target: 1 } } } });
    const alice = await enrolDevice(house, 'alice@corp.example');
    const [key] = await keysOf(house, alice);
    return { alice, key: key?.id ?? '', serial: new X509Certificate(key?.certificates[0] ?? '').serialNumber.toLowerCase() };
  };
  const take = (tail: Partial<TailEntry>[], guard?: Omit<Guard, 'file'>) =>
    (guard ? guardOff<typeof fromTail>({ file: FILE, ...guard }) : fromTail).takeFromTail(
      house.house,
      tail.map((entry) => ({ action: '', outcome: 'done', ...entry })),
    );
  const destroys = (id: string) =>
    house.act('key.change', { id, state: 'destroyed', reason: 'request' }).then(
      () => 'destroyed',
      ({ code }: { code: string }) => code,
    );

  test('a legal hold that was placed after the backup is in force after a restore, in the rows and in the token process; with the guard off the key goes', async () => {
    const { alice, key } = await open();
    const tail = [{ action: 'hold.place', employee: alice.employee, subject: newId() }];
    expect(await take(tail)).toEqual({ reapplied: 1, moot: 0 });
    expect(await take(tail)).toEqual({ reapplied: 0, moot: 0 });
    expect(await destroys(key)).toBe('key-held');
    await house.db.write((unit) => unit.run('DELETE FROM key_holds', []));
    expect(await destroys(key)).toBe('key-held');
    expect(await take([{ ...tail[0], employee: newId(), subject: newId() }])).toEqual({ reapplied: 0, moot: 1 });
    await house.close();

    const again = await open();
    await take([{ ...tail[0], employee: again.alice.employee }], {
      guard: 'return lives.holdAgain(subject, employee, BY);',
      instead: 'return false;',
    });
    expect(await destroys(again.key)).toBe('destroyed');
  });

  test('a transfer or a case that was filed and taken back after the backup gives nothing, though no row knows it; with the guards off whoever kept its signatures has it', async () => {
    await open();
    const [transfer, of] = [newId(), newId()];
    const tail = [
      { action: 'transfer.end', subject: transfer },
      { action: 'recovery.end', subject: of },
    ];
    const blocked = jest.spyOn(house.token, 'block');
    for (const part of ['transfers', 'recoveries'])
      await take(part === 'transfers' ? tail.slice(0, 1) : tail.slice(1), {
        guard: `await token.block(subject);\n      await ${part}`,
        instead: `await ${part}`,
      });
    expect(blocked).not.toHaveBeenCalled();
    expect(await take(tail)).toEqual({ reapplied: 0, moot: 2 });
    expect(blocked.mock.calls).toEqual([[transfer], [of]]);
  });

  test('what was lifted, and destroyed then, is so again: in the order of the log', async () => {
    const { alice, key } = await open();
    const { hold } = (await house.act('hold.place', { who: alice.employee, reference: 'case 1' })) as { hold: string };
    const tail = [
      { action: 'hold.lift', employee: alice.employee, subject: hold },
      { action: 'key.change', employee: alice.employee, key, facts: { state: 'destroyed' } },
    ];
    expect(await take(tail)).toEqual({ reapplied: 2, moot: 0 });
    expect(await house.db.one('SELECT state FROM keys WHERE id = ?', [key])).toEqual({ state: 'destroyed' });
  });

  test('a certificate that ended after the backup is on the list again, and so is one that was issued since and whose key may be lost; with the guards off neither is', async () => {
    const { alice, serial } = await open();
    const [unknown, gone] = ['0abc'.padEnd(32, '1'), '0def'.padEnd(32, '2')];
    const tail = [
      { action: 'certificate.issue', employee: alice.employee, subject: unknown },
      { action: 'certificate.issue', subject: '0fed'.padEnd(32, '3'), facts: { profile: 'tls-server' } },
      { action: 'certificate.revoke', reason: 'keyCompromise', subject: serial },
      { action: 'certificate.revoke', reason: 'superseded', subject: gone },
    ];
    const ended = async () =>
      (
        await house.db.all<{ serial: string; reason: number }>(
          'SELECT serial, reason FROM certificates WHERE revoked_at IS NOT NULL ORDER BY serial',
        )
      ).map(({ serial: of, reason }) => `${of} ${reason}`);
    await take(tail, { guard: 'return endCertificate(', instead: 'return true || endCertificate(' });
    expect(await ended()).toEqual([`${unknown} 5`]);
    await take(tail);
    expect(new Set(await ended())).toEqual(new Set([`${unknown} 5`, `${gone} 5`, `${serial} 1`]));
    expect(await take(tail)).toEqual({ reapplied: 0, moot: 0 });
  });

  test('an administrator who was removed, or whose role was taken away, after the backup stays without it; with the guard off they are back', async () => {
    await open();
    const { house: of } = house;
    const add = async (name: string, role: 'auditor' | 'operator') => {
      const id = newId();
      const row = { id, name, address: `${name}@corp.example`, role, state: 'active' as const, created: 0 };
      await of.storage.write((unit) => of.administrators.insert(unit, row));
      return id;
    };
    const [anna, boris] = [await add('anna', 'auditor'), await add('boris', 'operator')];
    const tail = [
      { action: 'administrator.remove', subject: anna },
      { action: 'administrator.role', subject: boris, facts: { role: 'none' } },
      { action: 'administrator.remove', subject: newId() },
    ];
    const standing = () => of.storage.all('SELECT state, role FROM administrators ORDER BY name');
    await take(tail.slice(0, 1), { guard: 'await administrators.remove(subject, BY);', instead: '' });
    expect(await standing()).toEqual([
      { state: 'active', role: 'auditor' },
      { state: 'active', role: 'operator' },
    ]);
    expect(await take(tail)).toEqual({ reapplied: 2, moot: 1 });
    expect(await standing()).toEqual([
      { state: 'removed', role: null },
      { state: 'active', role: null },
    ]);
  });

  const listed = async (id: string) => {
    await house.house.revocations.publishDue();
    const input = await house.house.revocations.find(id);
    const text = execFileSync('openssl', ['crl', '-inform', 'DER', '-noout', '-text'], { input }).toString();
    return [...text.matchAll(/Serial Number: (\w+)/g)].map(([, serial = '']) => serial.toLowerCase().replace(/^0+/, ''));
  };
  const serialOfAuthority = (id: string) => {
    const der = house.house.authorities.all.find((each) => authorityId(each) === id)?.certificate;
    if (!der) throw new Error(`no authority ${id}`);
    return new X509Certificate(der).serialNumber.toLowerCase();
  };

  test('an authority that was retired after the backup is so again, and its serial is on the root’s list; with the guards off it is trusted, or people’s list has it', async () => {
    await open();
    await house.act('ca.rotate', { name: 'people' });
    // What the renewal does: nothing of the former one counts any more but by the new one.
    await house.house.renewal.run();
    const [serial, lost] = [serialOfAuthority('people'), '0cab'.padEnd(32, '4')];
    const tail = [
      { action: 'certificate.revoke', reason: 'cACompromise', subject: serial },
      { action: 'certificate.revoke', reason: 'cACompromise', subject: lost },
      { action: 'authority.retire', facts: { name: 'people', n: 1, revoked: true } },
      // Who took over from this one is not in the backup: it goes on, and the root's list says of it what it may.
      { action: 'certificate.revoke', reason: 'cACompromise', subject: serialOfAuthority('devices') },
      { action: 'authority.retire', facts: { name: 'devices', n: 1, revoked: true } },
      { action: 'authority.retire', facts: { name: 'devices', n: 2, revoked: true } },
    ];
    const bare = (of: string) => of.replace(/^0+/, '');
    const state = (id: string) => house.house.authorities.all.find((each) => authorityId(each) === id)?.state;
    await take(tail.slice(2, 3), { guard: 'return retireAuthority(house, facts);', instead: 'return false;' });
    expect(state('people')).toBe('former');
    expect(await take(tail)).toEqual({ reapplied: 4, moot: 2 });
    expect([state('people'), state('devices')]).toEqual(['retired', 'serving']);
    const told = async () => (await examine(house.house)).filter(({ words }) => /on the root’s list|is not known here/.test(words));
    expect(await told()).toMatchObject([
      { verdict: 'bad', words: expect.stringMatching(/“devices”.*: ekms ca rotate devices, then ekms ca retire devices --revoke/) },
    ]);
    await house.db.write((unit) => unit.run("UPDATE certificates SET authority = 'people-3' WHERE authority = 'people-2'", []));
    expect((await told()).map(({ words }) => words).join()).toMatch(/1 certificates were signed by the authority “people-3”/);
    expect(new Set(await listed('root'))).toEqual(new Set([serial, lost, serialOfAuthority('devices')].map(bare)));
    expect(await listed('people-2')).toEqual([]);
    expect(await take(tail)).toEqual({ reapplied: 0, moot: 2 });

    const unguarded = '0cad'.padEnd(32, '5');
    await take([{ ...tail[1], subject: unguarded }], { guard: "reason === 'cACompromise' ? 'authority' : 'person'", instead: "'person'" });
    expect(await listed('people-2')).toEqual([bare(unguarded)]);
  });

  test('how keys reach a person is as it was set after the backup, and a key that was made for another way is followed by one; no pair that came back is given for it', async () => {
    const { alice, key } = await open();
    const tail = [{ action: 'policy.change', employee: alice.employee, facts: { mode: 'remote' } }];
    const keys = () => house.db.all('SELECT id, mode, state FROM keys WHERE employee = ? ORDER BY created', [alice.employee]);
    await take(tail, { guard: 'return isMode(mode) && replacement.noteMode(employee, mode, BY);', instead: 'return false;' });
    await house.house.replacement.followModes({ kind: 'system' });
    expect(await keys()).toEqual([{ id: key, mode: 'deliver', state: 'active' }]);
    await house.act('pool.fill', { count: 1 });
    expect(await take(tail)).toEqual({ reapplied: 1, moot: 0 });
    expect(await take(tail)).toEqual({ reapplied: 0, moot: 0 });
    expect(await keys()).toEqual([{ id: key, mode: 'deliver', state: 'active' }]);
    const pairs = await house.db.all('SELECT n FROM pool ORDER BY n');
    expect(pairs.length).toBeGreaterThan(0);
    await house.house.pool.destroyAll('restored');
    await house.house.replacement.followModes({ kind: 'system' });
    await house.act('pool.fill', { count: 1 });
    await house.house.issuance.serveWaiting();
    expect(await keys()).toEqual([
      { id: key, mode: 'deliver', state: 'deactivated' },
      { id: expect.any(String), mode: 'remote', state: 'active' },
    ]);
  });
});
