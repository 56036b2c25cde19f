import { describe, expect, test } from '@jest/globals';
import { type AppActor, type BudgetLimits, Budgets, budgetsShape, type DeviceActor, Sites, type Spending } from '../../src/access/index.js';
import { AuditReader, DurableAuditLog } from '../../src/audit/index.js';
import { Clock, type Storage } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';

class TestClock extends Clock {
  time = Date.parse('2026-11-25T12:00:00.000Z');
  override now(): Date {
    return new Date(this.time);
  }
}

const MINUTE = 60_000;
const networks = {
  berlin: { addresses: ['10.1.0.0/16', 'fd00:1::/48'], reach: ['client'] as const },
  paris: { addresses: ['10.2.0.0/16'], reach: ['client'] as const },
};
const device = (id: string, employee: string, network = '10.1.0.7'): DeviceActor =>
  ({ kind: 'device', id, employee, app: 'app1', request: { id: 'r1', network } }) as DeviceActor; // budgets look at nothing else
const app = (network: string): AppActor =>
  ({ kind: 'app', id: 'app1', platform: 'linux', nonce: '', request: { id: 'r1', network } }) as AppActor;

/** Rows of these people and their devices, as an enrolment leaves them. */
const known = (storage: Storage, people: Record<string, string[]>) =>
  storage.write(async (unit) => {
    for (const [person, devices] of Object.entries(people)) {
      await unit.run("INSERT INTO employees (id, state, created) VALUES (?, 'active', 0)", [person]);
      for (const id of devices)
        await unit.run(
          `INSERT INTO devices (id, employee, certificate_digest, serial, delivery_key, delivery_digest, identity_jkt, platform, app, state, enrolled)
           VALUES (?, ?, ?, '1', ?, ?, ?, 'linux', 'app1', 'active', 0)`,
          [id, person, Buffer.from(id), Buffer.from(id), Buffer.from(id), id],
        );
    }
  });

const refused = (retryAfter: number) => expect.objectContaining({ kind: 'too-many', code: 'budget-exceeded', retryAfter });

