import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { NetworkPolicies } from '../../src/access/network-policies.js';
import { NetworkPolicy, type PolicyDocument, ROUTE_CLASSES, readPolicy } from '../../src/access/network-policy.js';
import { narrowed, widenings } from '../../src/access/policy-narrowing.js';
import { RefusedConnections } from '../../src/access/refused-connections.js';
import { RowSeal } from '../../src/access/row-seal.js';
import { AuditReader, DurableAuditLog } from '../../src/audit/index.js';
import { type AuditActor, Clock, isFault, type Storage } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';

class TestClock extends Clock {
  time = Date.parse('2026-11-23T12:00:00.000Z');
  override now(): Date {
    return new Date(this.time);
  }
}

const OFFICER: AuditActor = { kind: 'administrator', id: '00000000-0000-4000-8000-000000000001' };
const SEAL = new RowSeal(Buffer.alloc(32, 7));

const allowing = (administrators: string, extra: object = {}) => ({
  networks: {
    administrators: { addresses: [administrators], reach: ['administration'] },
    employees: { addresses: ['10.1.0.0/16'], reach: ['client', 'staff'] },
  },
  ...extra,
});

/** An appliance's policies over a database; `bootstrap` may change between two starts. */
async function started(storage: Storage, clock: TestClock, file: object, { bootstrap = true } = {}) {
  const log = { storage, audit: new DurableAuditLog(clock) };
  const policies = new NetworkPolicies(log, SEAL, clock, readPolicy(file), async () => bootstrap);
  const told = await policies.start();
  const entries = async () =>
    (await new AuditReader(storage).latest(100))
      .map(({ body }) => `${body.action} ${body.reason ?? body.outcome}`)
      .filter((line) => /^network/.test(line));
  return { policies, told, entries };
}

const code = async (act: Promise<unknown>): Promise<string> =>
  act.then(
    () => 'done',
    (error: unknown) => (isFault(error) ? error.code : String(error)),
  );

