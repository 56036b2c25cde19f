import type { KeyObject } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { TestAppliance } from './test-appliance.js';
import { TestAuthority } from './test-authority.js';
import { TestHouse } from './test-house.js';

const ALICE = 'alice@corp.example';

describe('mesign enroll', () => {
  const house = new TestHouse();
  let appliance: TestAppliance;
  const enroll = (home: string, ...more: string[]) =>
    house.mesign(
      home,
      'enroll',
      '--server',
      appliance.url,
      '--ca',
      house.path('ca.pem'),
      '--app',
      house.path('app.json'),
      '--email',
      ALICE,
      ...more,
    );
  const mailbox = () => ['--mailbox', `maildir:${house.path('mail', ALICE)}`];

  beforeAll(async () => {
    const authority = await TestAuthority.create();
    appliance = await TestAppliance.start(authority, house.path('mail'));
    await appliance.giveKey(ALICE);
    writeFileSync(house.path('ca.pem'), authority.rootPem);
    writeFileSync(house.path('app.json'), appliance.credential());
    writeFileSync(house.path('phrase'), 'correct horse battery staple\n');
    writeFileSync(house.path('wrong'), 'incorrect horse\n');
  });
  afterAll(async () => {
    await appliance.stop();
    house.remove();
  });

  test('enrols by the mailbox, fetches the key and lists it as JSON, leaf first', async () => {
    const enrolled = await enroll('alice', ...mailbox());
    expect(enrolled).toMatchObject({ status: 0 });
    expect(enrolled.said).toContain('warning: no pass phrase');
    const { status, out } = await house.mesign('alice', 'keys', '--json');
    expect(status).toBe(0);
    const [key] = JSON.parse(out.toString());
    expect(Object.keys(key)).toEqual(['id', 'suite', 'state', 'mode', 'certificates']);
    expect(key.certificates).toEqual(appliance.keys.get(ALICE)?.[0]?.certificates);
  });

  test('waits for a Maildir that is not there yet, and for a first key that is still being made', async () => {
    appliance.sendMail = false;
    appliance.pendingCalls = 1;
    const late = setTimeout(() => void appliance.mail(ALICE, appliance.lastHalf1, 'any'), 2500);
    const { status, said } = await enroll('late', '--mailbox', `maildir:${house.path('mail', ALICE)}`);
    clearTimeout(late);
    appliance.sendMail = true;
    expect({ status, said }).toMatchObject({ status: 0, said: expect.stringContaining('making your first key') });
  });

  test('takes the mailed half by hand', async () => {
    appliance.sendMail = false;
    // The live half of this address is known from the enrolments before.
    const { status } = await enroll('by-hand', '--code', `ACME: ${appliance.lastHalf1}`);
    appliance.sendMail = true;
    expect(status).toBe(0);
  });

  test('polls while another device has to confirm, and says so', async () => {
    appliance.waits = 2;
    const { status, said } = await enroll('second', ...mailbox());
    appliance.waits = 0;
    expect(status).toBe(0);
    expect(said.match(/one of your other devices/g)).toHaveLength(1);
  });

  test('a home that is a device already is not overwritten until it was removed', async () => {
    const before = readFileSync(house.path('alice', 'store.json'));
    const again = await enroll('alice', ...mailbox());
    expect(again).toMatchObject({ status: 1, said: expect.stringContaining('mesign devices remove') });
    expect(readFileSync(house.path('alice', 'store.json'))).toEqual(before);
    expect(await house.mesign('alice', 'devices', 'remove')).toMatchObject({ status: 0 });
    expect(existsSync(house.path('alice', 'store.json'))).toBe(false);
    expect(await enroll('alice', ...mailbox())).toMatchObject({ status: 0 });
  });

  test('a device that was revoked elsewhere can still be removed here', async () => {
    expect(await enroll('revoked', ...mailbox())).toMatchObject({ status: 0 });
    const last = [...appliance.devices.values()].at(-1);
    if (last) last.removed = true;
    expect(await house.mesign('revoked', 'keys')).toMatchObject({ status: 1, said: expect.stringContaining('device-unknown') });
    expect(await house.mesign('revoked', 'devices', 'remove')).toMatchObject({ status: 0, said: expect.stringContaining('any more') });
    expect(existsSync(house.path('revoked', 'store.json'))).toBe(false);
  });

  test('lists devices, and confirms or denies one that waits', async () => {
    expect((await house.mesign('alice', 'devices', '--json')).out.toString()).toContain('"current": true');
    expect((await house.mesign('alice', 'devices', 'pending', '--json')).out.toString()).toContain('"pending-1"');
    expect(await house.mesign('alice', 'devices', 'confirm', 'pending-1')).toMatchObject({ status: 0 });
    expect(await house.mesign('alice', 'devices', 'deny', 'pending-1')).toMatchObject({ status: 0 });
    expect(appliance.confirmed).toEqual([
      { id: 'pending-1', confirm: true },
      { id: 'pending-1', confirm: false },
    ]);
  });

  test('what does not fit the app credential is refused before anything is asked', async () => {
    writeFileSync(house.path('other.json'), appliance.credential({ ca: 'A'.repeat(43) }));
    const foreign = await house.mesign(
      'x',
      'enroll',
      '--server',
      appliance.url,
      '--ca',
      house.path('ca.pem'),
      '--app',
      house.path('other.json'),
      '--email',
      ALICE,
      ...mailbox(),
    );
    expect(foreign).toMatchObject({ status: 1, said: expect.stringContaining('not the root that the app credential names') });
    const server = appliance.url.replace('localhost', '127.0.0.1');
    const named = await house.mesign(
      'x',
      'enroll',
      '--server',
      server,
      '--ca',
      house.path('ca.pem'),
      '--app',
      house.path('app.json'),
      '--email',
      ALICE,
      ...mailbox(),
    );
    expect(named).toMatchObject({ status: 1, said: expect.stringContaining('"localhost"') });
    expect(existsSync(house.path('x'))).toBe(false);
  });

  test('a server under another root gets nothing', async () => {
    const authority = await TestAuthority.create();
    const stranger = await TestAppliance.start(authority, house.path('stranger'));
    const { status, said } = await house.mesign(
      'x',
      'enroll',
      '--server',
      stranger.url,
      '--ca',
      house.path('ca.pem'),
      '--app',
      house.path('app.json'),
      '--email',
      ALICE,
      ...mailbox(),
    );
    await stranger.stop();
    expect({ status, said }).toMatchObject({ status: 1, said: expect.stringContaining('pinned root') });
    expect(stranger.nonces.size).toBe(0);
    expect(existsSync(house.path('x'))).toBe(false);
  });

  test('a refused enrolment leaves nothing behind, and the words of the appliance are told', async () => {
    writeFileSync(house.path('stranger.json'), appliance.credential({ id: '00000000-0000-4000-8000-000000000000' }));
    const argv = ['--server', appliance.url, '--ca', house.path('ca.pem'), '--app', house.path('stranger.json'), '--email', ALICE];
    const { status, said } = await house.mesign('y', 'enroll', ...argv, ...mailbox());
    expect({ status, said }).toMatchObject({ status: 1, said: expect.stringContaining('app-signature-wrong') });
    expect(existsSync(house.path('y'))).toBe(false);
    mkdirSync(house.path('z'));
    expect(await house.mesign('z', 'enroll', ...argv, '--code', 'A'.repeat(22))).toMatchObject({ status: 1 });
    expect(readdirSync(house.path('z'))).toEqual([]);
  });

  test('usage errors are told by exit status 2', async () => {
    expect(await house.mesign('x', 'enroll')).toMatchObject({ status: 2 });
    expect(await house.mesign('x', 'nonsense')).toMatchObject({ status: 2 });
    expect(await enroll('x')).toMatchObject({ status: 2, said: expect.stringContaining('--mailbox') });
    expect(await enroll('x', '--mailbox', 'imap://alice@localhost/')).toMatchObject({
      status: 2,
      said: expect.stringContaining('--imap-password-file'),
    });
  });

  describe('at rest', () => {
    test('folder and files are for the owner alone, and no private key lies in them in clear', async () => {
      expect(await enroll('sealed', ...mailbox(), '--passphrase-file', house.path('phrase'))).toMatchObject({ status: 0 });
      expect(statSync(house.path('sealed')).mode & 0o777).toBe(0o700);
      const primes = primesOf(appliance.keys.get(ALICE)?.[0]?.privateKey);
      for (const home of ['sealed', 'alice'])
        for (const name of readdirSync(house.path(home))) {
          expect(statSync(house.path(home, name)).mode & 0o077).toBe(0);
          expect(primes.some((prime) => isIn(readFileSync(house.path(home, name)), prime))).toBe(false);
        }
      // The search works: it finds a planted one.
      expect(
        isIn(
          Buffer.from(`{"privateKey":"${Buffer.concat([Buffer.of(2), primes[0] ?? Buffer.of()]).toString('base64')}"}`),
          primes[0] ?? Buffer.of(),
        ),
      ).toBe(true);
    });

    test('a wrong pass phrase, none, or a changed byte opens nothing, and says so', async () => {
      const keys = (...more: string[]) => house.mesign('sealed', 'keys', ...more);
      expect(await keys('--passphrase-file', house.path('wrong'))).toMatchObject({
        status: 1,
        said: expect.stringContaining('the pass phrase is wrong'),
      });
      expect(await keys()).toMatchObject({ status: 1, said: expect.stringContaining('--passphrase-file') });
      expect(await keys('--passphrase-file', house.path('phrase'))).toMatchObject({ status: 0 });
      const path = house.path('sealed', 'store.json');
      const good = readFileSync(path, 'utf8');
      writeFileSync(
        path,
        good.replace(/"sealed":"(.)/, (_, letter: string) => `"sealed":"${letter === 'A' ? 'B' : 'A'}`),
      );
      expect(await keys('--passphrase-file', house.path('phrase'))).toMatchObject({
        status: 1,
        said: expect.stringContaining('does not open'),
      });
      writeFileSync(path, good);
    });

    test('a pass phrase that protects nothing is told', async () => {
      expect((await house.mesign('alice', 'keys', '--passphrase-file', house.path('phrase'))).said).toContain(
        'not protected by a pass phrase',
      );
    });

    test('a store that others may read is not used', async () => {
      chmodSync(house.path('sealed', 'store.json'), 0o644);
      expect(await house.mesign('sealed', 'keys', '--passphrase-file', house.path('phrase'))).toMatchObject({
        status: 1,
        said: expect.stringContaining('chmod 600'),
      });
      chmodSync(house.path('sealed', 'store.json'), 0o600);
    });

    test('receipts of every release are kept in an append-only file', async () => {
      const lines = readFileSync(house.path('sealed', 'receipts.jsonl'), 'utf8').trim().split('\n');
      expect(lines.length).toBeGreaterThanOrEqual(2);
      for (const line of lines)
        expect(JSON.parse(line)).toMatchObject({
          key: appliance.keys.get(ALICE)?.[0]?.id,
          act: 'deliver',
          index: expect.any(Number),
          leaf: expect.any(String),
        });
    });
  });
});

/** Both primes of an RSA key, big endian. */
function primesOf(key: KeyObject | undefined): Buffer[] {
  const { p = '', q = '' } = key?.export({ format: 'jwk' }) ?? {};
  return [p, q].map((part) => Buffer.from(part, 'base64url'));
}

/** Finds bytes in clear, in hexadecimal, and in base64 of either alphabet at any of its three alignments. */
function isIn(haystack: Buffer, needle: Buffer): boolean {
  if (haystack.includes(needle)) return true;
  const text = haystack.toString('latin1');
  const spellings = [0, 1, 2].flatMap((shift) => {
    const middle = needle.subarray(shift, shift + 48);
    return [middle.toString('base64'), middle.toString('base64url')];
  });
  return [...spellings, needle.toString('hex')].some((spelling) => text.includes(spelling));
}
