import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Finding } from '../../src/commands/finding.js';
import { SmtpSink, type Turn } from '../mail/smtp-sink.js';
import { Appliance } from '../support/appliance.js';
import { type CuttableProxy, cuttableProxy } from '../support/cuttable-proxy.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal } from '../support/wire.js';
import {
  type Begun,
  begin,
  type DeviceKeys,
  type Door,
  deviceFrom,
  giveAnswer,
  keysOf,
  newDeviceKeys,
  newIdentity,
} from '../support/wire-device.js';

/** Milliseconds in which an enrolment is answered, whatever the mail server does: the mail goes out behind it. */
const PROMPT_MS = 3_000;
const MINUTES = 10;

describe('while the mail server fails', () => {
  const sink = new SmtpSink({ authOptional: true });
  let proxy: CuttableProxy;
  let appliance: Appliance;
  let door: Door;
  let keys: DeviceKeys[];

  beforeAll(async () => {
    keys = await Promise.all(Array.from({ length: 3 }, () => newDeviceKeys()));
    proxy = await cuttableProxy({ host: '127.0.0.1', port: await sink.listen() });
    const mail = { transport: 'smtp', host: '127.0.0.1', port: proxy.port, tls: 'none', from: 'ekms@corp.example' };
    appliance = await Appliance.open({ settings: { mail, enrolment: { minutes: MINUTES } } });
    door = { port: appliance.port, root: appliance.root, app: appliance.app, now: () => new Date(), mailed };
  }, 120_000);

  afterEach(async () => {
    sink.turn = () => 'accept';
    const findings = (await appliance.act('doctor', { data: true })) as Finding[]; // `doctor` in src/commands/acts.ts
    expect(findings.filter(({ verdict }) => verdict !== 'good')).toEqual([]);
    expect(appliance.said).not.toContain('defect');
  }, 60_000);

  afterAll(async () => {
    await appliance?.close();
    await proxy?.close();
    await sink.close();
  }, 60_000);

  async function mailed(address: string, find: (mail: string) => string | undefined): Promise<string> {
    for (const until = Date.now() + 20_000; Date.now() < until; await sleep(20))
      for (const { to, bytes } of sink.accepted.toReversed()) {
        const found = to === address ? find(bytes.toString('latin1')) : undefined;
        if (found !== undefined) return found;
      }
    throw new Error(`the mail to ${address} did not come`);
  }

  const mailsTo = (address: string) => sink.accepted.filter(({ to }) => to === address).map(({ bytes }) => bytes.toString('latin1'));

  /** An enrolment is asked for and answered at once, mail or no mail. */
  async function promptly(name: string, delivery = keys.at(-1)?.delivery): Promise<Begun> {
    if (!delivery) throw new Error('more device keys are needed');
    const from = Date.now();
    const begun = await begin(door, `${name}@corp.example`, { identity: newIdentity(), delivery });
    expect(Date.now() - from).toBeLessThan(PROMPT_MS);
    expect(Math.abs(Date.parse(begun.expiresAt) - from - MINUTES * 60_000)).toBeLessThan(PROMPT_MS);
    return begun;
  }

  /** Its mail came once, with the life that was promised when it was asked for; and it enrols. */
  async function enrolsLate(begun: Begun): Promise<void> {
    const device = deviceFrom(begun, await giveAnswer(door, begun));
    const challenges = mailsTo(begun.address).filter((mail) => mail.includes('Subject: ACME:'));
    expect(challenges).toHaveLength(1);
    expect(challenges[0]).toContain(`EKMS-Expires: ${begun.expiresAt}`);
    expect(await keysOf(door, device)).toEqual([expect.objectContaining({ state: 'active' })]);
  }

  test('down: the enrolment is answered, the mail comes once the server is back', async () => {
    proxy.cut();
    const begun = await promptly('down', keys.pop()?.delivery);
    await sleep(1_500);
    expect(mailsTo(begun.address)).toEqual([]);
    proxy.mend();
    await enrolsLate(begun);
  }, 60_000);

  test('slow: one that says nothing holds up nobody else, and the mail comes when it speaks', async () => {
    proxy.hang();
    const [begun] = await Promise.all([promptly('slow', keys.pop()?.delivery), promptly('other'), promptly('third')]);
    await sleep(2_000);
    proxy.mend();
    await enrolsLate(begun);
  }, 60_000);

  test('busy (4xx): tried again until it is taken, once', async () => {
    const turns: Turn[] = [{ rcpt: 451 }, { data: 452 }];
    sink.turn = (to, moment) => {
      const next = to === 'busy@corp.example' ? turns[0] : undefined;
      if (typeof next !== 'object' || !(moment in next)) return 'accept';
      turns.shift();
      return next;
    };
    const begun = await promptly('busy');
    await enrolsLate(begun);
    expect(turns).toEqual([]);
  }, 60_000);

  test('refusing (5xx): the mail is reported failed, and asking again brings another', async () => {
    sink.turn = (to) => (to === 'refused@corp.example' ? { rcpt: 550 } : 'accept');
    const spare = await newDeviceKeys();
    await promptly('refused', spare.delivery);
    const failed = async () =>
      (await appliance.log(20)).find(({ action, personal }) => action === 'mail.send' && personal['recipient'] === 'refused@corp.example');
    for (const until = Date.now() + 10_000; !(await failed()) && Date.now() < until; await sleep(50));
    expect(await failed()).toMatchObject({ outcome: 'failed', reason: 'smtp-refused' });
    sink.turn = () => 'accept';
    await enrolsLate(await promptly('refused', spare.delivery));
  }, 60_000);
});

test('a challenge whose mail could not go out in time is over with it: nothing is sent late, nothing is extended', async () => {
  const house = await HouseInProcess.open({ settings: { enrolment: { minutes: MINUTES } } });
  try {
    house.mail.broken = true;
    const begun = await begin(house, 'alice@corp.example');
    house.pass(MINUTES * 60_000 + 1_000);
    house.mail.broken = false;
    const failed = async () => (await house.log()).find(({ action }) => action === 'mail.send');
    for (const until = Date.now() + 15_000; !(await failed()) && Date.now() < until; await sleep(50));
    expect(await failed()).toMatchObject({ outcome: 'failed', reason: 'expired' });
    expect(house.mail.accepted).toEqual([]);
    expect(refusal(await giveAnswer(house, begun, 'A'.repeat(22)))).toBe('410 enrolment-expired');
    const again = await begin(house, 'alice@corp.example', begun.keys);
    expect(again.expiresAt > begun.expiresAt).toBe(true);
    expect((await giveAnswer(house, again)).status).toBe(200);
  } finally {
    await house.close();
  }
}, 60_000);