eachDatabase((open) => {
  test('the file is the first version; the next start with the same file changes nothing', async () => {
    const { storage } = await open();
    const clock = new TestClock();
    const first = await started(storage, clock, allowing('10.2.0.0/24'));
    expect(first.policies.inForce).toMatchObject({ version: 1, origin: 'file', confirmBy: null });
    const again = await started(storage, clock, allowing('10.2.0.0/24'));
    expect({ version: again.policies.inForce.version, told: again.told, entries: await again.entries() }).toEqual({
      version: 1,
      told: [],
      entries: ['network.change done'],
    });
  });

  test('an act makes the next version, in force at once and after a restart; what cannot be read or contradicts itself never does', async () => {
    const { storage } = await open();
    const clock = new TestClock();
    const { policies, entries } = await started(storage, clock, allowing('10.2.0.0/24'));
    let changes = 0;
    policies.follow(() => changes++);
    await policies.set(allowing('10.3.0.0/24'), OFFICER);
    expect([policies.policy.allows('administration', '10.3.0.1'), policies.policy.allows('administration', '10.2.0.1'), changes]).toEqual([
      true,
      false,
      1,
    ]);
    const front = (more: object) => ({
      network: { proxies: { a: { addresses: ['10.1.0.1'], speaks: 'proxy-protocol', for: ['client'] }, ...more } },
    });
    const bad: [unknown, string][] = [
      [undefined, 'policy-invalid'],
      ['networks', 'policy-invalid'],
      [{ networks: { a: { addresses: ['10.1.2.3/16'], reach: ['client'] } } }, 'policy-invalid'],
      [{ networks: { a: { addresses: ['10.0.0.0/8'], reach: ['root'] } } }, 'policy-invalid'],
      [{ networks: {}, surprise: 1 }, 'policy-invalid'],
      [{ tls: { minimum: '1.1' } }, 'policy-invalid'],
      [front({ b: { addresses: ['10.1.0.0/24'], speaks: 'forwarded', for: ['client'] } }), 'policy-invalid'],
      [front({ b: { addresses: ['10.1.0.0/24'], speaks: 'proxy-protocol', for: ['client'] } }), 'policy-invalid'],
      [front({ b: { addresses: ['8.8.8.8'], speaks: 'proxy-protocol', for: ['staff'] } }), 'policy-invalid'],
      [allowing('10.3.0.0/24', { network: { internal: ['0.0.0.0/0'] } }), 'policy-beyond-bound'],
      [allowing('10.3.0.0/24'), 'policy-unchanged'],
    ];
    for (const [document, expected] of bad) expect(await code(policies.set(document, OFFICER))).toBe(expected);
    expect({ version: policies.inForce.version, changes, entries: await entries() }).toEqual({
      version: 2,
      changes: 1,
      entries: ['network.change done', 'network.change done'],
    });
    const again = await started(storage, clock, allowing('10.2.0.0/24'));
    expect(again.policies.policy.allows('administration', '10.3.0.1')).toBe(true);
  });

  test('a changed file: the next version in bootstrap; afterwards only what it narrows, and an alarm for the rest', async () => {
    const { storage } = await open();
    const clock = new TestClock();
    await started(storage, clock, allowing('10.2.0.0/24'));
    const wide = await started(storage, clock, allowing('10.2.0.0/16'));
    expect([wide.policies.policy.allows('administration', '10.2.9.9'), wide.told.length]).toEqual([true, 1]);
    const over = { bootstrap: false };
    const narrow = await started(storage, clock, allowing('10.2.0.0/24', { tls: { minimum: 1.3 } }), over);
    expect(['10.2.9.9', '10.2.0.9'].map((one) => narrow.policies.policy.allows('administration', one))).toEqual([false, true]);
    const widened = await started(storage, clock, allowing('10.2.0.0/15', { tls: { minimum: 1.2 }, isolation: { mode: 'enforce' } }), over);
    expect(['10.2.9.9', '10.2.0.9', '10.3.0.1'].map((one) => widened.policies.policy.allows('administration', one))).toEqual([
      false,
      true,
      false,
    ]);
    expect(widened.policies.inForce.document).toMatchObject({ tls: { minimum: '1.3' }, isolation: { mode: 'enforce' } });
    expect(widened.told.join('\n')).toMatch(/administration from 10\.2\.0\.0\/15 stays[\s\S]*tls\.minimum stays/);
    expect((await widened.entries()).slice(-3)).toEqual(['network.change done', 'network.file policy-widens', 'network.change done']);
    // Said once; the same file at the next start is no news.
    expect(
      (await started(storage, clock, allowing('10.2.0.0/15', { tls: { minimum: 1.2 }, isolation: { mode: 'enforce' } }), over)).told,
    ).toEqual([]);
  });

  test('network.internal of the file bounds whatever the database says', async () => {
    const { storage } = await open();
    const clock = new TestClock();
    await started(storage, clock, allowing('10.2.0.0/24'));
    const { policies } = await started(storage, clock, allowing('10.2.0.0/24', { network: { internal: ['10.2.0.0/25'] } }), {
      bootstrap: false,
    });
    expect(['10.2.0.1', '10.2.0.129', '10.1.0.1'].map((one) => policies.policy.internal.has(one))).toEqual([true, false, false]);
    expect(await code(policies.set(allowing('10.2.0.0/24'), OFFICER))).toBe('policy-beyond-bound');
  });

  test('a change that keeps its maker out is taken back after a minute, by whichever process is there then', async () => {
    const { storage } = await open();
    const clock = new TestClock();
    const first = await started(storage, clock, allowing('10.2.0.0/24'));
    const { confirmBy, trial } = await first.policies.set(allowing('10.3.0.0/24'), OFFICER, '10.2.0.7');
    expect([trial, confirmBy]).toEqual([true, clock.time + 60_000]);
    expect(first.policies.policy.allows('administration', '10.2.0.7')).toBe(false);
    clock.time += 59_000;
    await first.policies.refresh();
    expect(first.policies.inForce.version).toBe(2);
    // The process dies here; another starts later.
    clock.time += 1_001;
    const second = await started(storage, clock, allowing('10.2.0.0/24'));
    expect(second.policies.inForce).toMatchObject({ version: 3, origin: 'rollback', confirmBy: null });
    expect(second.policies.policy.allows('administration', '10.2.0.7')).toBe(true);
    expect((await second.entries()).at(-1)).toBe('network.rollback done');
    await first.policies.refresh();
    expect(first.policies.inForce.version).toBe(3);
  });

  test('it stays when somebody confirms it from where it lets administrators be', async () => {
    const { storage } = await open();
    const clock = new TestClock();
    const { policies, entries } = await started(storage, clock, allowing('10.2.0.0/24'));
    await policies.set(allowing('10.3.0.0/24'), OFFICER, '10.2.0.7');
    expect(await code(policies.confirm(2, OFFICER, '10.2.0.7'))).toBe('policy-confirmation-outside');
    expect(await code(policies.confirm(1, OFFICER, '10.3.0.7'))).toBe('policy-no-trial');
    clock.time += 30_000;
    await policies.confirm(2, OFFICER, '10.3.0.7');
    clock.time += 3_600_000;
    await policies.refresh();
    expect(policies.inForce).toMatchObject({ version: 2, confirmBy: null });
    expect((await started(storage, clock, allowing('10.2.0.0/24'))).policies.inForce.version).toBe(2);
    expect((await entries()).at(-1)).toBe('network.confirm done');
    expect(await code(policies.confirm(2, OFFICER, '10.3.0.7'))).toBe('policy-no-trial');
  });

  test('two who change it at once: each is the next version, or told that it moved', async () => {
    const { storage } = await open();
    const clock = new TestClock();
    const [one, two] = [await started(storage, clock, allowing('10.2.0.0/24')), await started(storage, clock, allowing('10.2.0.0/24'))];
    const ends = await Promise.all([
      code(one.policies.set(allowing('10.3.0.0/24'), OFFICER)),
      code(two.policies.set(allowing('10.4.0.0/24'), OFFICER)),
    ]);
    expect(['done,done', 'done,policy-moved']).toContain(ends.toSorted().join());
    const done = ends.filter((end) => end === 'done').length;
    expect((await one.policies.history(9)).map(({ version }) => version)).toEqual(Array.from({ length: done + 1 }, (_, n) => done + 1 - n));
  });

  test('who writes the database does not change it: the policy in force stays, the next start is refused', async () => {
    const { storage, tamper } = await open();
    const clock = new TestClock();
    const { policies } = await started(storage, clock, allowing('10.2.0.0/24'));
    await tamper(
      `INSERT INTO network_policies (version, document, origin, created, confirm_by, mac) SELECT 2, replace(document, '10.2.0.0/24', '10.0.0.0/8'), origin, created, confirm_by, mac FROM network_policies`,
    );
    expect(await code(policies.refresh())).toBe('policy-unreadable');
    expect(policies.policy.allows('administration', '10.9.0.1')).toBe(false);
    expect(await code(started(storage, clock, allowing('10.2.0.0/24')))).toBe('policy-unreadable');
  });

  test('a stranger’s 100,000 refused connections are a few dozen entries; his first is one at once', async () => {
    const { storage } = await open();
    const clock = new TestClock();
    const refused = new RefusedConnections({ storage, audit: new DurableAuditLog(clock) }, clock, (error) => {
      throw error;
    });
    const entries = async () =>
      (await new AuditReader(storage).latest(5_000)).map(({ body, personal }) => [body.reason, body.facts?.['count'], personal['network']]);
    refused.add('client', '10.9.0.1', 'network-not-listed');
    refused.add('client', '10.9.0.1', 'network-not-listed');
    refused.add('client', '10.9.0.1', 'network-not-listed');
    await storage.write(async () => undefined);
    expect(await entries()).toEqual([['network-not-listed', 1, '10.9.0.1']]);
    clock.time += 60_000;
    await refused.flush();
    expect((await entries()).at(-1)).toEqual(['network-not-listed', 2, '10.9.0.1']);
    for (let n = 0; n < 100_000; n++) refused.add('staff', `10.9.${n % 200}.${n % 251}`, 'network-not-listed');
    await refused.flush();
    const all = await entries();
    expect(all.length).toBeLessThanOrEqual(2 + 41);
    expect(all.slice(2).reduce((sum, [, count]) => sum + Number(count), 0)).toBe(100_000); // none is forgotten
    // While it goes on, windows grow: a day of it.
    for (let hour = 0; hour < 24 * 60; hour++) {
      clock.time += 60_000;
      for (let n = 0; n < 30; n++) refused.add('staff', `10.9.${n}.1`, 'network-not-listed');
    }
    await refused.flush();
    expect((await entries()).length).toBeLessThan(1_500);
  });
});

