import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { Fault, fromBase64, sameBytes } from '../foundation/index.js';

/**
 * The age format, version 1, with X25519 recipients (https://c2sp.org/age): what backups and shares are encrypted in, so that the program
 * `age` opens them too. Pure: bytes in, bytes or a Fault out. An encrypted file is a header, 16 bytes of nonce, and chunks of 64 KiB.
 */
const VERSION = 'age-encryption.org/v1';
const X25519_INFO = 'age-encryption.org/v1/X25519';
const CHUNK = 64 * 1024;
const TAG = 16;
const NONCE = 16;
/** Bytes of a header that is worth reading. */
const MOST_HEADER = 8_192;
const NO_NONCE = Buffer.alloc(12);
/** DER before the 32 raw bytes (RFC 8410 §7, §4). */
const PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const SPKI = Buffer.from('302a300506032b656e032100', 'hex');

const damaged = (what: string): Fault => new Fault('malformed', 'age-damaged', `this encrypted file is damaged: ${what}`);

/** An identity's 32 secret bytes and the recipient that goes with it. */
export function newAgeIdentity(): { secret: Buffer; recipient: string } {
  const { privateKey } = generateKeyPairSync('x25519');
  return { secret: privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32), recipient: formatRecipient(rawPublic(privateKey)) };
}

/** Throws `age-recipient-malformed`. */
export function parseRecipient(text: string): Buffer {
  const raw = fromBech32('age', text);
  if (raw?.length !== 32) throw new Fault('malformed', 'age-recipient-malformed', `${text.slice(0, 70)} is no age recipient (age1…)`);
  return raw;
}

const formatRecipient = (raw: Buffer): string => toBech32('age', raw);
/** As the program `age` reads it: AGE-SECRET-KEY-1… */
export const formatIdentity = (secret: Buffer): string => toBech32('age-secret-key-', secret).toUpperCase();

/** `-> X25519 share`, and the file key under it. */
export interface AgeStanza {
  share: Buffer;
  body: Buffer;
}

export interface AgeHeader {
  stanza: AgeStanza;
  /** All of the header, up to the payload's nonce. */
  bytes: Buffer;
}

/** A header for one recipient, and the file key that the payload goes under. */
export function makeHeader(recipient: string): { header: Buffer; fileKey: Buffer } {
  const fileKey = randomBytes(16);
  const to = parseRecipient(recipient);
  const { privateKey } = generateKeyPairSync('x25519');
  const share = rawPublic(privateKey);
  const key = wrappingKey(privateKey, to, share, to);
  const stanza = { share, body: seal(key, NO_NONCE, fileKey) };
  const text = headerText(stanza);
  return { header: Buffer.from(`${text} ${unpadded(headerMac(fileKey, text))}\n`), fileKey };
}

/** Reads the header that `bytes` begins with; undefined while there is too little of it. Throws `age-damaged`. */
export function readHeader(bytes: Buffer): AgeHeader | undefined {
  const found = /^(age-encryption\.org\/v1\n-> X25519 ([A-Za-z0-9+/]{43})\n([A-Za-z0-9+/]{43})\n---) ([A-Za-z0-9+/]{43})\n/.exec(
    bytes.subarray(0, MOST_HEADER).toString('latin1'),
  );
  const [whole = '', , share = '', body = ''] = found ?? [];
  if (!found) {
    if (bytes.length < MOST_HEADER && !bytes.includes('\n--- ')) return undefined;
    throw damaged('its header is not that of one X25519 recipient');
  }
  return { stanza: { share: padded(share), body: padded(body) }, bytes: bytes.subarray(0, whole.length) };
}

/** The file key, for who holds the identity. Throws `age-not-for-us`. */
export function openStanza({ share, body }: AgeStanza, secret: Buffer): Buffer {
  const identity = createPrivateKey({ key: Buffer.concat([PKCS8, secret]), format: 'der', type: 'pkcs8' });
  try {
    return open(wrappingKey(identity, share, share, rawPublic(identity)), NO_NONCE, body);
  } catch {
    throw new Fault('malformed', 'age-not-for-us', 'this file was encrypted to somebody else, or its header is damaged');
  }
}

/** Throws `age-damaged` unless this header was written with this file key. */
export function checkHeader({ stanza, bytes }: AgeHeader, fileKey: Buffer): void {
  const text = headerText(stanza);
  if (!sameBytes(bytes, Buffer.from(`${text} ${unpadded(headerMac(fileKey, text))}\n`)))
    throw damaged('the checksum of its header does not hold');
}

/** The payload: nonce and chunks, as they come. */
export async function* sealPayload(fileKey: Buffer, plain: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const nonce = randomBytes(NONCE);
  const key = payloadKey(fileKey, nonce);
  yield nonce;
  let counter = 0;
  // A chunk is sealed when it is known whether another follows: the last one is marked.
  for await (const { bytes, last } of chunks(plain, CHUNK)) yield seal(key, chunkNonce(counter++, last), bytes);
}

/** A payload of one chunk, for what is at hand at once; up to 64 KiB. */
export function sealSmall(fileKey: Buffer, plain: Buffer): Buffer {
  if (plain.length > CHUNK) throw new Error('this is for one chunk');
  const nonce = randomBytes(NONCE);
  return Buffer.concat([nonce, seal(payloadKey(fileKey, nonce), chunkNonce(0, true), plain)]);
}

