import { existsSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { TestAppliance } from './test-appliance.js';
import { TestAuthority } from './test-authority.js';
import { TestHouse } from './test-house.js';
import { TestImap } from './test-imap.js';

const ALICE = 'alice@corp.example';

describe('mesign enroll over IMAP', () => {
  const house = new TestHouse();
  let appliance: TestAppliance;
  let imap: TestImap;
  const enroll = (home: string, url: string, password: string) => {
    writeFileSync(house.path('imap-password'), `${password}\n`);
    const argv = ['--server', appliance.url, '--ca', house.path('ca.pem'), '--app', house.path('app.json'), '--email', ALICE];
    return house.mesign(home, 'enroll', ...argv, '--mailbox', url, '--imap-password-file', house.path('imap-password'));
  };

  beforeAll(async () => {
    const authority = await TestAuthority.create();
    appliance = await TestAppliance.start(authority, house.path('mail'));
    imap = await TestImap.start(house.path('mail', ALICE), 'alice', 'secret');
    await appliance.giveKey(ALICE);
    writeFileSync(house.path('ca.pem'), authority.rootPem);
    writeFileSync(house.path('app.json'), appliance.credential());
  });
  afterAll(async () => {
    await appliance.stop();
    await imap.stop();
    house.remove();
  });

  test('finds the challenge, and leaves the mailbox as it is', async () => {
    expect(await enroll('home', `imap://alice@127.0.0.1:${imap.port}/`, 'secret')).toMatchObject({ status: 0 });
    expect(imap.seen.some((line) => line.startsWith('EXAMINE'))).toBe(true);
    expect(imap.seen.filter((line) => /^(SELECT|STORE|EXPUNGE|APPEND)/.test(line))).toEqual([]);
  });

  test('a wrong password is said, before the appliance is asked anything', async () => {
    const asked = appliance.nonces.size;
    const { status, said } = await enroll('other', `imap://alice@127.0.0.1:${imap.port}/`, 'wrong');
    expect({ status, said }).toMatchObject({ status: 1, said: expect.stringContaining('user or password was refused') });
    expect(said).not.toContain('wrong\n');
    expect(appliance.nonces.size).toBe(asked);
    expect(existsSync(house.path('other'))).toBe(false);
  });

  test('no server there is said', async () => {
    expect(await enroll('other', 'imap://alice@127.0.0.1:1/', 'secret')).toMatchObject({
      status: 1,
      said: expect.stringContaining('cannot be opened'),
    });
  });
});
