import { execFileSync } from 'node:child_process';
import {
  constants,
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  sign,
  X509Certificate,
} from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { pem } from '../../src/certificates/index.js';
import { newId } from '../../src/foundation/index.js';
import { TestHouse } from '../client/test-house.js';
import { Appliance } from '../support/appliance.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { openDelivery } from '../support/open-delivery.js';
import { derOf, send, type WireReply } from '../support/wire.js';
import { begin, enrolDevice, keysOf, mailedHalf, type WireDevice, type WireKey } from '../support/wire-device.js';

jest.setTimeout(60_000);

describe('a delivery', () => {
  let ekms: Appliance;
  let device: WireDevice;
  let key: WireKey;
  const openssl = (...words: string[]): Buffer => execFileSync('openssl', words, { cwd: ekms.folder, stdio: ['ignore', 'pipe', 'pipe'] });

  beforeAll(async () => {
    ekms = await Appliance.open();
    device = await enrolDevice(ekms, 'alice@corp.example');
    [key] = (await keysOf(ekms, device)) as [WireKey];
    writeFileSync(ekms.beside('delivery.der'), Buffer.from(key.delivery ?? '', 'base64'));
  });
  afterAll(() => ekms?.close());

  test('saved to disk opens with openssl cms and the delivery key of the device, and is the PKCS#8 of the certified key', async () => {
    const pkcs8 = openDelivery(readFileSync(ekms.beside('delivery.der')), device.keys.delivery);
    const opened = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
    const certified = new X509Certificate(key.certificates[0] ?? '').publicKey;
    expect(createPublicKey(opened).equals(certified)).toBe(true);
    expect(opens(opened, certified)).toBe(true);
    // Every later delivery of it, kept or made anew, is the same PKCS#8: the same key, byte for byte.
    await ekms.db.write((unit) => unit.run('DELETE FROM deliveries'));
    const [again] = await keysOf(ekms, device);
    expect(again?.delivery).not.toBe(key.delivery);
    expect(openDelivery(Buffer.from(again?.delivery ?? '', 'base64'), device.keys.delivery)).toEqual(pkcs8);
  });

  test('is what the format page says, by the words of openssl', () => {
    const words = openssl('cms', '-cmsout', '-print', '-inform', 'DER', '-in', 'delivery.der').toString();
    expect(words).toMatch(/contentType: pkcs7-envelopedData/);
    expect(words).toMatch(/contentType: pkcs7-data/);
    expect(words).toMatch(/rsaesOaep/);
    expect(words).toMatch(/id-aes256-wrap-pad/);
    expect(words.match(/subjectKeyIdentifier/g)).toHaveLength(1);
  });

  test('opens with no other delivery key', async () => {
    const other = generateKeyPairSync('rsa', { modulusLength: 3072 }).privateKey;
    expect(() => openDelivery(readFileSync(ekms.beside('delivery.der')), other)).toThrow('opened nothing');
  });

  test('names in its receipt the entry of that very release', async () => {
    const [served] = await keysOf(ekms, device);
    // Not the last one: pairs for the pool are born meanwhile.
    const entry = (await ekms.log()).find(({ index }) => index === String(served?.receipt?.index));
    expect(entry).toMatchObject({
      action: 'key.deliver',
      outcome: 'done',
      key: key.id,
      device: device.id,
    });
    const row = await ekms.db.one<{ body: string; leaf: Buffer }>('SELECT body, leaf FROM audit_entries WHERE idx = ?', [
      served?.receipt?.index ?? -1,
    ]);
    // RFC 9162 §2.1.1, by hand.
    const leaf = createHash('sha256')
      .update(Buffer.of(0))
      .update(row?.body ?? '')
      .digest('base64url');
    expect(served?.receipt?.leaf).toBe(leaf);
  });
});