describe('budgets', () => {
  eachDatabase((database) => {
    const open = (storage: Storage, settings: object) => {
      const clock = new TestClock();
      const limits: BudgetLimits = budgetsShape.parse(settings);
      const node = () => new Budgets(storage, new DurableAuditLog(clock), clock, limits, new Sites(networks));
      const budgets = node();
      const fetch = (who: DeviceActor, of = budgets) => of.take(of.ofDevice('retrievals', who));
      const log = async () => (await new AuditReader(storage).latest(50)).map(({ body }) => body);
      return { clock, budgets, node, fetch, log };
    };
    const times = async (count: number, act: () => Promise<void>) => {
      let done = 0;
      for (let n = 0; n < count; n++)
        await act().then(
          () => done++,
          () => undefined,
        );
      return done;
    };

    test('a device over its minute is refused until the minute ends, with one alarm; nobody else notices', async () => {
      const { storage } = await database();
      const { clock, budgets, fetch, log } = open(storage, { retrievals: { device: { minute: 3 } } });
      clock.time += 20_000;
      expect(await times(9, () => fetch(device('d1', 'anna')))).toBe(3);
      await expect(fetch(device('d1', 'anna'))).rejects.toEqual(refused(40));
      await fetch(device('d2', 'anna'));
      await fetch(device('d3', 'bert'));
      expect(await log()).toMatchObject([
        {
          action: 'budget.exceed',
          reason: 'budget-exceeded',
          device: 'd1',
          facts: { counter: 'retrievals', scope: 'device', window: 'minute' },
        },
      ]);
      clock.time += 40_000;
      await fetch(device('d1', 'anna'));
      expect(await budgets.frozen()).toEqual([]);
    });

    test('what was used counts after a restart and on every node, whoever asks at once', async () => {
      const { storage } = await database();
      const { node } = open(storage, { retrievals: { device: { minute: 10 } } });
      const nodes = [node(), node(), node()];
      const asked = Array.from({ length: 30 }, (_, n) => {
        const one = nodes[n % 3] ?? node();
        return one.take(one.ofDevice('retrievals', device('d1', 'anna')));
      });
      const outcomes = await Promise.allSettled(asked);
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(10);
      const later = node();
      await expect(later.take(later.ofDevice('retrievals', device('d1', 'anna')))).rejects.toEqual(refused(60));
    });

    test('who goes on asking is charged ahead: half of what they had in this minute, an eighth of the minute before, once for all who come together', async () => {
      const { storage } = await database();
      const { clock, fetch } = open(storage, { retrievals: { device: { minute: 1600 }, person: { minute: 1600 } } });
      const charged = async () =>
        (await storage.one<{ in_minute: number }>("SELECT in_minute FROM budget_use WHERE scope = 'device' AND subject = 'd1'"))?.in_minute;
      expect(await times(40, () => fetch(device('d1', 'anna')))).toBe(40);
      expect(await charged()).toBe(42); // 28 and half of them
      clock.time += MINUTE;
      await Promise.all(Array.from({ length: 8 }, () => fetch(device('d1', 'anna'))));
      expect(await charged()).toBeGreaterThanOrEqual(8);
      expect(await charged()).toBeLessThanOrEqual(5 + 7);
      clock.time += 2 * MINUTE;
      await fetch(device('d1', 'anna'));
      expect(await charged()).toBe(1);
    });

    test('over its day a device is frozen where it explains the excess, else its person; an operator lets them go on', async () => {
      const { storage } = await database();
      const { budgets, fetch, log } = open(storage, { retrievals: { device: { day: 5 }, person: { day: 8 } } });
      await known(storage, { anna: ['d1', 'd2'], bert: ['b1', 'b2', 'b3'] });
      expect(await times(9, () => fetch(device('d1', 'anna')))).toBe(5);
      expect(await budgets.frozen()).toMatchObject([{ scope: 'device', subject: 'd1', counter: 'retrievals' }]);
      await fetch(device('d2', 'anna'));
      await budgets.unfreeze('device', 'd1', { kind: 'operator' });
      expect(await budgets.frozen()).toEqual([]);
      expect(await times(9, () => fetch(device('d1', 'anna')))).toBe(5);
      await budgets.unfreeze('device', 'd1', { kind: 'operator' });

      for (const [id, most] of [
        ['b1', 3],
        ['b2', 3],
        ['b3', 2],
      ] as const)
        expect(await times(3, () => fetch(device(id, 'bert')))).toBe(most);
      expect(await budgets.frozen()).toMatchObject([{ scope: 'person', subject: 'bert' }]);
      await budgets.unfreeze('person', 'bert', { kind: 'operator' });
      await fetch(device('b3', 'bert'));
      expect((await log()).map(({ action }) => action)).toEqual([
        ...['budget.exceed', 'budget.freeze', 'budget.unfreeze'],
        ...['budget.exceed', 'budget.freeze', 'budget.unfreeze'],
        ...['budget.exceed', 'budget.freeze', 'budget.unfreeze'],
      ]);
      await expect(budgets.unfreeze('person', 'bert', { kind: 'operator' })).rejects.toMatchObject({ code: 'freeze-unknown' });
    });

    test('a site over its budget is slowed and alarmed once: each device still gets one a minute, and other sites all they want', async () => {
      const { storage } = await database();
      const { clock, fetch, log } = open(storage, { retrievals: { site: { minute: 20 } } });
      expect(await times(30, () => fetch(device('d1', 'anna')))).toBe(20);
      for (let n = 0; n < 5; n++) expect(await times(3, () => fetch(device(`e${n}`, `p${n}`)))).toBe(1);
      expect(await times(10, () => fetch(device('f1', 'paul', '10.2.0.9')))).toBe(10);
      expect((await log()).filter(({ action }) => action === 'budget.exceed')).toHaveLength(1);
      clock.time += MINUTE;
      expect(await times(10, () => fetch(device('d1', 'anna')))).toBe(10);
    });

    test('a unit that is charged over budget is undone whole', async () => {
      const { storage } = await database();
      const { budgets } = open(storage, { retrievals: { device: { minute: 1 } } });
      const spending = () => budgets.ofDevice('retrievals', device('d1', 'anna'));
      const work = (name: string) =>
        budgets.within(spending(), (charge) =>
          storage.write(async (unit) => {
            await unit.run("INSERT INTO settings (name, value) VALUES (?, '')", [name]);
            await charge(unit);
          }),
        );
      await work('first');
      await expect(work('second')).rejects.toEqual(refused(60));
      expect(await storage.all('SELECT name FROM settings')).toEqual([{ name: 'first' }]);
    });

    test('whoever asks for somebody else’s address uses up neither that person’s tries nor any device’s', async () => {
      const { storage } = await database();
      const { budgets, fetch } = open(storage, {
        challenges: { mailbox: { minute: 5 }, source: { minute: 8 }, appliance: { minute: 12 } },
      });
      const ask = (network: string, address: string) => budgets.take(budgets.ofChallenge(app(network), address));
      expect(await times(20, () => ask('10.1.6.6', 'anna@corp.example'))).toBe(5);
      // The same stranger under more addresses of one IPv6 host, and for more people, until the whole appliance is over.
      expect(await times(10, () => ask('fd00:1::6666', 'anna@corp.example'))).toBe(5);
      expect(await times(10, () => ask('fd00:1::7777', 'bert@corp.example'))).toBeLessThan(4);
      // Over the appliance's budget everybody still gets one.
      await ask('10.1.0.7', 'anna@corp.example');
      await fetch(device('d1', 'anna'));
    });

    test('a roll-out has a window of its own, and what goes beyond it is judged as ever', async () => {
      const { storage } = await database();
      const rollouts = [{ network: 'berlin', from: '2026-11-25T11:00:00Z', to: '2026-11-25T13:00:00Z', count: 30 }];
      const { clock, budgets } = open(storage, { enrolments: { source: { minute: 2 }, site: { minute: 2 } }, rollouts });
      const enrol = (network: string, employee?: string): Spending => budgets.ofEnrolment(app(network), employee);
      expect(await times(40, () => budgets.take(enrol('10.1.0.7')))).toBeGreaterThanOrEqual(30);
      expect(await times(5, () => budgets.take(enrol('10.2.0.7')))).toBe(2);
      clock.time += 120 * MINUTE;
      expect(await times(5, () => budgets.take(enrol('10.1.0.7')))).toBe(2);
    });
  });
});
