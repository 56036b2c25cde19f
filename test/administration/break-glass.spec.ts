import 'reflect-metadata';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { HouseInProcess } from '../support/house-in-process.js';
import { TestAdministrator } from '../support/officers.js';

jest.setTimeout(60_000);
const HOUR = 3_600_000;

let house: HouseInProcess;
let anna: TestAdministrator;
const officers = [
  { name: 'Clara', address: 'clara@corp.example' },
  { name: 'Anna', address: 'anna@corp.example' },
];
const begin = () => house.act('break-glass.begin', { officers });
const refused = (code: string) => expect.objectContaining({ code });

beforeAll(async () => {
  house = await HouseInProcess.open({ settings: { breakGlass: { announce: ['board@corp.example'] } } });
  await expect(begin()).rejects.toEqual(refused('bootstrap-open'));
  anna = await TestAdministrator.register(house, 'anna');
  await TestAdministrator.register(house, 'boris');
});
afterAll(() => house.close());

test('nothing is given before the wait is over, everybody is told, and any administrator stops it', async () => {
  await begin();
  for (const address of ['anna@corp.example', 'boris@corp.example', 'board@corp.example'])
    await house.mailed(address, (mail) => (mail.includes('The glass is being broken') ? mail : undefined));
  await expect(begin()).rejects.toEqual(refused('break-glass-waiting'));
  house.pass(47 * HOUR);
  await expect(house.act('break-glass.open', {})).rejects.toEqual(refused('break-glass-early'));
  const findings = (await house.act('doctor', { data: false })) as { check: string; verdict: string }[];
  expect(findings).toContainEqual(expect.objectContaining({ check: 'break-glass', verdict: 'bad' }));
  await anna.signIn();
  expect((await anna.ask('GET', 'me')).json).toMatchObject({ breakGlass: { officers: [{ address: 'clara@corp.example' }, {}] } });
  expect(await anna.act('break-glass.cancel', {})).toMatchObject({ status: 200 });
  house.pass(2 * HOUR);
  await expect(house.act('break-glass.open', {})).rejects.toEqual(refused('break-glass-none'));
});

test('no administrator begins or opens it from the pages', async () => {
  await anna.signIn();
  expect(await anna.act('break-glass.begin', { officers })).toMatchObject({ status: 403, code: 'role-missing' });
  expect(await anna.act('break-glass.open', {})).toMatchObject({ status: 403, code: 'role-missing' });
});

test('whoever writes the database does not shorten the wait', async () => {
  await begin();
  await house.db.write((unit) => unit.run("UPDATE break_glass SET opens = begun WHERE state = 'waiting'"));
  await expect(house.act('break-glass.open', {})).rejects.toEqual(refused('break-glass-none'));
});

test('after the wait the named officers come in, once; lost passkeys end, and two persons can act again', async () => {
  await begin();
  house.pass(73 * HOUR);
  await expect(house.act('break-glass.open', {})).rejects.toEqual(refused('break-glass-none')); // nobody came within a day
  await begin();
  house.pass(48 * HOUR);
  const links = (await house.act('break-glass.open', {})) as { name: string; link: string }[];
  await house.mailed('board@corp.example', (mail) => (mail.includes('The glass was broken') ? mail : undefined));
  await expect(house.act('break-glass.open', {})).rejects.toEqual(refused('break-glass-none'));
  const [clara, again] = await Promise.all([
    TestAdministrator.register(house, 'clara', undefined, links[0]?.link),
    TestAdministrator.register(house, 'anna', undefined, links[1]?.link),
  ]);
  expect(again.id).toBe(anna.id);
  await expect(anna.signIn()).rejects.toThrow('passkey-refused');
  const asked = await again.act('admin.role', { id: clara.id, role: 'recovery-agent' });
  expect((await clara.approve((asked.json as { id: string }).id)).json).toMatchObject({ state: 'done' });
  const log = (await house.log(200)).map(({ action, outcome }) => `${action} ${outcome}`);
  for (const entry of ['break-glass.begin done', 'break-glass.cancel done', 'break-glass.open done']) expect(log).toContain(entry);
  expect(house.defects).toEqual([]);
});