describe('a forged delivery', () => {
  const client = new TestHouse();
  let house: HouseInProcess;
  let forger: Forger;
  let alices: WireKey;
  const keys = () => client.mesign('laptop', 'keys');

  beforeAll(async () => {
    house = await HouseInProcess.open();
    await house.house.pool.fill(2);
    forger = await Forger.open(house);
    [alices] = (await keysOf(house, await enrolDevice(house, 'alice@corp.example'))) as [WireKey];
    // Another enrolment of bob was begun, so the half that serves both is known.
    const half = await mailedHalf(house, await begin(house, 'bob@corp.example'));
    writeFileSync(client.path('ca.pem'), house.root);
    writeFileSync(
      client.path('app.json'),
      JSON.stringify({ v: 1, ...house.app, key: house.app.key.export({ type: 'pkcs8', format: 'pem' }) }),
    );
    const where = ['--server', `https://localhost:${forger.port}`, '--ca', client.path('ca.pem'), '--app', client.path('app.json')];
    const enrolled = await client.mesign('laptop', 'enroll', ...where, '--email', 'bob@corp.example', '--code', half);
    expect(enrolled).toMatchObject({ status: 0 });
  });
  afterAll(async () => {
    await forger?.close();
    await house?.close();
    client.remove();
  });

  test('is not what the forger serves when it changes nothing: the way over it works', async () => {
    forger.forge = (served) => served;
    expect(await keys()).toMatchObject({ status: 0 });
    expect(forger.forged).toBeGreaterThan(0);
  });

  const flip = (text: string | null, at: number) => {
    const bytes = Buffer.from(text ?? '', 'base64');
    const place = at < 0 ? bytes.length + at : at;
    bytes.writeUInt8(bytes.readUInt8(place) ^ 1, place);
    return bytes.toString('base64');
  };

  test.each<[string, (bobs: WireKey) => WireKey, string]>([
    ['the last byte changed', (bobs) => ({ ...bobs, delivery: flip(bobs.delivery, -1) }), 'digest'],
    ['a byte of the encrypted content-encryption key changed', (bobs) => ({ ...bobs, delivery: flip(bobs.delivery, 200) }), 'digest'],
    ["alice's delivery instead", (bobs) => ({ ...bobs, delivery: alices.delivery }), 'digest'],
    ["alice's delivery and signature", (bobs) => ({ ...bobs, delivery: alices.delivery, signature: alices.signature }), 'another device'],
    ["all of alice's key", () => alices, 'names alice@corp.example'],
    ["alice's certificates", (bobs) => ({ ...bobs, certificates: alices.certificates }), 'names alice@corp.example'],
    ["alice's key id", (bobs) => ({ ...bobs, id: alices.id }), 'another key'],
    ['no signature', (bobs) => ({ ...bobs, signature: null }), 'signature is missing'],
    ['another time in the signed statement', (bobs) => ({ ...bobs, signature: resigned(bobs.signature ?? '') }), 'does not hold'],
    ['a signature by a stranger', (bobs) => ({ ...bobs, signature: strangers(bobs.signature ?? '') }), 'root'],
    ['mode remote, with a delivery', (bobs) => ({ ...bobs, mode: 'remote' }), 'stays in the appliance'],
  ])('is refused by mesign, and nothing of it is kept: %s', async (_, forge, words) => {
    forger.forge = ([bobs]) => (bobs ? [forge(bobs)] : []);
    const { status, said } = await keys();
    expect({ status, said }).toMatchObject({ status: 1, said: expect.stringContaining('REFUSED') });
    expect(said).toContain(words);
    // What was kept before stays.
    forger.forge = (served) => served;
    expect((await keys()).out.toString()).not.toContain(alices.id);
  });
});

