import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import { afterEach, expect, jest, test } from '@jest/globals';
import { AddressCertificates } from '../../src/certificates/address-certificates.js';
import { KeyRenewal } from '../../src/certificates/key-renewal.js';
import { checkData } from '../../src/commands/consistency.js';
import { reconcile } from '../../src/commands/reconcile.js';
import type { KeyLife } from '../../src/custody/key-lives.js';
import { Fault } from '../../src/foundation/index.js';
import { authorityUrls, type House } from '../../src/house.js';
import { eachDatabase } from '../support/database.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { openDelivery } from '../support/open-delivery.js';
import { asDevice, enrolDevice, keysOf, type WireDevice, type WireKey } from '../support/wire-device.js';

jest.setTimeout(60_000);
const DAY = 86_400_000;
let house: HouseInProcess;
afterEach(() => house?.close());

const begin = async (key: 'same' | 'new') => {
  const certificates = { personDays: 100, renewal: { key, overlapDays: 30 } };
  house = await HouseInProcess.open({ settings: { certificates, keys: { bits: 2048, pool: { target: 2 } } } });
  return enrolDevice(house, 'alice@corp.example');
};
const leaf = (pem = '') => new X509Certificate(pem);
const leaves = (key: WireKey | undefined) => key?.certificates.slice(0, -1) ?? [];
/** What senders are given. */
const found = async (by: WireDevice) =>
  ((await asDevice(house, by, 'GET', '/v1/certificates?email=alice%40corp.example')).json as { certificate: string }[]).map(
    ({ certificate }) => leaf(certificate),
  );
const entries = async (since: number) => (await house.log(200)).slice(since).map(({ action, outcome }) => `${action} ${outcome}`);
const opens = (key: WireKey | undefined, device: WireDevice) =>
  openDelivery(Buffer.from(key?.delivery ?? '', 'base64'), device.keys.delivery).length > 0;

test('on the same key: thirty days before its end a certificate has a successor, both valid; senders find the newest first; the key stays', async () => {
  const alice = await begin('same');
  const [before] = await keysOf(house, alice);
  await house.house.renewal.run();
  expect(leaves((await keysOf(house, alice))[0])).toHaveLength(1);

  house.pass(71 * DAY);
  expect(await house.act('key.due', {})).toEqual({ certificates: 1, kinds: 0 });
  const since = (await house.log(200)).length;
  await house.house.renewal.run();
  expect(await entries(since)).toEqual(['certificate.issue done']);
  const [now, ...more] = await keysOf(house, alice);
  expect([now?.id, more.length, leaves(now).length]).toEqual([before?.id, 0, 2]);
  const [next, first] = leaves(now).map(leaf);
  expect(leaf(before?.certificates[0]).serialNumber).toBe(first?.serialNumber);
  expect(next?.publicKey.equals(first?.publicKey as never)).toBe(true);
  expect(next && first && next.validFromDate < first.validToDate).toBe(true);
  expect((await found(alice))[0]?.serialNumber).toBe(next?.serialNumber);
  expect(await house.act('key.due', {})).toEqual({ certificates: 0, kinds: 0 });
});

test('with a new key: it takes over in one unit, its certificates for every address; the old one opens on, its certificate unrevoked', async () => {
  const alice = await begin('new');
  const [before] = await keysOf(house, alice);
  house.pass(71 * DAY);
  await house.house.renewal.run();
  const keys = await keysOf(house, alice);
  expect(keys.map(({ id, state }) => [id === before?.id, state])).toEqual([
    [false, 'active'],
    [true, 'deactivated'],
  ]);
  for (const key of keys) expect(opens(key, alice)).toBe(true);
  const old = await house.db.one('SELECT revoked_at AS "revoked" FROM certificates WHERE subject_key = ?', [before?.id ?? '']);
  expect(old).toEqual({ revoked: null });
  expect((await found(alice)).map(({ publicKey }) => publicKey.equals(leaf(keys[0]?.certificates[0]).publicKey))).toEqual([true]);
  const { keys: told } = (await house.act('key.list', { who: alice.employee })) as { keys: KeyLife[] };
  expect(told[0]?.changes).toMatchObject([{ state: 'deactivated', reason: 'renewal' }]);
  expect((await checkData(house.house.storage, house.token)).filter(({ verdict }) => verdict === 'bad')).toEqual([]);
});

