import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal, type WireReply } from '../support/wire.js';
import { asDevice, begin, enrolDevice, fetchKeys, newDeviceKeys, postSigned, requestBody } from '../support/wire-device.js';

jest.setTimeout(60_000);

const retryAfter = ({ headers }: WireReply): number => Number(headers.find(([name]) => name.toLowerCase() === 'retry-after')?.[1]);

describe('budgets, over the wire', () => {
  let house: HouseInProcess;
  beforeAll(async () => {
    const budgets = { retrievals: { device: { minute: 4, day: 6 } }, challenges: { mailbox: { minute: 3 } } };
    house = await HouseInProcess.open({ settings: { budgets, keys: { bits: 2048, pool: { target: 4 } } } });
  });
  afterAll(() => house?.close());

  test('a device that asks too much waits, then is frozen alone; an operator lets it go on', async () => {
    const [first, second] = [await enrolDevice(house, 'anna@corp.example'), await enrolDevice(house, 'anna@corp.example')];
    for (let n = 0; n < 4; n++) expect((await fetchKeys(house, first)).status).toBe(200);
    const over = await fetchKeys(house, first);
    expect(refusal(over)).toBe('429 budget-exceeded');
    expect(retryAfter(over)).toBeGreaterThan(0);
    expect(retryAfter(over)).toBeLessThanOrEqual(60);
    house.pass(60_000);
    for (let n = 0; n < 2; n++) expect((await fetchKeys(house, first)).status).toBe(200);
    expect(refusal(await fetchKeys(house, first))).toBe('429 budget-exceeded');
    // Frozen now: no route of a device answers it any more, and its person's other device goes on.
    expect(refusal(await fetchKeys(house, first))).toBe('403 device-over-budget');
    expect(refusal(await asDevice(house, first, 'GET', '/v1/devices'))).toBe('403 device-over-budget');
    expect((await fetchKeys(house, second)).status).toBe(200);
    const entries = await house.log(40);
    expect(entries.filter(({ action }) => action === 'budget.exceed')).toHaveLength(2);
    expect(entries.find(({ action }) => action === 'budget.freeze')).toMatchObject({ device: first.id, employee: first.employee });

    expect(await house.act('budget.frozen', {})).toMatchObject([{ scope: 'device', subject: first.id }]);
    await house.act('budget.unfreeze-device', { id: first.id });
    expect((await fetchKeys(house, first)).status).toBe(200);
  });

  test('asking for somebody’s address too often says nothing of who exists, and never touches their device', async () => {
    const device = await enrolDevice(house, 'bert@corp.example');
    house.pass(60_000);
    const keys = await newDeviceKeys();
    const said = [];
    for (const address of ['bert@corp.example', 'nobody@corp.example']) {
      for (let n = 0; n < 3; n++) await begin(house, address, keys);
      const reply = await postSigned(house, '/v1/enrolments', requestBody(address, keys));
      const { status, body } = reply;
      said.push({ status, retry: retryAfter(reply) <= 60, body: body.toString().replace(/"instance":"[^"]*"/, '') });
    }
    expect(said[0]).toEqual(said[1]);
    expect(said[0]).toMatchObject({ status: 429 });
    expect((await fetchKeys(house, device)).status).toBe(200);
  });
});
