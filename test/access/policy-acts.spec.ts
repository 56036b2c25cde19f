import 'reflect-metadata';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import type { AdministratorActor } from '../../src/access/index.js';
import { ActDesk } from '../../src/commands/act-desk.js';
import { HouseInProcess } from '../support/house-in-process.js';

jest.setTimeout(30_000);

let house: HouseInProcess;
let desk: ActDesk;
beforeEach(async () => {
  house = await HouseInProcess.open();
  desk = new ActDesk(house.house);
});
afterEach(() => house.close());

/** A security officer who has just proved that it is them, at this address. */
const officer = (network: string): AdministratorActor => {
  const now = house.now().getTime();
  const id = '00000000-0000-4000-8000-000000000001';
  const session = {
    id,
    audience: 'administration',
    subject: id,
    method: 'passkey',
    network,
    began: now,
    proved: now,
    ends: now + 1e6,
  } as const;
  return { kind: 'administrator', id, role: 'security-officer', session, request: { id, network } };
};
const only = (address: string) => ({
  networks: { them: { addresses: [address, '127.0.0.1'], reach: ['client', 'operation', 'administration'] } },
});

test('an administrator is where the listener saw them, whatever they write: a policy that keeps them out is on trial', async () => {
  const set = await desk.ask('policy.set', { document: only('10.3.0.0/24'), from: '10.3.0.9' }, officer('10.2.0.7'));
  expect(set).toMatchObject({ value: { version: 2, trial: true, confirmBy: expect.any(String) } });
  await expect(desk.ask('policy.confirm', { version: 2, from: '10.3.0.9' }, officer('10.2.0.7'))).rejects.toMatchObject({
    code: 'policy-confirmation-outside',
  });
  expect(await desk.ask('policy.confirm', { version: 2 }, officer('10.3.0.8'))).toMatchObject({ value: { version: 2, confirmBy: null } });
});

test('unconfirmed, it is taken back, and the listeners go by the former one again', async () => {
  await desk.ask('policy.set', { document: only('10.3.0.0/24') }, officer('10.2.0.7'));
  house.pass(60_000);
  await house.house.networks.refresh();
  expect(house.house.networks.inForce).toMatchObject({ version: 3, origin: 'rollback' });
  expect(house.house.networks.policy.allows('staff', '127.0.0.1')).toBe(true);
});

test('what cannot be used is not even asked for, by anybody', async () => {
  for (const by of [officer('10.2.0.7'), { kind: 'operator', id: 'root' } as const])
    await expect(desk.ask('policy.set', { document: { networks: [] } }, by)).rejects.toMatchObject({ code: 'policy-invalid' });
  expect(house.house.networks.version).toBe(1);
});

test('others than security officers do not change it', async () => {
  for (const role of ['operator', 'auditor', 'recovery-agent', null] as const)
    await expect(desk.ask('policy.set', { document: only('10.3.0.0/24') }, { ...officer('10.2.0.7'), role })).rejects.toMatchObject({
      code: 'role-missing',
    });
});