describe('the objects in the token', () => {
  let ekms: Appliance;
  let objects: { type: string; label: string; usage: string; access: string }[];

  beforeAll(async () => {
    ekms = await Appliance.open();
    await keysOf(ekms, await enrolDevice(ekms, 'alice@corp.example'));
    const listed = execFileSync(
      'pkcs11-tool',
      ['--module', '/usr/lib/softhsm/libsofthsm2.so', '--token-label', 'ekms', '-O', '-l', '-p', 'env:EKMS_TEST_PIN'],
      {
        env: { ...process.env, SOFTHSM2_CONF: ekms.file('softhsm2.conf'), EKMS_TEST_PIN: readFileSync(ekms.file('pin'), 'utf8').trim() },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    ).toString();
    objects = listed
      .split(/^(?=\S[^\n]*Object)/m)
      .filter((text) => /Object/.test(text))
      .map((text) => ({
        type: text.split(/[;\n]/, 1)[0] ?? '',
        label: /label:\s*(.*)/.exec(text)?.[1] ?? '',
        usage: /Usage:\s*(.*)/.exec(text)?.[1] ?? '',
        access: /Access:\s*(.*)/.exec(text)?.[1] ?? '',
      }));
  });
  afterAll(() => ekms?.close());

  test('the key-encryption key is sensitive, was never extractable, and wraps and unwraps only', () => {
    const keks = objects.filter(({ type, label }) => type === 'Secret Key Object' && /kek/i.test(label));
    expect(keks).toHaveLength(1);
    expect(keks[0]?.usage).toBe('wrap, unwrap');
    expect(keks[0]?.access).toBe('sensitive, always sensitive, never extractable, local');
  });

  test('every other secret and private key is sensitive and never extractable too', () => {
    const secrets = objects.filter(({ type }) => /^(Secret|Private) Key Object/.test(type));
    expect(secrets.length).toBeGreaterThan(8);
    for (const { label, access } of secrets)
      expect(`${label}: ${access}`).toContain('sensitive, always sensitive, never extractable, local');
  });

  test("no person's key is among them after a birth and a delivery: pairs live in the database, wrapped", () => {
    const rsa = objects.filter(({ type }) => /Private Key Object.*RSA/.test(type));
    expect(rsa).toEqual([]);
  });
});

function opens(privateKey: KeyObject, publicKey: KeyObject): boolean {
  const padding = { padding: constants.RSA_PKCS1_OAEP_PADDING };
  const probe = Buffer.from('a probe');
  return privateDecrypt({ key: privateKey, ...padding }, publicEncrypt({ key: publicKey, ...padding }, probe)).equals(probe);
}

/** The same header and signature over a payload with a later time. */
function resigned(jws: string): string {
  const [head, body = '', signature] = jws.split('.');
  const payload = Buffer.from(body, 'base64url')
    .toString()
    .replace(/"time":"20/, '"time":"21');
  return `${head}.${Buffer.from(payload).toString('base64url')}.${signature}`;
}

/** A certificate of the stranger's own in x5c, and a signature that fits it. */
function strangers(jws: string): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pem = selfSigned(privateKey);
  const header = Buffer.from(JSON.stringify({ alg: 'ES256', typ: 'ekms-delivery+jws', x5c: [derOf(pem).toString('base64')] })).toString(
    'base64url',
  );
  const input = `${header}.${jws.split('.')[1]}`;
  return `${input}.${sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

function selfSigned(privateKey: KeyObject): string {
  const folder = new TestHouse();
  try {
    writeFileSync(folder.path('key'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    return folder.openssl('req', '-x509', '-new', '-key', 'key', '-subj', '/CN=Eve').toString();
  } finally {
    folder.remove();
  }
}

/**
 * Sits where mesign believes its appliance to be and changes what comes by. It has what no stranger has, a TLS certificate of the very root and the
 * way to the vault: so only the delivery's own proofs are left to stop it.
 */
class Forger {
  forge: (keys: WireKey[]) => WireKey[] = (keys) => keys;
  forged = 0;

  private constructor(
    private readonly server: Server,
    readonly port: number,
  ) {}

  static async open(it: HouseInProcess): Promise<Forger> {
    const { key, certificate, authority } = await it.house.infrastructure.tlsServer(['localhost']);
    const tls = { key: key.export({ type: 'pkcs8', format: 'pem' }), cert: pem(certificate) + pem(authority) };
    const server = createServer({ ...tls, requestCert: true, rejectUnauthorized: false });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const forger = new Forger(server, (server.address() as AddressInfo).port); // a TCP server's address
    server.on('request', async (incoming, outgoing) => {
      const pieces: Buffer[] = [];
      for await (const piece of incoming) pieces.push(piece as Buffer); // no encoding is set
      const { status, json } =
        incoming.url === '/v1/keys'
          ? await forger.#keys(it, incoming.socket as TLSSocket)
          : await passOn(it, incoming, Buffer.concat(pieces));
      outgoing.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(json));
    });
    return forger;
  }

  async #keys(it: HouseInProcess, socket: TLSSocket): Promise<{ status: number; json: unknown }> {
    const actor = await it.house.deviceGuard.admit(socket.getPeerX509Certificate()?.raw, { id: newId(), network: '127.0.0.1' });
    const keys = (await it.house.vault.retrieve(actor)).map((each) => ({ ...each, delivery: each.delivery?.toString('base64') ?? null }));
    this.forged++;
    return { status: 200, json: this.forge(keys) };
  }

  close(): Promise<void> {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(() => resolve()));
  }
}

function passOn(it: HouseInProcess, incoming: IncomingMessage, body: Buffer): Promise<WireReply> {
  const fields = Object.entries(incoming.headers).filter(([name]) => name.startsWith('signature') || name === 'content-digest');
  const headers = Object.fromEntries(fields.map(([name, value]) => [name, String(value)]));
  return send({ port: it.port, root: it.root, method: incoming.method ?? '', path: incoming.url ?? '', body, headers });
}