test('another kind, for one person, a group or everybody, by the same path; cut off in the middle, the next round goes on; nobody is ever without a key', async () => {
  const alice = await begin('same');
  const people = [alice];
  for (const name of ['bob', 'carol', 'dan']) people.push(await enrolDevice(house, `${name}@corp.example`));
  for (const one of people) await keysOf(house, one);
  await expect(house.act('key.kind', { kind: 'sm2', people: ['bob@corp.example'] })).rejects.toMatchObject({ code: 'suite-unavailable' });
  await expect(house.act('key.kind', { kind: 'rsa-3072', group: 'board' })).rejects.toMatchObject({ code: 'group-unknown' });
  await expect(house.act('key.kind', { kind: 'rsa-3072' })).rejects.toMatchObject({ code: 'body-malformed' });

  expect(await house.act('key.kind', { kind: 'rsa-3072', people: ['bob@corp.example'] })).toMatchObject({ people: 1 });
  await house.house.renewal.run();
  const bits = async (device: WireDevice) =>
    (await keysOf(house, device)).map(
      ({ state, certificates }) => `${state} ${leaf(certificates[0]).publicKey.asymmetricKeyDetails?.modulusLength}`,
    );
  expect(await bits(people[1] as WireDevice)).toEqual(['active 3072', 'deactivated 2048']);
  expect(await bits(alice)).toEqual(['active 2048']);

  // The token signs the certificate of the new key, and its end of the old one gets lost on the way: five times, at another step each.
  const { token } = house;
  let cut = 0;
  for (const verb of ['makePair', 'assign', 'issuePerson', 'changeKey', 'raise'] as const) {
    const own = token[verb].bind(token) as (...args: unknown[]) => Promise<unknown>;
    Object.assign(token, {
      [verb]: async (...args: unknown[]) => {
        await own(...args);
        cut += 1;
        throw new Fault('unavailable', 'token-unavailable', 'the answer was lost');
      },
    });
    if (cut === 0) await house.db.write((unit) => unit.run("UPDATE employees SET suite = 'rsa', bits = 3072", []));
    await house.house.renewal.run().catch(() => undefined);
    Object.assign(token, { [verb]: own });
    for (const one of people) expect((await bits(one)).filter((text) => text.startsWith('active'))).toHaveLength(1);
    await reconcile(house.house);
  }
  expect(cut).toBeGreaterThanOrEqual(5);
  await house.house.renewal.run();
  for (const one of people) expect(await bits(one)).toEqual(['active 3072', 'deactivated 2048']);
  expect((await checkData(house.house.storage, house.token)).filter(({ verdict }) => verdict === 'bad')).toEqual([]);
  expect(await house.db.all('SELECT id FROM intents', [])).toEqual([]);
});

test("what fails for one person, a key or a certificate, keeps nobody else's certificate from being followed", async () => {
  const alice = await begin('same');
  const bob = await enrolDevice(house, 'bob@corp.example');
  for (const one of [alice, bob]) await keysOf(house, one);
  house.pass(71 * DAY);
  await house.db.write((unit) => unit.run("UPDATE employees SET suite = 'rsa', bits = 3072 WHERE id = ?", [alice.employee]));
  const { token } = house;
  const issue = token.issuePerson.bind(token);
  let failed = 0;
  const defect = () => {
    failed += 1;
    return Promise.reject(new Fault('unavailable', 'token-defect', 'the token failed at this'));
  };
  token.makePair = defect;
  token.issuePerson = (asked) => (asked.binding.record.employee === alice.employee ? defect() : issue(asked));
  await expect(house.house.renewal.run()).rejects.toMatchObject({ code: 'token-defect' });
  expect(failed).toBe(2);
  expect([leaves((await keysOf(house, alice))[0]).length, leaves((await keysOf(house, bob))[0]).length]).toEqual([1, 2]);
});

