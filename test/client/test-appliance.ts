import 'reflect-metadata';
import {
  constants,
  createCipheriv,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  randomUUID,
  sign,
  verify,
  X509Certificate,
} from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { envelopedKey } from '../../src/codec/cms/index.js';
import { readCertificationRequest } from '../../src/codec/x509/index.js';
import { base64url, canonicalJson, sha256 } from '../../src/foundation/index.js';
import { compose } from '../../src/mail/compose.js';
import { type Certified, spkiOf, type TestAuthority } from './test-authority.js';

export interface TestKey {
  id: string;
  state: string;
  mode: 'deliver' | 'remote';
  privateKey: KeyObject;
  /** PEM: leaves, newest first, then the people CA. */
  certificates: string[];
}

/** A served key as JSON, before a test bends it. */
export interface Served {
  id: string;
  suite: string;
  state: string;
  mode: string;
  certificates: string[];
  delivery: string | null;
  signature: string | null;
  receipt: { index: number; leaf: string } | null;
}

interface Enrolment {
  address: string;
  csr: Buffer;
  delivery: Buffer;
  half2: string;
  nonce: string;
  asked: number;
}

interface Device {
  id: string;
  address: string;
  delivery: Buffer;
  removed?: boolean;
}

type Reply = { status: number; body?: unknown; headers?: Record<string, string> };
const problem = (status: number, code: string): Reply => ({ status, body: { type: 'about:blank', title: code, status, code } });

/** The appliance's device interface (docs/formats), working, in memory. */
export class TestAppliance {
  /** Told to the test; each may be changed by it. */
  mailFrom = 'ekms@corp.example';
  /** Answers 202 that often before 200. */
  waits = 0;
  /** The first key is pending for that many calls. */
  pendingCalls = 0;
  sendMail = true;
  bendServed: (served: Served[]) => Served[] = (served) => served;
  bendMail: (mail: Buffer) => Buffer = (mail) => mail;
  oaepHash: 'sha1' | 'sha256' = 'sha1';
  readonly keys = new Map<string, TestKey[]>();
  readonly app = { id: randomUUID(), key: generateKeyPairSync('ec', { namedCurve: 'P-256' }) };
  readonly devices = new Map<string, Device>();
  readonly confirmed: { id: string; confirm: boolean }[] = [];
  readonly nonces = new Set<string>();
  lastHalf1 = '';
  readonly #enrolments = new Map<string, Enrolment>();
  readonly #half1 = new Map<string, string>();
  #server: Server | undefined;
  #leaf = 0;

  private constructor(
    readonly authority: TestAuthority,
    readonly mailFolder: string,
    private readonly tls: Certified,
    readonly deliverySigner: Certified,
  ) {}

