import 'reflect-metadata';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { EnrolmentDesk } from '../../src/devices/enrolment.js';
import { RegisteredDevices } from '../../src/devices/registered-devices.js';
import { Fault, newId, parseAddress } from '../../src/foundation/index.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { answerBody, type Begun, begin, mailedHalf } from '../support/wire-device.js';

jest.setTimeout(60_000);

const system = { kind: 'system' } as const;
const file = 'src/devices/enrolment.ts';
let house: HouseInProcess;
beforeAll(async () => {
  house = await HouseInProcess.open({ settings: { enrolment: { second: 'device' }, keys: { bits: 2048, pool: { target: 2 } } } });
});
afterAll(() => house?.close());

/** The desk with a guard taken out, or none. */
function desk(guard?: string, instead = ''): EnrolmentDesk {
  const Desk = guard ? guardOff<{ EnrolmentDesk: typeof EnrolmentDesk }>({ file, guard, instead }).EnrolmentDesk : EnrolmentDesk;
  const { parts, settings } = house.house.desk as unknown as Record<'parts' | 'settings', never>; // its constructor's
  return new Desk(parts, settings);
}

const outcome = async (at: EnrolmentDesk, begun: Begun): Promise<string> => {
  const { answer, signature, nonce } = answerBody(house, begun, await mailedHalf(house, begun));
  const given = { answer, signature: Buffer.from(signature, 'base64url'), nonce: Buffer.from(nonce, 'base64url') };
  const app = { kind: 'app', id: house.app.id, platform: 'linux', nonce: newId(), request: { id: newId(), network: '127.0.0.1' } } as const;
  return at.answer(app, begun.id, given).then(
    ({ state }) => state,
    ({ code }: Fault) => code,
  );
};

/** Meanwhile: when the token is asked for a device's certificate, `count` times. */
async function whileIssuing<T>(count: number, meanwhile: () => Promise<void>, act: () => Promise<T>): Promise<T> {
  let asked = 0;
  let go = () => {};
  const all = new Promise<void>((resolve) => {
    go = resolve;
  });
  const issue = house.token.issueDevice.bind(house.token);
  const spy = jest.spyOn(house.token, 'issueDevice').mockImplementation(async (ask) => {
    if (++asked === count) await meanwhile().then(go);
    await all;
    return issue(ask);
  });
  try {
    return await act();
  } finally {
    spy.mockRestore();
  }
}

/** Somebody with two addresses and no device yet, as a directory brings them. */
async function joiner(): Promise<[string, string]> {
  const { employees, storage } = house.house;
  const directory = newId();
  const [first, second] = [`${directory}@corp.example`, `alias-${directory}@corp.example`];
  const binding = await employees.propose(parseAddress(first), directory);
  await storage.write((unit) => employees.insert(unit, binding, system));
  await employees.addAddress(directory, parseAddress(second), system);
  return [first, second];
}

test('two first devices at the same moment, by two addresses of one person: one of them is the first; guard off: both are, without a second proof', async () => {
  const both = async (at: EnrolmentDesk) => {
    const [first, second] = await joiner();
    const begun = [await begin(house, first), await begin(house, second)];
    return (
      await whileIssuing(
        2,
        async () => {},
        () => Promise.all(begun.map((one) => outcome(at, one))),
      )
    ).sort();
  };
  expect(await both(desk())).toEqual(['enrolled', 'enrolment-spent']);
  expect(await both(desk('await this.#requireFirst(unit, enrolment, employee);'))).toEqual(['enrolled', 'enrolled']);
});

test('an address that ends while its device is certified: what they had begun is over; guard off: it serves the next owner', async () => {
  const ended = async (at: EnrolmentDesk) => {
    const [first] = await joiner();
    const begun = await begin(house, first);
    const meanwhile = () => house.house.employees.endBinding(first, system);
    return { first: await whileIssuing(1, meanwhile, () => outcome(at, begun)), again: await outcome(at, begun) };
  };
  // The token knows of the end already, and refuses; what then stands is for the next owner.
  expect(await ended(desk())).toEqual({ first: 'record-stale', again: 'enrolment-denied' });
  expect(await ended(desk("isEnded ? 'denied' : begun.state", 'begun.state'))).toEqual({ first: 'record-stale', again: 'enrolled' });
});

test('the same for somebody who has a key, once the token has certified the device; guard off: it is there', async () => {
  const late = async (at: EnrolmentDesk) => {
    const { storage, employees } = house.house;
    const [address] = await joiner();
    await outcome(at, await begin(house, address));
    const further = await begin(house, address);
    expect(await outcome(at, further)).toBe('waiting');
    await at.approve(further.id, true, system);
    const issue = house.token.issueDevice.bind(house.token);
    const spy = jest.spyOn(house.token, 'issueDevice').mockImplementationOnce(async (ask) => {
      const made = await issue(ask);
      await employees.endBinding(address, system);
      return made;
    });
    const said = await outcome(at, further);
    spy.mockRestore();
    const sql = 'SELECT d.id FROM devices d JOIN bindings b ON b.employee = d.employee WHERE b.address = ?';
    return { said, devices: (await storage.all(sql, [address])).length };
  };
  expect(await late(desk())).toEqual({ said: 'binding-ended', devices: 1 });
  const guard = 'if (!(await isOpen(unit, binding.sealed.record.id)))';
  expect(await late(desk(guard, 'if (false as boolean)'))).toEqual({ said: 'enrolled', devices: 2 });
});

test('a device that comes in while its machine is taken from the list ends with it; guard off: it stays', async () => {
  const removed = async (Made: typeof RegisteredDevices) => {
    const { storage, audit, seal, registry, clock, registered } = house.house;
    const identifier = newId().toUpperCase();
    const { settings } = registered as unknown as Record<'settings', never>; // its constructor's
    const machines = new Made(storage, audit, seal, registry, clock, settings);
    await machines.add([{ identifier, address: 'a@corp.example' }], system);
    const devices: string[] = [];
    /** As an enrolment does it, in its unit. */
    const comesIn = async () => {
      const [address] = await joiner();
      await outcome(desk(), await begin(house, address));
      const [device] = await storage.all<{ id: string }>(
        'SELECT d.id FROM devices d JOIN bindings b ON b.employee = d.employee WHERE b.address = ?',
        [address],
      );
      devices.push(device?.id ?? '');
      await storage.write((unit) => machines.take(unit, device?.id ?? '', { source: 'list', subject: identifier }, 'a@corp.example'));
    };
    await comesIn();
    const end = registry.end.bind(registry);
    const spy = jest.spyOn(registry, 'end').mockImplementationOnce(async (...asked) => {
      await end(...asked);
      await comesIn();
    });
    await machines.remove(identifier, true, system);
    spy.mockRestore();
    const states = await Promise.all(devices.map((id) => storage.one<{ state: string }>('SELECT state FROM devices WHERE id = ?', [id])));
    return states.map((row) => row?.state);
  };
  expect(await removed(RegisteredDevices)).toEqual(['revoked', 'revoked']);
  const guard = "if (devices && (await this.#active(unit, { source: 'list', subject: identifier })).length > 0) return false;";
  const unguarded = guardOff<{ RegisteredDevices: typeof RegisteredDevices }>({
    file: 'src/devices/registered-devices.ts',
    guard,
    instead: '',
  });
  expect(await removed(unguarded.RegisteredDevices)).toEqual(['revoked', 'active']);
});