test('one whose kind of key the token refuses keeps nobody from their first key, nor the appliance from its start; such a kind is not taken on', async () => {
  house = await HouseInProcess.open();
  const [alice, bob] = [await enrolDevice(house, 'alice@corp.example'), await enrolDevice(house, 'bob@corp.example')];
  const { token } = house;
  const make = token.makePair.bind(token);
  token.makePair = (kind) =>
    kind.bits === 4096 ? Promise.reject(new Fault('conflict', 'token-call-refused', 'the token does not do this')) : make(kind);
  await expect(house.act('key.kind', { kind: 'rsa-4096', everybody: true })).rejects.toMatchObject({ code: 'token-call-refused' });
  expect(await house.db.all('SELECT id FROM employees WHERE bits = 4096', [])).toEqual([]);

  await house.db.write((unit) => unit.run("UPDATE employees SET suite = 'rsa', bits = 4096 WHERE id = ?", [alice.employee]));
  await house.house.pool.fill(1);
  for (let again = 0; again < 3; again += 1) await reconcile(house.house);
  expect([(await keysOf(house, bob)).length, await house.house.issuance.hasActiveKey(alice.employee)]).toEqual([1, false]);
  const refused = async () => (await house.log(200)).filter(({ action, outcome }) => action === 'key.assign' && outcome === 'refused');
  expect(await refused()).toMatchObject([{ reason: 'token-call-refused', employee: alice.employee }]);

  // Where the token makes it later, so does the next hour; no pair of the pool's kind need be there for that.
  token.makePair = make;
  await house.db.write((unit) => unit.run('UPDATE employees SET bits = 3072 WHERE id = ?', [alice.employee]));
  house.pass(3_600_001);
  await reconcile(house.house);
  expect(await house.house.issuance.hasActiveKey(alice.employee)).toBe(true);
});

eachDatabase((open) => {
  const policy = (key: 'same' | 'new') => ({ key, overlapDays: 30 });
  /** Two nodes over one database and one token. */
  async function twoNodes(key: 'same' | 'new'): Promise<{ alice: WireDevice; nodes: House[]; close: () => Promise<void> }> {
    const { url, home } = (await open()).settings;
    const database = url === 'sqlite:ekms.db' ? `sqlite:${home}/ekms.db` : url;
    const settings = { certificates: { personDays: 100, renewal: policy(key) }, keys: { bits: 2048, pool: { target: 4 } } };
    house = await HouseInProcess.open({ settings, database });
    const alice = await enrolDevice(house, 'alice@corp.example');
    await keysOf(house, alice);
    house.pass(71 * DAY);
    const other = await house.beside();
    return { alice, nodes: [house.house, other], close: () => other.close() };
  }
  /** Whoever has the token sign waits until the other does too, or 400 ms. */
  function meet(): { signed: () => number } {
    const issue = house.token.issuePerson.bind(house.token);
    let signed = 0;
    let both = () => undefined as unknown;
    const met = new Promise((resolve) => {
      both = () => resolve(undefined);
    });
    house.token.issuePerson = async (asked) => {
      signed += 1;
      if (signed === 2) both();
      await Promise.race([met, new Promise((resolve) => setTimeout(resolve, 400))]);
      return issue(asked);
    };
    return { signed: () => signed };
  }
  const successors = async () =>
    (await house.db.all("SELECT serial FROM certificates WHERE profile = 'person' AND not_after > ?", [house.now().getTime() + 60 * DAY]))
      .length;
  const rounds = (kinds: { run(): Promise<void> }[]) => Promise.all(kinds.map((renewal) => renewal.run()));

  test.each([
    ['same', true],
    ['same', false],
    ['new', true],
    ['new', false],
  ] as const)('two nodes see one certificate end at the same moment, %s key, guard %s', async (key, isGuarded) => {
    const { nodes, close } = await twoNodes(key);
    try {
      const Certificates = isGuarded
        ? AddressCertificates
        : guardOff<{ AddressCertificates: typeof AddressCertificates }>(
            {
              file: 'src/certificates/address-certificates.ts',
              guard: '[claimOf(wanted), newSerial()]',
              instead: '[newSerial(), newSerial()]',
            },
            { guard: '(await claimed(unit, intent)) !== serial || !(await isWanted(unit, wanted))', instead: 'false' },
          ).AddressCertificates;
      const Renewal = isGuarded
        ? KeyRenewal
        : guardOff<{ KeyRenewal: typeof KeyRenewal }>({
            file: 'src/certificates/key-renewal.ts',
            guard: 'n === 0 ?',
            instead: 'n < 0 ?',
          }).KeyRenewal;
      const { signed } = meet();
      await rounds(
        nodes.map(({ storage, audit, clock, employees, vault, issuance, authorities, configuration }) => {
          const days = { personDays: 100, urls: authorityUrls(configuration).people };
          const certificates = new Certificates(storage, audit, house.token, employees, issuance, clock, days, authorities);
          return new Renewal({ storage, audit, clock, employees, vault, issuance, certificates }, policy(key));
        }),
      );
      // On a new key the unique index keeps the second out without the claim; a pair and a certificate are thrown away for it.
      const made = { same: isGuarded ? 1 : 2, new: 1 };
      expect({ signed: signed(), successors: await successors() }).toEqual({ signed: isGuarded ? 1 : 2, successors: made[key] });
      expect(await house.db.all("SELECT id FROM intents WHERE kind = 'certify'")).toEqual([]);
      expect(await house.db.all("SELECT id FROM keys WHERE state = 'active'")).toHaveLength(1);
      if (isGuarded) {
        await rounds(nodes.map(({ renewal }) => renewal));
        expect(await successors()).toBe(1);
      }
    } finally {
      await close();
    }
  });
});

