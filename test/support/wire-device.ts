import { constants, createPublicKey, generateKeyPairSync, type KeyObject, privateDecrypt, sign } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AppCredential, signedFields } from '../../client/src/sdk/index.js';
import { certificationRequest } from '../../client/src/x509/index.js';
import { base64url, canonicalJson, sha256 } from '../../src/foundation/index.js';
import { rsaKey } from './rsa-keys.js';
import { derOf, send, type WireReply } from './wire.js';

/** Where a device enrols: a real appliance or one in this process. */
export interface Door {
  port: number;
  /** PEM. */
  root: string;
  app: AppCredential;
  now(): Date;
  /** Waits for a message to this address for which `find` gives something; resolves with that. Newest first. */
  mailed(address: string, find: (mail: string) => string | undefined): Promise<string>;
}

export interface DeviceKeys {
  identity: KeyObject;
  delivery: KeyObject;
}

/** An enrolment that was asked for, with all that its device knows. */
export interface Begun {
  address: string;
  keys: DeviceKeys;
  id: string;
  half2: string;
  nonce: string;
  expiresAt: string;
}

/** A device that is enrolled. */
export interface WireDevice {
  id: string;
  employee: string;
  address: string;
  keys: DeviceKeys;
  /** PEM chain, leaf first. */
  certificates: string;
}

export interface WireKey {
  id: string;
  state: string;
  mode: string;
  certificates: string[];
  delivery: string | null;
  signature: string | null;
  receipt: { index: number; leaf: string } | null;
}

export const spkiOf = (key: KeyObject): Buffer => createPublicKey(key).export({ type: 'spki', format: 'der' });

export async function newDeviceKeys(bits = 3072): Promise<DeviceKeys> {
  return { delivery: await rsaKey(bits), identity: newIdentity() };
}
export const newIdentity = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

/** The body of `POST /v1/enrolments` (docs/formats/enrolment.md §1). */
export const requestBody = (address: string, { identity, delivery }: DeviceKeys) => ({
  address,
  csr: certificationRequest(identity, 'a test').toString('base64'),
  delivery: spkiOf(delivery).toString('base64'),
  platform: 'linux',
});

/** Posts a body signed by the app credential. `fields` replaces header fields of the signature. */
export function postSigned(door: Door, path: string, value: object | Buffer, fields: Record<string, string> = {}): Promise<WireReply> {
  const body = Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value));
  const headers = { ...signedFields(door.app, 'POST', path, body, door.now()), ...fields };
  return send({ port: door.port, root: door.root, method: 'POST', path, body, headers });
}

/** @param more further members of the request */
export async function begin(door: Door, address: string, keys?: DeviceKeys, more: object = {}): Promise<Begun> {
  const own = keys ?? (await newDeviceKeys());
  const reply = await postSigned(door, '/v1/enrolments', { ...requestBody(address, own), ...more });
  if (reply.status !== 201) throw new Error(`enrolment of ${address}: ${reply.status} ${reply.body}`);
  const { id, half, nonce, expiresAt } = reply.json as { id: string; half: string; nonce: string; expiresAt: string }; // docs/formats/enrolment.md §1
  const opened = privateDecrypt(
    { key: own.delivery, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
    Buffer.from(nonce, 'base64'),
  );
  return { address, keys: own, id, half2: half, nonce: base64url(opened), expiresAt };
}

/** Half of the challenge mail that serves this enrolment: made for it, or alive already when it was asked for (§2). */
export const mailedHalf = (door: Door, { address, id, expiresAt }: Begun): Promise<string> =>
  door.mailed(address, (mail) =>
    mail.includes(`EKMS-Enrolment: ${id}`) || mail.includes(`EKMS-Expires: ${expiresAt}`)
      ? /^Subject: ACME: ([A-Za-z0-9_-]{22})\r?$/m.exec(mail)?.[1]
      : undefined,
  );

/** The body of an answer (§3). `signer`: the identity key, unless somebody else signs. */
export function answerBody(door: Pick<Door, 'root'>, { address, keys, id, half2, nonce }: Begun, half1: string, signer = keys.identity) {
  const { crv = '', kty = '', x = '', y = '' } = createPublicKey(keys.identity).export({ format: 'jwk' });
  const statement = canonicalJson({
    v: 1,
    enrolment: id,
    address: address.toLowerCase(),
    half1,
    half2,
    jkt: base64url(sha256(canonicalJson({ crv, kty, x, y }))),
    delivery: base64url(sha256(spkiOf(keys.delivery))),
    server: base64url(sha256(derOf(door.root))),
  });
  const answer = base64url(sha256(statement));
  return { answer, signature: base64url(sign('sha256', Buffer.from(answer), { key: signer, dsaEncoding: 'ieee-p1363' })), nonce };
}

export const answerPath = (id: string): string => `/v1/enrolments/${id}/answer`;

export async function giveAnswer(door: Door, begun: Begun, half1?: string): Promise<WireReply> {
  return postSigned(door, answerPath(begun.id), answerBody(door, begun, half1 ?? (await mailedHalf(door, begun))));
}

export function deviceFrom(begun: Begun, reply: WireReply): WireDevice {
  if (reply.status !== 200) throw new Error(`answer for ${begun.address}: ${reply.status} ${reply.body}`);
  const { device, employee, certificates } = reply.json as { device: string; employee: string; certificates: string[] }; // §3
  return { id: device, employee, address: begun.address, keys: begun.keys, certificates: certificates.join('') };
}

export async function enrolDevice(door: Door, address: string, keys?: DeviceKeys): Promise<WireDevice> {
  const begun = await begin(door, address, keys);
  return deviceFrom(begun, await giveAnswer(door, begun));
}

/** A request by mutual TLS as this device, or with another certificate that a thief would show. */
export function asDevice(
  door: Door,
  { certificates, keys }: { certificates: string; keys: { identity: KeyObject } },
  method: string,
  path: string,
  value?: object,
): Promise<WireReply> {
  const body = value === undefined ? undefined : JSON.stringify(value);
  return send({ port: door.port, root: door.root, method, path, body, identity: { certificates, key: keys.identity } });
}

export const fetchKeys = (door: Door, device: WireDevice): Promise<WireReply> => asDevice(door, device, 'GET', '/v1/keys');

/** What `GET /v1/keys` serves; waits, as a device does, while a first key is pending. */
export async function keysOf(door: Door, device: WireDevice): Promise<WireKey[]> {
  // Seldom after a second: asked each 50 ms, a pair that is six seconds in coming would be over the device's budget.
  for (let [until, tries] = [Date.now() + 20_000, 0]; ; await sleep(++tries < 20 ? 50 : 500)) {
    const reply = await fetchKeys(door, device);
    if (reply.status !== 200) throw new Error(`keys of ${device.address}: ${reply.status} ${reply.body}`);
    const keys = reply.json as WireKey[]; // docs/formats/delivery.md
    if (!keys.some(({ state }) => state === 'pending') || Date.now() > until) return keys;
  }
}
