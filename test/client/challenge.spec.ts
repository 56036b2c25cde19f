import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readChallenge } from '../../client/src/enrol/index.js';
import { readCertificate } from '../../client/src/x509/index.js';
import { TestAppliance } from './test-appliance.js';
import { type Certified, pemOf, TestAuthority } from './test-authority.js';
import { TestHouse } from './test-house.js';

const ALICE = 'alice@corp.example';
const HALF = 'abcdefghijklmnopqrstuv';

describe('a challenge mail', () => {
  const house = new TestHouse();
  let authority: TestAuthority;
  let appliance: TestAppliance;
  const read = (mail: Buffer, address = ALICE) => readChallenge(mail, address, readCertificate(authority.root.certificate), new Date());
  const compose = (signer?: Certified, expires = new Date(Date.now() + 60_000)) =>
    appliance.mail(ALICE, HALF, 'an-enrolment', expires, signer);

  beforeAll(async () => {
    authority = await TestAuthority.create();
    appliance = await TestAppliance.start(authority, house.path('mail'));
  });
  afterAll(async () => {
    await appliance.stop();
    house.remove();
  });

  test('signed by the appliance gives its half, also after a mailbox rewrote its line ends', async () => {
    const mail = await compose();
    expect(read(mail).half).toBe(HALF);
    expect(read(Buffer.from(mail.toString('latin1').replaceAll('\r\n', '\n'), 'latin1')).half).toBe(HALF);
  });

  test('counts only what is inside the signature', async () => {
    const mail = (await compose()).toString('latin1');
    const changed = mail.replace(HALF, 'X'.repeat(22));
    expect(changed.indexOf(HALF)).toBeGreaterThan(changed.indexOf('--=_'));
    expect(read(Buffer.from(changed, 'latin1')).half).toBe(HALF);
  });

  test.each([
    ['a changed half', (mail: string) => mail.replaceAll(HALF, 'X'.repeat(22))],
    ['a changed expiry', (mail: string) => mail.replace(/EKMS-Expires: 20/g, 'EKMS-Expires: 21')],
    [
      'another part before the signed one',
      (mail: string) => mail.replace(/(--=_\S+)\r\n/, '$1\r\nSubject: ACME: XXXXXXXXXXXXXXXXXXXXXX\r\n\r\nx\r\n$1\r\n'),
    ],
    ['a third part', (mail: string) => mail.replace(/\r\n(--=_[\w-]+)--/, '\r\n$1\r\n\r\nx\r\n$1--')],
    ['no signature', (mail: string) => mail.replace(/multipart\/signed/, 'multipart/mixed')],
  ])('with %s is refused', async (_, bend) => {
    const mail = (await compose()).toString('latin1');
    expect(bend(mail)).not.toBe(mail);
    expect(() => read(Buffer.from(bend(mail), 'latin1'))).toThrow(expect.objectContaining({ code: 'challenge-refused' }));
  });

  test('whose signed part lacks what it must say is refused', async () => {
    for (const half of ['short', 'x'.repeat(22)]) {
      const mail = await appliance.mail(ALICE, half, 'an-enrolment');
      if (half.length === 22) expect(read(mail).half).toBe(half);
      else expect(() => read(mail)).toThrow('no half of a token');
    }
    const announcement = await appliance.mail(ALICE, HALF, 'an-enrolment', new Date(Date.now() + 60_000), undefined, 'EKMS-Other');
    expect(() => read(announcement)).toThrow('"ekms-expires"');
  });

  test('signed over SHA-1, or without a date, is refused', async () => {
    const signer = await authority.mailSigning('ekms@corp.example');
    writeFileSync(house.path('s.pem'), signer.pem);
    writeFileSync(house.path('ca.pem'), pemOf(authority.infrastructure.certificate));
    writeFileSync(house.path('s.key'), signer.key.export({ type: 'pkcs8', format: 'pem' }));
    const signed = (digest: string, date: string) => {
      const header = `From: ekms@corp.example\r\nTo: ${ALICE}\r\nSubject: ACME: ${HALF}\r\nDate: ${date}\r\nEKMS-Expires: ${new Date(Date.now() + 60_000).toISOString()}\r\n\r\n`;
      writeFileSync(house.path('text'), header);
      return house.openssl('cms', '-sign', '-md', digest, '-in', 'text', '-signer', 's.pem', '-inkey', 's.key', '-certfile', 'ca.pem');
    };
    const today = new Date().toUTCString();
    expect(read(signed('sha256', today)).half).toBe(HALF);
    expect(() => read(signed('sha1', today))).toThrow('SHA-1');
    expect(() => read(signed('sha256', 'some day'))).toThrow('no readable date');
  });

  test('by a signer that is not the appliance is refused', async () => {
    const stranger = await TestAuthority.create();
    // Another root; our root but no mail-signing policy; the right policy for another sender.
    const signers = [
      await stranger.mailSigning('ekms@corp.example'),
      await authority.deliverySigning(),
      await authority.mailSigning('mallory@corp.example'),
    ];
    for (const signer of signers) {
      const mail = await compose(signer);
      expect(() => read(mail)).toThrow(expect.objectContaining({ code: 'challenge-refused' }));
    }
  });

  test('that has expired, or is for somebody else, is refused', async () => {
    const late = await compose(undefined, new Date(Date.now() - 1000));
    expect(() => read(late)).toThrow('expired');
    const good = await compose();
    expect(() => read(good, 'bob@corp.example')).toThrow('another address');
  });
});
