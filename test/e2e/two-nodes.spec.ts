import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { checkLog, leafHash } from '../../src/audit/index.js';
import { base64url, newId, SystemClock } from '../../src/foundation/index.js';
import { intend, openIntents } from '../../src/storage/index.js';
import { Appliance, DOMAIN } from '../support/appliance.js';
import { TwoUnits } from '../support/two-units.js';
import { enrolDevice, fetchKeys, type WireDevice, type WireKey } from '../support/wire-device.js';

jest.setTimeout(180_000);

/** A whole appliance whose token process, database and mail are others' too. */
class Node extends Appliance {
  static async beside(units: TwoUnits): Promise<Node> {
    const node: Node = await Node.prepare();
    node.databaseUrl = units.databaseUrl;
    const keys = { bits: 2048, pool: { target: 6 } };
    node.configure({ domains: [DOMAIN], keys, token: { socket: units.socket }, database: { url: units.databaseUrl } });
    symlinkSync(units.file('mail'), node.file('mail'));
    copyFileSync(units.file('ca.pem'), node.file('ca.pem'));
    await node.serve();
    return node;
  }

  /** By SIGKILL, which leaves nobody to say good-bye. */
  async kill(): Promise<void> {
    const { pid } = this;
    process.kill(pid, 'SIGKILL');
    while (existsSync(`/proc/${pid}`)) await sleep(5);
  }
}

/** One receipt that a device was given: an entry that was promised to be in the log. */
interface Promised {
  device: string;
  index: number;
  leaf: string;
}

(process.env['EKMS_TEST_POSTGRES'] ? describe : describe.skip)('two appliances on one database and one token process', () => {
  let units: TwoUnits;
  let nodes: [Node, Node];
  const devices: WireDevice[] = [];
  const promised: Promised[] = [];

  beforeAll(async () => {
    units = await TwoUnits.prepare({ database: 'postgres' });
    units.configure({ domains: [DOMAIN], keys: { bits: 2048 }, token: { socket: units.socket }, database: { url: units.databaseUrl } });
    units.tokenFile({ file: units.pinFile });
    await units.makeToken();
    await units.startToken();
    const made = await units.ekms('init');
    if (made.status !== 0) throw new Error(made.stderr);
    mkdirSync(units.file('mail'), { recursive: true });
    nodes = [await Node.beside(units), await Node.beside(units)];
    const people = Array.from({ length: 4 }, (_, n) => `person${n}@${DOMAIN}`);
    devices.push(...(await Promise.all(people.map((address, n) => enrolDevice(nodes[(n % 2) as 0 | 1], address)))));
  });
  afterAll(async () => {
    for (const node of nodes ?? []) await node.close();
    await units?.close();
  });

  /** A device that fetches its keys again and again until told to end; refusals and broken connections are counted by their words. */
  const load = (node: Node, device: WireDevice, until: () => boolean, refused: Map<string, number>) =>
    (async () => {
      while (!until()) {
        try {
          const reply = await fetchKeys(node, device);
          if (reply.status !== 200) throw new Error(`${reply.status} ${reply.body.toString('utf8').slice(0, 200)}`);
          for (const { receipt } of reply.json as WireKey[]) if (receipt) promised.push({ device: device.id, ...receipt });
        } catch (error) {
          refused.set((error as Error).message, (refused.get((error as Error).message) ?? 0) + 1);
          await sleep(20);
        }
      }
    })();

  const acknowledged = async (count: number) => {
    for (const until = Date.now() + 60_000; promised.length < count && Date.now() < until; ) await sleep(2);
  };

  test('one is killed while both serve: no fork, no gap, and every act that was acknowledged has its entry, once', async () => {
    const [killed, other] = nodes;
    let [isOver, wasKilled] = [false, false];
    const [atKilled, atOther] = [new Map<string, number>(), new Map<string, number>()];
    const loads = devices.flatMap((device) => [
      load(killed, device, () => wasKilled, atKilled),
      load(other, device, () => isOver, atOther),
    ]);
    await acknowledged(40);
    const before = promised.length;
    await killed.kill();
    wasKilled = true;
    await acknowledged(before + 20);
    // Comes back beside the other, which is enrolling meanwhile: nothing of that is taken for a left-over.
    const [, ...enrolled] = await Promise.all([killed.start(), ...['new1', 'new2'].map((name) => enrolDevice(other, `${name}@${DOMAIN}`))]);
    isOver = true;
    await Promise.all(loads);
    console.log(
      `two nodes: ${before} acts acknowledged before the kill, ${promised.length - before} after; ${[...atKilled].length} kinds of trouble at the killed one`,
    );
    expect(before).toBeGreaterThanOrEqual(40);
    expect(promised.length).toBeGreaterThanOrEqual(before + 20);
    expect([...atOther]).toEqual([]);
    for (const device of enrolled) expect((await fetchKeys(killed, device)).status).toBe(200);

    const { db } = other;
    expect((await checkLog(db)).problems).toEqual([]);
    const entries = await db.all<{ idx: number; body: string; leaf: Buffer; device: string | null }>(
      "SELECT idx, body, leaf, device FROM audit_entries WHERE action = 'key.deliver' AND outcome = 'done'",
    );
    const byIndex = new Map(entries.map((entry) => [entry.idx, entry]));
    for (const { device, index, leaf } of promised)
      expect({ index, device: byIndex.get(index)?.device, leaf: base64url(leafHash(byIndex.get(index)?.body ?? '')) }).toEqual({
        index,
        device,
        leaf,
      });
    expect(new Set(promised.map(({ index }) => index)).size).toBe(promised.length);
    for (const node of nodes) {
      const ready = await fetch(`http://127.0.0.1:${node.ports.operation}/health/ready`);
      expect(await ready.json()).toMatchObject({ log: { state: 'whole' } });
    }
    expect(await other.ekms('audit', 'verify')).toMatchObject({ status: 0 });
  });

  test('who starts beside another leaves alone what that one has begun; taken for alone, it would end it', async () => {
    const [one, other] = nodes;
    const { db } = other;
    const begun = async () => (await openIntents(db)).map(({ id }) => id);
    const underWay = newId();
    await one.stop();
    await db.write((unit) => intend(unit, underWay, 'block-device', {}, new SystemClock()));
    await one.start();
    expect(await begun()).toContain(underWay);
    await one.stop();
    await other.stop();
    await one.start();
    expect(await begun()).not.toContain(underWay);
    // One that cannot begin says so and ends; it gives no sign of life any more.
    await one.stop();
    await other.start();
    const settings = JSON.parse(readFileSync(one.file('ekms.yaml'), 'utf8')) as { listen: Record<string, string> };
    settings.listen['client'] = `127.0.0.1:${other.ports.client}`;
    writeFileSync(one.file('ekms.yaml'), JSON.stringify(settings));
    await expect(one.start()).rejects.toThrow(/ended with status [1-9]/);
    expect(await db.all('SELECT name FROM nodes')).toHaveLength(1);
  });
});
