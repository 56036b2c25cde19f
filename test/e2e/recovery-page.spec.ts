import 'reflect-metadata';
import { generateKeyPairSync, sign } from 'node:crypto';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { base64url } from '../../src/foundation/index.js';
import { type Appointment, applianceName, appointmentBytes } from '../../src/tokens/index.js';
import { type BrowserPerson, TestBrowser } from '../support/browser.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { openDelivery } from '../support/open-delivery.js';
import { refusal } from '../support/wire.js';
import { asDevice, enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);

/** Recovery agents at their page, in Chromium, with passkeys that it emulates; whom a quorum of the ceremony's agents has appointed. */
const ceremony = ['Olga', 'Paul'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
let house: HouseInProcess;
let browser: TestBrowser;
let mona: BrowserPerson;
let nils: BrowserPerson;
let alice: WireDevice;
let rita: WireDevice;

beforeAll(async () => {
  const agents = ceremony.map(({ name, publicKey }) => ({ name, publicKey: publicKey.export({ format: 'der', type: 'spki' }) }));
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 2 } } }, agents: { quorum: 2, agents } });
  alice = await enrolDevice(house, 'alice@corp.example');
  rita = await enrolDevice(house, 'rita@corp.example');
  browser = await TestBrowser.open(house.root);
  [mona, nils] = [await comes('mona'), await comes('nils')];
  await appoint(['mona', 'nils']);
});
afterAll(async () => {
  await browser?.close();
  await house?.close();
});

/** Comes in by an invitation and makes a passkey. */
async function comes(name: string, role = 'recovery-agent'): Promise<BrowserPerson> {
  const person = await browser.person();
  await person.authenticator();
  const { link } = (await house.act('admin.invite', { name, address: `${name}@corp.example`, role })) as { link: string };
  await person.page.goto(link);
  await person.page.click('button');
  await person.page.locator('#inside').waitFor();
  return person;
}

/** Their passkeys become the list in force: what the appliance does once the former agents have signed it. */
async function appoint(names: string[]): Promise<void> {
  const { administrators, passkeys, origins, recoveryAgents, authorities, clock } = house.house;
  const page = { rp: origins.publicName, origin: origins.of('administration') };
  const listed = names.map(async (name) => {
    const administrator = await administrators.byAddress(`${name}@corp.example`);
    const [passkey] = await passkeys.of(administrator?.id ?? '');
    if (!passkey) throw new Error(`${name} has no passkey`);
    return { name, publicKey: base64url(passkeys.publicKeyOf(passkey)), passkey: { id: passkey.id, ...page } };
  });
  const list = { quorum: names.length, agents: await Promise.all(listed) };
  const appointment: Appointment = { v: 1, appliance: applianceName(authorities.root), version: 2, list };
  const approvals = ceremony.map(({ name, privateKey }) => ({
    agent: name,
    signature: sign(null, appointmentBytes(appointment), privateKey),
  }));
  const { record, mac } = await house.token.appoint({ appointment, approvals });
  await house.db.write((unit) =>
    unit.run('INSERT INTO recovery_agents (version, list, mac, created) VALUES (?, ?, ?, ?)', [
      ...[record.version, JSON.stringify(record.list)],
      mac,
      clock.now().getTime(),
    ]),
  );
  await recoveryAgents.settleRaise();
}

const file = async (more: object = {}) => {
  const ask = { address: 'alice@corp.example', device: rita.id, reason: 'departed', reference: 'HR 12', days: 7, ...more };
  return ((await house.act('recovery.file', ask)) as { case: string }).case;
};
const paper = async ({ page }: BrowserPerson, of: string) => {
  await page.reload();
  await page.locator('#recovery').waitFor();
  return page.locator(`article[data-paper="${of}"]`);
};

test('each agent reads whose keys, why and for which device, and signs just that; with the last that is needed the token gives them to that device', async () => {
  const [key] = await keysOf(house, alice);
  const of = await file();
  const opening = () => asDevice(house, rita, 'POST', `/v1/recoveries/${of}/openings`, { key: key?.id });
  for (const [n, agent] of [mona, nils].entries()) {
    const shown = await paper(agent, of);
    expect(await shown.locator('h3').textContent()).toContain('Keys of a person');
    const words = await shown.locator('pre').textContent();
    for (const said of [rita.id, alice.employee, 'departed', 'HR 12']) expect(words).toContain(said);
    expect(await shown.locator('.state').textContent()).toContain(`${n} of 2 agents`);
    expect(refusal(await opening())).toBe('403 recovery-not-approved');
    await shown.locator('button.approve').click();
    await agent.page.locator(`article[data-paper="${of}"] .state`, { hasText: `${n + 1} of 2 agents` }).waitFor();
  }
  const opened = await opening();
  expect(opened.status).toBe(200);
  const { delivery } = opened.json as { delivery: string };
  expect(openDelivery(Buffer.from(delivery, 'base64'), rita.keys.delivery)).toEqual(
    openDelivery(Buffer.from(key?.delivery ?? '', 'base64'), alice.keys.delivery),
  );
  expect(house.defects).toEqual([]);
});

test('a page that shows one paper and has another signed gets nothing for it: the signature is over the challenge alone', async () => {
  const [shown, other] = [await file(), await file({ reading: true, days: 100 })];
  const article = await paper(mona, shown);
  // A compromised page: the passkey is asked for the paper that is shown, and its answer given in for the other.
  await mona.page.route('**/acts/recovery.approve', async (route) => {
    const body = route.request().postDataJSON() as { args: object };
    await route.continue({ postData: JSON.stringify({ args: { ...body.args, case: other } }) });
  });
  await article.locator('button.approve').click();
  expect(await mona.alert()).toContain('approval-invalid');
  await mona.page.unroute('**/acts/recovery.approve');
});

test('a case that was taken back is not shown any more, and others than agents see nothing of this', async () => {
  const of = await file({ reading: true, days: 100 });
  expect(await (await paper(nils, of)).locator('h3').textContent()).toContain('Reading the mail of a person');
  await house.act('recovery.end', { case: of });
  expect(await (await paper(nils, of)).count()).toBe(0);
  const ada = await comes('ada', 'auditor');
  expect(await ada.page.isVisible('#recovery')).toBe(false);
});