/** Throws `age-damaged` at the first chunk that is not as it was written, and when the end is missing or something follows it. */
export async function* openPayload(fileKey: Buffer, sealed: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let key: Buffer | undefined;
  let counter = 0;
  for await (const { bytes, last } of chunks(
    afterNonce(sealed, (nonce) => {
      key = payloadKey(fileKey, nonce);
    }),
    CHUNK + TAG,
  )) {
    if (!key) throw damaged('it ends before its payload');
    let plain: Buffer;
    try {
      plain = open(key, chunkNonce(counter, last), bytes);
    } catch {
      throw damaged(`chunk ${counter} is not as it was written, or the file was cut there`);
    }
    // c2sp.org/age: an empty last chunk is for an empty payload only.
    if (plain.length === 0 && counter > 0) throw damaged('it ends in an empty chunk');
    counter++;
    yield plain;
  }
}

async function* afterNonce(sealed: AsyncIterable<Buffer>, take: (nonce: Buffer) => void): AsyncGenerator<Buffer> {
  let held: Buffer | undefined = Buffer.alloc(0);
  for await (const bytes of sealed) {
    if (!held) {
      yield bytes;
      continue;
    }
    held = Buffer.concat([held, bytes]);
    if (held.length < NONCE) continue;
    take(held.subarray(0, NONCE));
    yield held.subarray(NONCE);
    held = undefined;
  }
  if (held) throw damaged('it ends before its payload');
}

/** Cuts a stream into pieces of `size`; exactly one, the last, may be shorter. */
async function* chunks(source: AsyncIterable<Buffer>, size: number): AsyncGenerator<{ bytes: Buffer; last: boolean }> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const bytes of source) {
    parts.push(bytes);
    length += bytes.length;
    if (length <= size) continue;
    const all = Buffer.concat(parts);
    let at = 0;
    for (; all.length - at > size; at += size) yield { bytes: all.subarray(at, at + size), last: false };
    parts = [Buffer.from(all.subarray(at))];
    length = all.length - at;
  }
  yield { bytes: Buffer.concat(parts), last: true };
}

function chunkNonce(counter: number, last: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(counter, 5, 6);
  nonce[11] = last ? 1 : 0;
  return nonce;
}

function wrappingKey(mine: KeyObject, theirs: Buffer, share: Buffer, recipient: Buffer): Buffer {
  const publicKey = createPublicKey({ key: Buffer.concat([SPKI, theirs]), format: 'der', type: 'spki' });
  const secret = diffieHellman({ privateKey: mine, publicKey }); // refuses a point of low order
  return Buffer.from(hkdfSync('sha256', secret, Buffer.concat([share, recipient]), X25519_INFO, 32));
}

const headerText = ({ share, body }: AgeStanza): string => `${VERSION}\n-> X25519 ${unpadded(share)}\n${unpadded(body)}\n---`;
const headerMac = (fileKey: Buffer, text: string): Buffer =>
  createHmac('sha256', Buffer.from(hkdfSync('sha256', fileKey, Buffer.alloc(0), 'header', 32)))
    .update(text)
    .digest();
const payloadKey = (fileKey: Buffer, nonce: Buffer): Buffer => Buffer.from(hkdfSync('sha256', fileKey, nonce, 'payload', 32));
const rawPublic = (key: KeyObject): Buffer => createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32);
const unpadded = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '');

function padded(text: string): Buffer {
  const bytes = fromBase64(text.padEnd(Math.ceil(text.length / 4) * 4, '='), 'base64');
  if (!bytes) throw damaged('its header has a second spelling of its bytes');
  return bytes;
}

function seal(key: Buffer, nonce: Buffer, plain: Buffer): Buffer {
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function open(key: Buffer, nonce: Buffer, sealed: Buffer): Buffer {
  const decipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG });
  decipher.setAuthTag(sealed.subarray(-TAG));
  return Buffer.concat([decipher.update(sealed.subarray(0, -TAG)), decipher.final()]);
}

// Bech32 (BIP 173), without its limit of 90 characters, as age uses it.
const LETTERS = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];

function toBech32(prefix: string, bytes: Buffer): string {
  const data = regroup([...bytes], 8, 5);
  const check = polymod([...expand(prefix), ...data, 0, 0, 0, 0, 0, 0]) ^ 1;
  const all = [...data, ...[0, 1, 2, 3, 4, 5].map((n) => (check >>> (5 * (5 - n))) & 31)];
  return `${prefix}1${all.map((five) => LETTERS[five]).join('')}`;
}

function fromBech32(prefix: string, text: string): Buffer | undefined {
  const data = text.startsWith(`${prefix}1`) ? [...text.slice(prefix.length + 1)].map((letter) => LETTERS.indexOf(letter)) : [];
  if (data.length < 6 || data.includes(-1) || polymod([...expand(prefix), ...data]) !== 1) return undefined;
  const bytes = Buffer.from(regroup(data.slice(0, -6), 5, 8).slice(0, Math.floor(((data.length - 6) * 5) / 8)));
  return toBech32(prefix, bytes) === text ? bytes : undefined;
}

const expand = (prefix: string): number[] => [
  ...[...prefix].map((letter) => letter.charCodeAt(0) >> 5),
  0,
  ...[...prefix].map((letter) => letter.charCodeAt(0) & 31),
];

function polymod(values: number[]): number {
  let check = 1;
  for (const value of values) {
    const top = check >>> 25;
    check = ((check & 0x1ffffff) << 5) ^ value;
    for (const [bit, word] of GENERATOR.entries()) if ((top >>> bit) & 1) check ^= word;
  }
  return check >>> 0;
}

function regroup(values: number[], from: number, to: number): number[] {
  const bits = values.map((value) => value.toString(2).padStart(from, '0')).join('');
  return (bits.match(new RegExp(`.{1,${to}}`, 'g')) ?? []).map((piece) => Number.parseInt(piece.padEnd(to, '0'), 2));
}