describe('narrowing', () => {
  const block = fc.constantFrom(
    '10.0.0.0/8',
    '10.1.0.0/16',
    '10.1.2.0/24',
    '10.2.0.0/16',
    '10.1.2.3/32',
    'fd00::/8',
    'fd00:1::/48',
    '8.8.8.0/24',
    '0.0.0.0/0',
  );
  const reach = fc.uniqueArray(fc.constantFrom(...ROUTE_CLASSES), { minLength: 1 });
  const network = fc.record({ addresses: fc.uniqueArray(block, { minLength: 1, maxLength: 4 }), reach });
  const policy: fc.Arbitrary<PolicyDocument> = fc
    .record({
      networks: fc.dictionary(fc.constantFrom('a', 'b', 'c'), network),
      tls: fc.record({ minimum: fc.constantFrom('1.2', '1.3') }),
      isolation: fc.record({ mode: fc.constantFrom('warn', 'enforce') }),
    })
    .map(readPolicy);
  const asked = fc.constantFrom(
    '10.1.2.3',
    '10.1.2.4',
    '10.1.9.9',
    '10.2.0.1',
    '10.9.9.9',
    'fd00:1::1',
    'fd00:2::1',
    '8.8.8.8',
    '127.0.0.1',
  );

  test('lets in exactly whom both let in, is a policy, and widens neither', () => {
    fc.assert(
      fc.property(policy, policy, fc.constantFrom(...ROUTE_CLASSES), asked, (one, two, kind, address) => {
        const both = readPolicy(JSON.parse(JSON.stringify(narrowed(one, two))));
        expect(new NetworkPolicy(both).allows(kind, address)).toBe(
          new NetworkPolicy(one).allows(kind, address) && new NetworkPolicy(two).allows(kind, address),
        );
        expect(widenings(one, both)).toEqual([]);
        expect(widenings(two, both)).toEqual([]);
        expect(narrowed(one, one)).toMatchObject({ tls: one.tls, isolation: one.isolation });
      }),
      { numRuns: 150 },
    );
  });
});