test('a key that is compromised while its next certificate is signed leaves none that senders could use; guard also off', async () => {
  for (const isGuarded of [true, false]) {
    const alice = await begin('same');
    const [key] = await keysOf(house, alice);
    house.pass(71 * DAY);
    const { storage, audit, clock, employees, issuance, authorities, configuration } = house.house;
    const Certificates = isGuarded
      ? AddressCertificates
      : guardOff<{ AddressCertificates: typeof AddressCertificates }>({
          file: 'src/certificates/address-certificates.ts',
          guard: '(await claimed(unit, intent)) !== serial || !(await isWanted(unit, wanted))',
          instead: 'false',
        }).AddressCertificates;
    const days = { personDays: 100, urls: authorityUrls(configuration).people };
    const certificates = new Certificates(storage, audit, house.token, employees, issuance, clock, days, authorities);
    const issue = house.token.issuePerson.bind(house.token);
    house.token.issuePerson = async (asked) => {
      const der = await issue(asked);
      await house.act('key.change', { id: key?.id ?? '', state: 'compromised', reason: 'compromised' });
      return der;
    };
    await certificates.renewDue(house.now().getTime() + 30 * DAY, { kind: 'system' }, () => false);
    const usable = await house.db.all("SELECT serial FROM certificates WHERE profile = 'person' AND revoked_at IS NULL");
    expect(usable).toHaveLength(isGuarded ? 0 : 1);
    await house.close();
  }
});

test('an address that is released while the certificate of its next key is signed gets none that lasts', async () => {
  const alice = await begin('new');
  await keysOf(house, alice);
  const issue = house.token.issuePerson.bind(house.token);
  house.token.issuePerson = async (asked) => {
    const der = await issue(asked);
    await house.house.replacement.releaseAddress('alice@corp.example', { kind: 'operator' });
    return der;
  };
  await expect(house.house.renewal.renew(alice.employee, { kind: 'operator' })).rejects.toMatchObject({ code: 'binding-ended' });
  expect(await house.db.all("SELECT serial FROM certificates WHERE profile = 'person' AND revoked_at IS NULL", [])).toEqual([]);
});
