import 'reflect-metadata';
import { expect, jest, test } from '@jest/globals';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal } from '../support/wire.js';
import { asDevice, enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);

test('whoever reads the uses of their keys without end waits, and writes no more into the log; nobody else does', async () => {
  const house = await HouseInProcess.open({
    settings: { keys: { bits: 2048, pool: { target: 2 } }, budgets: { readings: { device: { minute: 3 } } } },
  });
  try {
    const [alice, bob] = [await enrolDevice(house, 'alice@corp.example'), await enrolDevice(house, 'bob@corp.example')];
    for (const one of [alice, bob]) await keysOf(house, one);
    const read = (device = alice) => asDevice(house, device, 'GET', `/v1/me/uses?from=0&since=0&nonce=${'A'.repeat(43)}`);
    const written = async () => (await house.log(200)).filter(({ action }) => action === 'key.uses').length;
    const replies = [];
    for (let n = 0; n < 8; n++) replies.push(await read());
    // A minute may have turned on the way.
    expect(refusal(replies.at(-1) ?? (await read()))).toBe('429 budget-exceeded');
    expect(await written()).toBe(replies.filter(({ status }) => status === 200).length);
    expect((await read(bob)).status).toBe(200);
    expect((await asDevice(house, alice, 'GET', '/v1/keys')).status).toBe(200);
  } finally {
    await house.close();
  }
});
