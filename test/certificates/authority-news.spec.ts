import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { pem, RevocationLists } from '../../src/certificates/index.js';
import { readRevocationList } from '../../src/codec/x509/index.js';
import { serialOf } from '../../src/codec/x509/revocation-list.js';
import { AuthorityRetirement, recall, remember } from '../../src/custody/index.js';
import type { Authority, SucceedingAuthority } from '../../src/tokens/index.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);

/** What another node does, this one is told of by nobody: it asks the token. */
describe('an authority that came or went unseen', () => {
  let ekms: HouseInProcess;
  /** Right after this node looked, so that it is not due to look again. */
  const succeedUnseen = async (name: SucceedingAuthority, n: number): Promise<Authority> => {
    await ekms.house.authorities.refresh();
    const at = `http://ekms.corp.example/${name}-${n}`;
    await ekms.token.succeedKey(name, n, { crl: `${at}.crl`, issuer: `${at}.crt` });
    const made = (await ekms.token.authorities()).find((each) => each.name === name && each.n === n);
    if (!made) throw new Error('not made');
    return made;
  };
  const numberOf = async (authority: string) =>
    (await ekms.db.one<{ number: number }>('SELECT number FROM crls WHERE authority = ?', [authority]))?.number ?? 0;
  const shownIssuer = () =>
    new Promise<unknown>((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: ekms.port, servername: 'localhost', ca: ekms.root }, () => {
        resolve(socket.getPeerCertificate().issuer.CN);
        socket.destroy();
      });
      socket.once('error', reject);
    });

  beforeAll(async () => {
    ekms = await HouseInProcess.open();
    await ekms.act('pool.fill', { count: 4 });
  });
  afterAll(() => ekms?.close());

  test('TLS: the chain is of who signed, and listeners go over to the new one by themselves', async () => {
    const second = await succeedUnseen('infrastructure', 2);
    expect((await ekms.house.infrastructure.tlsServer(['localhost'])).authority.equals(second.certificate)).toBe(true);
    for (let tries = 0; tries < 100 && (await shownIssuer()) !== 'EKMS Infrastructure CA 2'; tries++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await shownIssuer()).toBe('EKMS Infrastructure CA 2');
    expect(ekms.defects).toEqual([]);
  });

  test('an enrolment is answered with who signed', async () => {
    const second = await succeedUnseen('devices', 2);
    expect((await enrolDevice(ekms, 'anna@corp.example')).certificates).toContain(pem(second.certificate));
  });

  test('what is revoked is on the list of one that this node had not heard of, and waits for none that was just retired', async () => {
    await succeedUnseen('people', 2);
    await ekms.house.revocations.publish('people');
    const made = await numberOf('people-2');
    expect(made).toBeGreaterThan(0);

    const { storage, audit, clock, authorities } = ekms.house;
    const before = authorities.of('people');
    await ekms.token.retireAuthority('people', 1);
    // As it is between the look and the signature.
    const late = { of: () => before, refresh: async () => undefined };
    await new RevocationLists(storage, audit, ekms.token, clock, late as never).publish('people');
    expect(await numberOf('people-2')).toBeGreaterThan(made);
  });

  test('a retirement that another node finished is told of once, and the next that it began stays begun', async () => {
    await succeedUnseen('people', 3);
    const { storage, audit, clock, authorities, revocations } = ekms.house;
    const next = { id: 'devices', revoke: false, by: { kind: 'operator' } };
    const slow = new AuthorityRetirement({
      ...{ storage, audit, clock, authorities, revocations, registry: undefined as never },
      token: {
        certificates: () => ekms.token.certificates(),
        retireAuthority: async (name, n) => {
          await ekms.token.retireAuthority(name, n);
          await storage.write(async (unit) => {
            await unit.run('DELETE FROM settings WHERE name = ?', ['custody.authority-retirement']);
            await remember(unit, 'custody.authority-retirement', next);
          });
        },
      },
    });
    await slow.retire('people-2', true, { kind: 'operator' });
    expect(await recall(storage, 'custody.authority-retirement')).toEqual(next);
    expect((await ekms.log()).filter(({ action }) => action === 'authority.retire')).toEqual([]);
  });

  test('what an authority signed that was retired before it could be stored is not stored', async () => {
    const { token } = ekms;
    const sign = token.issuePerson.bind(token);
    token.issuePerson = async (ask) => {
      token.issuePerson = sign;
      const der = await sign(ask);
      await succeedUnseen('people', 4);
      await token.retireAuthority('people', 3);
      return der;
    };
    await expect(enrolDevice(ekms, 'bela@corp.example')).rejects.toThrow(/409 .*authority-retired/);
    expect(await ekms.db.all("SELECT serial FROM certificates WHERE authority = 'people-3' AND length(der) > 0")).toEqual([]);
    await enrolDevice(ekms, 'clara@corp.example');
  });

  test('after its last list a former authority makes no shorter one', async () => {
    await succeedUnseen('people', 5);
    const { authorities, revocations, clock } = ekms.house;
    await authorities.refresh();
    const former = authorities.of('people').find(({ n }) => n === 4);
    if (!former) throw new Error('it is gone');
    await revocations.publishLast(former);
    await revocations.publish('people');
    const list = await ekms.db.one<{ next_update: number }>("SELECT next_update FROM crls WHERE authority = 'people-4'");
    expect(((list?.next_update ?? 0) - clock.now().getTime()) / 86_400_000).toBeGreaterThan(365);
  });

  test('what is revoked after the last list of one that was not retired after all is on its next', async () => {
    const { authorities, revocations, storage, clock } = ekms.house;
    const former = authorities.of('people').find(({ n }) => n === 4);
    const clara = await ekms.db.one<{ serial: string }>("SELECT serial FROM certificates WHERE authority = 'people-4' AND length(der) > 0");
    if (!former || !clara) throw new Error('nobody to revoke');
    ekms.pass(2_000);
    await storage.write((unit) => revocations.revoke(unit, clara.serial, 'keyCompromise', { kind: 'operator' }));
    await revocations.publishDue();
    const list = await readRevocationList(await revocations.find('people-4'), [Buffer.from(former.certificate)]);
    expect([...(list?.revoked ?? [])]).toContain(serialOf(clara.serial));
    expect(list?.nextUpdate.getTime()).toBeGreaterThan(clock.now().getTime() + 365 * 86_400_000);
  });

  test('the end of an authority that serves again is given up, and nothing of it is revoked', async () => {
    const { storage, authorityRetirement } = ekms.house;
    await storage.write((unit) =>
      remember(unit, 'custody.authority-retirement', { id: 'people-5', revoke: true, by: { kind: 'operator' } }),
    );
    await expect(authorityRetirement.resume()).rejects.toThrow(/serves again/);
    await authorityRetirement.resume();
    expect(await ekms.db.all("SELECT serial FROM certificates WHERE authority = 'people-5' AND revoked_at IS NOT NULL")).toEqual([]);
    expect(
      await ekms.db.all("SELECT serial FROM certificates WHERE profile = 'authority' AND reason IS NOT NULL AND authority = 'root'"),
    ).toHaveLength(1); // people-2's, from above
  });
});
