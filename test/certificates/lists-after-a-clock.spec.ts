import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { RevocationLists } from '../../src/certificates/index.js';
import type * as revocationLists from '../../src/certificates/revocation-lists.js';
import { examine } from '../../src/commands/doctor.js';
import { authorityId } from '../../src/tokens/index.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';

jest.setTimeout(30_000);
const DAY = 86_400_000;
const FILE = 'src/certificates/revocation-lists.ts';
let house: HouseInProcess;
beforeAll(async () => {
  house = await HouseInProcess.open();
});
afterAll(() => house?.close());

/** As openssl reads that of the people CA: in days from now, and its number. */
async function standing() {
  const input = await house.house.revocations.find('people');
  const text = execFileSync('openssl', ['crl', '-inform', 'DER', '-noout', '-lastupdate', '-nextupdate', '-crlnumber'], {
    input,
  }).toString();
  const inDays = (name: string) => Math.round((Date.parse(new RegExp(`${name}=(.*)`).exec(text)?.[1] ?? '') - Date.now()) / DAY) + 0; // no -0
  return { from: inDays('lastUpdate'), to: inDays('nextUpdate'), number: BigInt(/crlNumber=(\w+)/.exec(text)?.[1] ?? '0') };
}
const words = async () =>
  (await examine(house.house, { data: false })).filter(({ check, verdict }) => check === 'revocation lists' && verdict !== 'good');
const unguarded = (...[first, ...more]: { guard: string; instead: string }[]): RevocationLists => {
  const { storage, audit, clock, authorities } = house.house;
  const { RevocationLists: Off } = guardOff<typeof revocationLists>({ file: FILE, guard: '', instead: '', ...first }, ...more);
  return new Off(storage, audit, house.token, clock, authorities);
};

test('lists that were made while the clock was a month ahead are followed by others when it is right again, with higher numbers and no longer lives; with the guards off nobody has one in force for that month', async () => {
  house.pass(30 * DAY);
  await house.house.revocations.publishDue();
  house.pass(-30 * DAY);
  const ahead = await standing();
  expect(ahead).toMatchObject({ from: 30, to: 37 });
  expect(await words()).toHaveLength(house.house.authorities.all.length);
  expect((await words())[0]).toMatchObject({ verdict: 'bad', words: expect.stringContaining('while the clock was ahead') });

  await unguarded({ guard: ' || (last && isAhead(last.der, now))', instead: '' }).publishDue();
  expect(await standing()).toEqual(ahead);
  await unguarded({ guard: 'wasLast && left > LIFE', instead: 'left > LIFE' }).publishDue();
  expect(await standing()).toMatchObject({ from: 0, to: 37 });

  house.pass(30 * DAY);
  for (const authority of house.house.authorities.all) await house.house.revocations.publish(authority.name);
  house.pass(-30 * DAY);
  const again = await standing();
  await house.house.revocations.publishDue();
  const right = await standing();
  expect(right).toMatchObject({ from: 0, to: 7 });
  expect(right.number).toBeGreaterThan(again.number);
  expect(await words()).toEqual([]);
  await house.house.revocations.publishDue();
  expect(await standing()).toEqual(right);

  // The last one of a generation that is retired stays as long as it was, in whoever's hands.
  const people = house.house.authorities.all.find((each) => authorityId(each) === 'people');
  if (people) await house.house.revocations.publishLast(people);
  const last = await standing();
  expect(last.to).toBeGreaterThan(1_000);
  await house.house.revocations.publish('people');
  expect((await standing()).to).toBe(last.to);
});