  static async start(authority: TestAuthority, mailFolder: string): Promise<TestAppliance> {
    const appliance = new TestAppliance(authority, mailFolder, await authority.tlsServer(), await authority.deliverySigning());
    appliance.#server = createServer(
      {
        cert: appliance.tls.pem,
        key: appliance.tls.key.export({ type: 'pkcs8', format: 'pem' }),
        minVersion: 'TLSv1.3',
        requestCert: true,
        rejectUnauthorized: false,
        ca: [authority.rootPem],
      },
      (request, response) => {
        void appliance.#answer(request).then((reply) => {
          const type = reply.status < 400 ? 'application/json' : 'application/problem+json';
          response.writeHead(reply.status, { 'content-type': type, ...reply.headers });
          response.end(reply.body === undefined ? undefined : JSON.stringify(reply.body));
        });
      },
    );
    await new Promise<void>((done) => appliance.#server?.listen(0, '127.0.0.1', done));
    return appliance;
  }

  get url(): string {
    const address = this.#server?.address();
    return `https://localhost:${typeof address === 'object' ? address?.port : ''}`;
  }

  /** The app credential's file. */
  credential(changes: Record<string, unknown> = {}): string {
    const key = this.app.key.privateKey.export({ type: 'pkcs8', format: 'pem' });
    return JSON.stringify({ v: 1, id: this.app.id, platform: 'linux', server: 'localhost', ca: this.authority.pin, key, ...changes });
  }

  async giveKey(address: string, changes: Partial<TestKey> = {}): Promise<TestKey> {
    const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const certificates = [
      await this.authority.person(address, pair.publicKey),
      new X509Certificate(this.authority.people.certificate).toString(),
    ];
    const key = { id: randomUUID(), state: 'active', mode: 'deliver' as const, privateKey: pair.privateKey, certificates, ...changes };
    this.keys.set(address, [...(this.keys.get(address) ?? []), key]);
    return key;
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise((done) => this.#server?.close(done));
  }

  async #answer(request: IncomingMessage): Promise<Reply> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer); // no encoding is set on the request
    const body = Buffer.concat(pieces);
    const [, , what = '', id = '', act = ''] = (request.url ?? '').split('/');
    const route = `${request.method} ${what}${id && '/:'}${act && `/${act}`}`;
    if (route === 'POST enrolments')
      return this.#signedByApp(request, body) ? this.#begin(JSON.parse(body.toString())) : problem(401, 'app-signature-wrong');
    if (route === 'POST enrolments/:/answer')
      return this.#signedByApp(request, body) ? this.#finish(id, JSON.parse(body.toString())) : problem(401, 'app-signature-wrong');
    const device = this.#deviceOf(request.socket as TLSSocket); // an https server's sockets
    if (!device) return problem(403, 'device-unknown');
    if (route === 'GET keys') return this.#serve(device);
    if (route === 'POST keys/:/decryptions') return this.#decrypt(device, id, JSON.parse(body.toString()));
    if (route === 'GET devices')
      return {
        status: 200,
        body: [
          { id: device.id, platform: 'linux', name: 'a laptop', state: 'active', enrolledAt: new Date().toISOString(), current: true },
        ],
      };
    if (route === 'DELETE devices/:' && id === device.id) {
      device.removed = true;
      return { status: 204 };
    }
    if (route === 'GET enrolments')
      return {
        status: 200,
        body: [{ id: 'pending-1', address: device.address, platform: 'linux', name: 'new', requestedAt: new Date().toISOString() }],
      };
    if (route === 'POST enrolments/:/confirmation') {
      this.confirmed.push({ id, ...JSON.parse(body.toString()) });
      return { status: 204 };
    }
    return problem(404, 'route-unknown');
  }

  /** RFC 9421 by the letter of docs/formats/enrolment.md. */
  #signedByApp(request: IncomingMessage, body: Buffer): boolean {
    const field = (name: string): string => String(request.headers[name] ?? '');
    const digest = `sha-256=:${sha256(body).toString('base64')}:`;
    const [parameters, , nonce = ''] =
      /^\("@method" "@path" "content-digest"\);created=(\d+);nonce="([\w-]{22})";keyid="[0-9a-f-]{36}";alg="ecdsa-p256-sha256"$/.exec(
        field('signature-input').replace(/^ekms=/, ''),
      ) ?? [];
    const value = /^ekms=:([A-Za-z0-9+/=]{88}):$/.exec(field('signature'))?.[1];
    if (!parameters || !value || field('content-digest') !== digest || this.nonces.has(nonce) || !parameters.includes(this.app.id))
      return false;
    this.nonces.add(nonce);
    const base = [
      `"@method": ${request.method}`,
      `"@path": ${request.url}`,
      `"content-digest": ${digest}`,
      `"@signature-params": ${parameters}`,
    ].join('\n');
    return verify('sha256', Buffer.from(base), { key: this.app.key.publicKey, dsaEncoding: 'ieee-p1363' }, Buffer.from(value, 'base64'));
  }

  async #begin(ask: { address: string; csr: string; delivery: string }): Promise<Reply> {
    const id = randomUUID();
    const nonce = randomBytes(32);
    const delivery = Buffer.from(ask.delivery, 'base64');
    const key = createPublicKey({ key: delivery, format: 'der', type: 'spki' });
    const half2 = base64url(randomBytes(16));
    const half1 = this.#half1.get(ask.address) ?? base64url(randomBytes(16));
    this.#half1.set(ask.address, half1);
    this.lastHalf1 = half1;
    this.#enrolments.set(id, {
      address: ask.address.toLowerCase(),
      csr: Buffer.from(ask.csr, 'base64'),
      delivery,
      half2,
      nonce: base64url(nonce),
      asked: 0,
    });
    if (this.sendMail) await this.mail(ask.address, half1, id);
    const sealed = publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }, nonce);
    return {
      status: 201,
      body: { id, half: half2, nonce: sealed.toString('base64'), expiresAt: new Date(Date.now() + 600_000).toISOString() },
    };
  }

  /** Puts a challenge mail into the address's Maildir, as the appliance composes it. */
  async mail(
    address: string,
    half1: string,
    enrolment: string,
    expires = new Date(Date.now() + 600_000),
    signer?: Certified,
    expiresField = 'EKMS-Expires',
  ): Promise<Buffer> {
    const by = signer ?? (await this.authority.mailSigning(this.mailFrom));
    const mail = await compose(
      {
        kind: 'challenge',
        expires: expires.getTime(),
        to: address,
        subject: `ACME: ${half1}`,
        text: 'Please ignore this mail.\n',
        headers: { 'Auto-Submitted': 'auto-generated; type=acme', 'EKMS-Enrolment': enrolment, [expiresField]: expires.toISOString() },
      },
      { from: this.mailFrom, id: randomUUID(), date: new Date() },
      {
        certificates: async () => [by.der, this.authority.infrastructure.certificate],
        signMail: async (message) => sign('sha256', message, { key: by.key, dsaEncoding: 'ieee-p1363' }),
      },
    );
    const folder = join(this.mailFolder, address, 'new');
    mkdirSync(folder, { recursive: true });
    const bent = this.bendMail(mail);
    writeFileSync(join(folder, `${Date.now()}.${randomUUID()}.test`), bent);
    return bent;
  }

  async #finish(id: string, answer: { answer: string; signature: string; nonce: string }): Promise<Reply> {
    const enrolment = this.#enrolments.get(id);
    if (!enrolment) return problem(404, 'enrolment-unknown');
    const publicKey = await readCertificationRequest(enrolment.csr);
    const identity = createPublicKey({ key: publicKey, format: 'der', type: 'spki' });
    const { crv, kty, x, y } = identity.export({ format: 'jwk' }) as Record<string, string>; // an EC key has these four
    const expected = base64url(
      sha256(
        canonicalJson({
          v: 1,
          enrolment: id,
          address: enrolment.address,
          half1: this.#half1.get(enrolment.address) ?? '',
          half2: enrolment.half2,
          jkt: base64url(sha256(JSON.stringify({ crv, kty, x, y }))),
          delivery: base64url(sha256(enrolment.delivery)),
          server: this.authority.pin,
        }),
      ),
    );
    const holds = verify(
      'sha256',
      Buffer.from(answer.answer),
      { key: identity, dsaEncoding: 'ieee-p1363' },
      Buffer.from(answer.signature, 'base64url'),
    );
    if (!holds || answer.answer !== expected || answer.nonce !== enrolment.nonce) return problem(403, 'answer-wrong');
    if (enrolment.asked++ < this.waits) return { status: 202, body: { state: 'waiting', for: 'device' }, headers: { 'retry-after': '0' } };
    const [device, employee] = [randomUUID(), randomUUID()];
    this.devices.set(device, { id: device, address: enrolment.address, delivery: enrolment.delivery });
    this.#enrolments.delete(id);
    return {
      status: 200,
      body: { device, employee, certificates: await this.authority.device(spkiOf(identity), device, employee, enrolment.delivery) },
    };
  }

  #deviceOf(socket: TLSSocket): Device | undefined {
    const subject = socket.authorized ? socket.getPeerX509Certificate()?.subject : undefined;
    const device = this.devices.get(/CN=([0-9a-f-]{36})/.exec(subject ?? '')?.[1] ?? '');
    return device?.removed ? undefined : device;
  }

  #serve(device: Device): Reply {
    const keys = this.keys.get(device.address) ?? [];
    if (this.pendingCalls-- > 0)
      return {
        status: 200,
        headers: { 'retry-after': '1' },
        body: [
          {
            id: keys[0]?.id ?? randomUUID(),
            suite: 'rsa',
            state: 'pending',
            mode: 'deliver',
            certificates: [],
            delivery: null,
            signature: null,
            receipt: null,
          },
        ],
      };
    return { status: 200, body: this.bendServed(keys.map((key) => this.served(key, device))) };
  }

  served(key: TestKey, device: Device): Served {
    const base = {
      id: key.id,
      suite: 'rsa',
      state: key.state,
      mode: key.mode,
      certificates: key.certificates,
      receipt: { index: this.#leaf++, leaf: base64url(randomBytes(32)) },
    };
    if (key.mode === 'remote') return { ...base, delivery: null, signature: null };
    const delivery = this.envelope(key.privateKey, device.delivery);
    return { ...base, delivery: delivery.toString('base64'), signature: this.signed(delivery, key, device) };
  }

  envelope(privateKey: KeyObject, deliveryKey: Buffer): Buffer {
    return this.envelopeOf(privateKey.export({ type: 'pkcs8', format: 'der' }), deliveryKey);
  }

  envelopeOf(plain: Buffer, deliveryKey: Buffer): Buffer {
    const cek = randomBytes(32);
    const cipher = createCipheriv('id-aes256-wrap-pad', cek, Buffer.from('a65959a6', 'hex'));
    const content = Buffer.concat([cipher.update(plain), cipher.final()]);
    const key = createPublicKey({ key: deliveryKey, format: 'der', type: 'spki' });
    const encryptedKey = publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: this.oaepHash }, cek);
    return envelopedKey({ encryptedKey, content, oaepHash: this.oaepHash, deliveryKey });
  }

  signed(
    delivery: Buffer,
    key: TestKey,
    device: Device,
    changes: Record<string, string> = {},
    by: Certified = this.deliverySigner,
  ): string {
    const x5c = [by.der, this.authority.infrastructure.certificate].map((der) => Buffer.from(der).toString('base64'));
    const head = JSON.stringify({ alg: 'ES256', typ: 'ekms-delivery+jws', x5c });
    const publicKey = base64url(sha256(spkiOf(createPublicKey(key.privateKey))));
    const body = canonicalJson({
      v: 1,
      delivery: base64url(sha256(delivery)),
      device: device.id,
      key: key.id,
      publicKey,
      time: new Date().toISOString(),
      ...changes,
    });
    const input = `${base64url(Buffer.from(head))}.${base64url(Buffer.from(body))}`;
    return `${input}.${base64url(sign('sha256', Buffer.from(input), { key: by.key, dsaEncoding: 'ieee-p1363' }))}`;
  }

  /** Remote mode: a failure gives a random key of the announced length. */
  #decrypt(device: Device, id: string, ask: { scheme: string; encryptedKey: string; length: number }): Reply {
    const key = (this.keys.get(device.address) ?? []).find((candidate) => candidate.id === id && candidate.mode === 'remote');
    if (!key) return problem(404, 'key-unknown');
    const padding = ask.scheme === 'rsa-pkcs1' ? constants.RSA_PKCS1_PADDING : constants.RSA_PKCS1_OAEP_PADDING;
    let cek: Buffer;
    try {
      cek = privateDecrypt(
        { key: key.privateKey, padding, oaepHash: ask.scheme === 'rsa-oaep-sha256' ? 'sha256' : 'sha1' },
        Buffer.from(ask.encryptedKey, 'base64'),
      );
    } catch {
      cek = randomBytes(ask.length);
    }
    if (cek.length !== ask.length) cek = randomBytes(ask.length);
    const recipient = createPublicKey({ key: device.delivery, format: 'der', type: 'spki' });
    const wrapped = publicEncrypt({ key: recipient, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: this.oaepHash }, cek);
    return {
      status: 200,
      body: {
        wrapped: wrapped.toString('base64'),
        hash: this.oaepHash,
        receipt: { index: this.#leaf++, leaf: base64url(randomBytes(32)) },
      },
    };
  }
}
