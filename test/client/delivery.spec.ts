import { createPrivateKey, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { acceptKey } from '../../client/src/keys/index.js';
import type { ServedKey } from '../../client/src/sdk/index.js';
import { readCertificate } from '../../client/src/x509/index.js';
import { ALICE, BOB, MailHouse } from './mail-house.js';
import type { Served, TestKey } from './test-appliance.js';
import { type Certified, newUuid, pemOf, spkiOf, TestAuthority } from './test-authority.js';

describe('a delivery', () => {
  let house: MailHouse;
  let alice: TestKey;
  let other: TestKey;
  const delivery = generateKeyPairSync('rsa', { modulusLength: 3072 });
  const device = { id: newUuid(), address: ALICE, delivery: spkiOf(delivery.publicKey) };
  const accept = (served: Served, now = new Date()) =>
    acceptKey(
      served as ServedKey, // the fake's states are strings
      { device: device.id, addresses: [ALICE], root: readCertificate(house.authority.root.certificate), deliveryKey: delivery.privateKey },
      now,
    );
  const made = () => house.appliance.served(alice, device);

  beforeAll(async () => {
    house = await MailHouse.open(async (it) => {
      alice = await it.key('alice', ALICE);
      other = await it.key('bob', BOB);
    });
  });
  afterAll(() => house.close());
  beforeEach(() => {
    house.appliance.oaepHash = 'sha1';
  });

  test.each(['sha1', 'sha256'] as const)('is taken when it holds (%s), and an unmodified openssl opens the same', async (hash) => {
    house.appliance.oaepHash = hash;
    const served = made();
    const key = accept(served);
    const pkcs8 = alice.privateKey.export({ type: 'pkcs8', format: 'der' });
    expect(key.privateKey?.export({ type: 'pkcs8', format: 'der' })).toEqual(pkcs8);
    writeFileSync(house.path('delivery.der'), Buffer.from(served.delivery ?? '', 'base64'));
    writeFileSync(house.path('delivery.key'), delivery.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    expect(house.openssl('cms', '-decrypt', '-inform', 'DER', '-binary', '-in', 'delivery.der', '-inkey', 'delivery.key')).toEqual(pkcs8);
  });

  const sealed = (envelope: Buffer, key: TestKey = alice): Served => ({
    ...made(),
    delivery: envelope.toString('base64'),
    signature: house.appliance.signed(envelope, key, device),
  });
  const resigned = (changes: Record<string, string>, by?: Certified): Served => {
    const served = made();
    return { ...served, signature: house.appliance.signed(Buffer.from(served.delivery ?? '', 'base64'), alice, device, changes, by) };
  };
  const certified = (...certificates: string[]): Served => ({ ...made(), certificates });
  const bent = (bend: (parts: string[]) => string[]): Served => {
    const served = made();
    return { ...served, signature: bend(served.signature?.split('.') ?? []).join('.') };
  };
  const own = () => readCertificate(alice.certificates[0] ?? '').publicKey;
  /** PKCS#8 with one octet of a member changed. */
  const damaged = (...members: ('d' | 'dp')[]) => {
    const der = alice.privateKey.export({ type: 'pkcs8', format: 'der' });
    const jwk = alice.privateKey.export({ format: 'jwk' });
    for (const member of members) {
      const at = der.indexOf(Buffer.from(jwk[member] ?? '', 'base64url')) + 20;
      der[at] = (der[at] ?? 0) ^ 1;
    }
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  };

  /** Each is right in all but one thing. */
  const forgeries: [string, string, () => Served | Promise<Served>][] = [
    ['signed for another device', 'another device', () => resigned({ device: newUuid() })],
    ['signed for another key', 'another key', () => resigned({ key: newUuid() })],
    ['signed over another envelope', 'digest is not', () => resigned({ delivery: 'A'.repeat(43) })],
    ['signed over another public key', 'private key is not the signed one', () => resigned({ publicKey: 'A'.repeat(43) })],
    ['with a statement of more than it should say', 'not of the known form', () => resigned({ more: 'x' })],
    [
      'whose statement has another spelling',
      'canonical form',
      () => {
        const served = made();
        const [head = '', body = ''] = served.signature?.split('.') ?? [];
        const spaced = Buffer.from(Buffer.from(body, 'base64url').toString().replace('{', '{ ')).toString('base64url');
        const value = sign('sha256', Buffer.from(`${head}.${spaced}`), {
          key: house.appliance.deliverySigner.key,
          dsaEncoding: 'ieee-p1363',
        });
        return { ...served, signature: `${head}.${spaced}.${value.toString('base64url')}` };
      },
    ],
    [
      'with something else than a key inside',
      'no private key',
      () => sealed(house.appliance.envelopeOf(Buffer.alloc(1200, 7), device.delivery)),
    ],
    ['without a signature', 'missing', () => ({ ...made(), signature: null })],
    ['without an envelope', 'missing', () => ({ ...made(), delivery: null })],
    [
      'whose signature was changed',
      'signature does not hold',
      () => bent(([head = '', body = '', value = '']) => [head, body, `${value.startsWith('A') ? 'B' : 'A'}${value.slice(1)}`]),
    ],
    [
      'whose statement was changed',
      'signature does not hold',
      () =>
        bent(([head = '', body = '', value = '']) => [
          head,
          `${body.slice(0, -9)}${body.at(-9) === 'A' ? 'B' : 'A'}${body.slice(-8)}`,
          value,
        ]),
    ],
    ['whose algorithm is none', 'not of the known form', () => bent(([, body = '', value = '']) => ['eyJhbGciOiJub25lIn0', body, value])],
    ['whose signature has a part too many', 'malformed', () => bent((parts) => [...parts, 'AAAA'])],
    [
      'signed by the mail certificate of the appliance',
      'certificate policy',
      async () => resigned({}, await house.authority.mailSigning('ekms@corp.example')),
    ],
    ['signed under another root', 'pinned root', async () => resigned({}, await (await TestAuthority.create()).deliverySigning())],
    [
      'with a key of another person inside, and that one signed',
      'does not fit',
      () => sealed(house.appliance.envelope(other.privateKey, device.delivery), { ...other, id: alice.id }),
    ],
    [
      'with a private key that only claims the right public half',
      'does not fit',
      () => sealed(house.appliance.envelope(damaged('d', 'dp'), device.delivery)),
    ],
    [
      'for another delivery key',
      'not for the delivery key',
      () => sealed(house.appliance.envelope(alice.privateKey, spkiOf(generateKeyPairSync('rsa', { modulusLength: 3072 }).publicKey))),
    ],
    [
      'whose envelope was damaged',
      'does not open',
      () => {
        const envelope = house.appliance.envelope(alice.privateKey, device.delivery);
        envelope[envelope.length - 1] = (envelope.at(-1) ?? 0) ^ 1;
        return sealed(envelope);
      },
    ],
    [
      'whose certificate names somebody else',
      'not alice@',
      async () => certified(await house.authority.person(BOB, own()), alice.certificates[1] ?? ''),
    ],
    [
      'whose certificate is from another root',
      'pinned root',
      async () => {
        const stranger = await TestAuthority.create();
        return certified(await stranger.person(ALICE, own()), pemOf(stranger.people.certificate));
      },
    ],
    [
      'whose certificate is from an authority that is none for people',
      'not meant for usage',
      async () =>
        certified(await house.authority.person(ALICE, own(), house.authority.devices), pemOf(house.authority.devices.certificate)),
    ],
    [
      'with a certificate of another key among its own',
      'not all for one key',
      () => certified(alice.certificates[0] ?? '', other.certificates[0] ?? '', alice.certificates[1] ?? ''),
    ],
    ['without a certificate', 'without a certificate', () => certified()],
    ['of a suite that is unknown', 'suite', () => ({ ...made(), suite: 'rot13' })],
    ['in remote mode, though it is there', 'came with a delivery', () => ({ ...made(), mode: 'remote' })],
  ];

  test.each(forgeries)('%s is refused by its name', async (_, reason, forge) => {
    const served = await forge();
    expect(() => accept(served)).toThrow(expect.objectContaining({ code: 'delivery-forged', message: expect.stringContaining(alice.id) }));
    expect(() => accept(served)).toThrow(reason);
  });

  test('a forged one makes mesign keys fail, keeps nothing of it, and keeps the good ones', async () => {
    const added = await house.appliance.giveKey(ALICE);
    const home = () => house.mesign('home', 'keys', '--json');
    const before = JSON.parse((await house.mesign('home', 'keys', '--json')).out.toString()).length;
    expect(before).toBe(2);
    const forged = await house.appliance.giveKey(ALICE);
    house.appliance.bendServed = (served) =>
      served.map((key) => (key.id === forged.id ? { ...key, delivery: served[0]?.delivery ?? null } : key));
    const { status, out, said } = await home();
    house.appliance.bendServed = (served) => served;
    expect({ status, said }).toMatchObject({ status: 1, said: expect.stringContaining(`the delivery of key ${forged.id} was refused`) });
    const ids = JSON.parse(out.toString()).map((key: { id: string }) => key.id);
    expect(ids).toEqual([alice.id, added.id]);
    expect(readFileSync(house.path('home', 'receipts.jsonl'), 'utf8')).not.toContain(forged.id);
  });

  test('one that the appliance withholds is told by its reason, and what is held of it stays', async () => {
    house.appliance.bendServed = (served) =>
      served.map((key) =>
        key.id === alice.id ? { ...key, delivery: null, signature: null, receipt: null, problem: 'blob-corrupt' } : key,
      );
    const { status, out, said } = await house.mesign('home', 'keys', '--json');
    house.appliance.bendServed = (served) => served;
    expect({ status, said }).toMatchObject({ status: 1, said: expect.stringContaining(`key ${alice.id} (blob-corrupt)`) });
    expect(said).not.toContain('REFUSED');
    expect(out.toString()).toContain(alice.id);
  });

  test('an id that is held stands for its key for ever', async () => {
    const impostor = await house.appliance.giveKey(ALICE);
    const keys = house.appliance.keys.get(ALICE) ?? [];
    house.appliance.keys.set(ALICE, [{ ...impostor, id: alice.id }]);
    const { status, said } = await house.mesign('home', 'keys');
    house.appliance.keys.set(ALICE, keys);
    expect({ status, said }).toMatchObject({ status: 1, said: expect.stringContaining('another key under that id') });
  });

  test('keys that the server does not list any more stay', async () => {
    house.appliance.bendServed = () => [];
    const { status, out } = await house.mesign('home', 'keys', '--json');
    house.appliance.bendServed = (served) => served;
    expect(status).toBe(0);
    expect(JSON.parse(out.toString()).map((key: { id: string }) => key.id)).toContain(alice.id);
  });
});
