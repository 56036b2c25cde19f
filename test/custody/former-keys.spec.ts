import { describe, expect, test } from '@jest/globals';
import { examineFormer } from '../../src/commands/doctor-former.js';
import { type Former, FormerKeys } from '../../src/custody/index.js';
import { Fault } from '../../src/foundation/index.js';
import type { House } from '../../src/house.js';

const NOW = Date.UTC(2026, 0, 31);
const days = (n: number) => NOW - n * 86_400_000;

describe('what was replaced and still stands', () => {
  const said = async (former: Former[], status: object = { state: 'none', left: 0 }) => {
    const house = {
      formerKeys: { list: async () => former },
      rotation: { status: async () => status },
      clock: { now: () => new Date(NOW) },
    };
    return (await examineFormer(house as unknown as House)).map(({ verdict, words }) => `${verdict}: ${words}`); // what it asks of one
  };

  test('is told with how long it has stood and with what ends it', async () => {
    expect(await said([])).toEqual(['good: nothing that was replaced still stands']);
    expect(
      await said([
        { kind: 'token', name: 'old', since: days(40) },
        { kind: 'kek', name: '3', since: days(1) },
        { kind: 'token-key', name: 'mail', numbers: [1, 2] },
        { kind: 'token-key', name: 'people', numbers: [1, 2], since: days(3) },
      ]),
    ).toEqual([
      'warn: the token old, which a migration left, still holds every key, for 40 days: ekms backup create, then ekms token destroy-former',
      'warn: the key-encryption keys before 3 still stand, with nothing under them, for a day: ekms backup create, then ekms kek retire',
      'warn: the former mail key (1, 2) is still in the token, nobody knows since when: ekms token retire mail',
      'warn: the former people key (1, 2) is still in the token, for 3 days: ekms ca retire people, ekms ca retire people-2, when ekms ca list counts no certificate of it',
    ]);
    expect(await said([], { state: 'running', to: '2', left: 7, since: days(2) })).toEqual([
      'warn: 7 keys and pairs are not under the key-encryption key 2 yet, for 2 days: a running appliance goes on with them (ekms kek status)',
    ]);
  });

  test('is not taken for nothing where the token is away', async () => {
    const none = { one: async () => undefined } as never;
    const standing = (fault: Fault) =>
      new FormerKeys({
        ...{ storage: none, seal: {} as never, label: 'ekms' },
        token: { tokenKeys: () => Promise.reject(fault) },
        kek: { finished: async () => undefined },
      }).list();
    await expect(standing(new Fault('unavailable', 'token-unavailable', 'away'))).rejects.toMatchObject({ code: 'token-unavailable' });
  });
});
