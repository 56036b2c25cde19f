import { createCipheriv, createDecipheriv, createHash, timingSafeEqual } from 'node:crypto';
import { damaged, unsupported } from '../faults.js';
import { type Dict, integerOf, isDict, nameOf, type Value } from '../values.js';
import { type CryptFilter, type Filters, IDENTITY, type Method } from './opening.js';
import { rc4 } from './rc4.js';

/** A document under a password (ISO 32000-2 §7.6.4, revisions 2 to 6): read, never written. */
export interface PasswordLock {
  /** Undefined where it is not the password; `permissions` are the owner's for the owner's password. */
  open(password: string): { filters: Filters; permissions: number; isOwner: boolean } | undefined;
}

/** §7.6.4.3.2: what fills up a short password. */
const PAD = Buffer.from('28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a', 'hex');
/** UTF-8 bytes that count of a password, from revision 5 on; §7.6.4.3.3. */
const LONGEST = 127;
const METHODS: Readonly<Record<string, Method>> = { None: 'none', V2: 'rc4', AESV2: 'aes-128', AESV3: 'aes-256' };

const md5 = (...parts: Uint8Array[]): Buffer => hash('md5', ...parts);

function hash(name: string, ...parts: Uint8Array[]): Buffer {
  const digest = createHash(name);
  for (const part of parts) digest.update(part);
  return digest.digest();
}

/** @param id the first of the trailer's ID, empty where there is none */
export function readPasswordLock(dict: Dict, id: Buffer): PasswordLock {
  const version = integerOf(dict.get('V')) ?? 0;
  const revision = integerOf(dict.get('R')) ?? 0;
  if (![1, 2, 4, 5].includes(version) || revision < 2 || revision > 6)
    throw unsupported(`its password is of version ${version}.${revision}`);
  const permissions = integerOf(dict.get('P')) ?? 0;
  const bytes = (name: string, length: number): Buffer => {
    const value = dict.get(name);
    if (!Buffer.isBuffer(value) || value.length < length) throw damaged(`its Encrypt entry has no ${name}`);
    return value.subarray(0, length);
  };
  const isNew = revision >= 5;
  const [owner, user] = [bytes('O', isNew ? 48 : 32), bytes('U', isNew ? 48 : 32)];
  const encryptsMetadata = dict.get('EncryptMetadata') !== false;
  const opened = (key: Buffer | undefined, isOwner: boolean) =>
    key && { filters: filtersOf(dict, version, key, encryptsMetadata), permissions: isOwner ? -1 : permissions | 0, isOwner };
  if (isNew) {
    const [ownerKey, userKey] = [bytes('OE', 32), bytes('UE', 32)];
    return {
      open(password) {
        const word = Buffer.from(password.normalize('NFKC')).subarray(0, LONGEST);
        const keyBy = (check: Buffer, wrapped: Buffer, more: Buffer): Buffer | undefined => {
          const of = (salt: Buffer) => (revision === 5 ? hash('sha256', word, salt, more) : hardened(word, salt, more));
          if (!timingSafeEqual(of(check.subarray(32, 40)), check.subarray(0, 32))) return undefined;
          return createDecipheriv('aes-256-cbc', of(check.subarray(40, 48)), Buffer.alloc(16))
            .setAutoPadding(false)
            .update(wrapped);
        };
        return opened(keyBy(owner, ownerKey, user), true) ?? opened(keyBy(user, userKey, Buffer.alloc(0)), false);
      },
    };
  }
  const length = version === 1 ? 5 : version === 4 ? 16 : keyBytes(dict);
  const low = Buffer.alloc(4);
  low.writeInt32LE(permissions | 0);
  const userKeyOf = (padded: Buffer): Buffer | undefined => {
    const plain = revision >= 4 && !encryptsMetadata ? [Buffer.alloc(4, 0xff)] : [];
    const key = again(md5(padded, owner, low, id, ...plain), revision, length);
    const expected =
      revision === 2
        ? rc4(key, PAD)
        : rounds(
            key,
            md5(PAD, id),
            Array.from({ length: 20 }, (_, index) => index),
          );
    const compared = revision === 2 ? 32 : 16;
    return timingSafeEqual(expected.subarray(0, compared), user.subarray(0, compared)) ? key : undefined;
  };
  return {
    open(password) {
      const padded = Buffer.concat([Buffer.from(password, 'latin1'), PAD]).subarray(0, 32);
      const ownerKey = again(md5(padded), revision, length);
      const inside =
        revision === 2
          ? rc4(ownerKey, owner)
          : rounds(
              ownerKey,
              owner,
              Array.from({ length: 20 }, (_, index) => 19 - index),
            );
      return opened(userKeyOf(inside), true) ?? opened(userKeyOf(padded), false);
    },
  };
}

/** §7.6.4.3.2 and .3: fifty times more from revision 3 on. */
function again(digest: Buffer, revision: number, length: number): Buffer {
  let key = digest;
  if (revision >= 3) for (let round = 0; round < 50; round++) key = md5(key.subarray(0, length));
  return key.subarray(0, length);
}

function rounds(key: Buffer, bytes: Buffer, turns: readonly number[]): Buffer {
  let found = bytes;
  for (const turn of turns)
    found = rc4(
      key.map((octet) => octet ^ turn),
      found,
    );
  return found;
}

/** ISO 32000-2 §7.6.4.3.4, algorithm 2.B: ends after 64 to some 300 rounds. */
function hardened(password: Buffer, salt: Buffer, more: Buffer): Buffer {
  let key = hash('sha256', password, salt, more);
  for (let round = 0, last = 0; round < 64 || last > round - 32; round++) {
    const input = Buffer.concat(Array<Buffer>(64).fill(Buffer.concat([password, key, more])));
    const out = createCipheriv('aes-128-cbc', key.subarray(0, 16), key.subarray(16, 32)).setAutoPadding(false).update(input);
    // Modulo 3 of a large number is that of the sum of its octets, since 256 is 1 modulo 3.
    const sum = out.subarray(0, 16).reduce((total, octet) => total + octet, 0);
    key = hash(['sha256', 'sha384', 'sha512'][sum % 3] ?? '', out);
    last = out.at(-1) ?? 0;
  }
  return key.subarray(0, 32);
}

function keyBytes(dict: Dict): number {
  const bits = integerOf(dict.get('Length')) ?? 40;
  if (bits % 8 !== 0 || bits < 40 || bits > 128) throw unsupported(`its key is of ${bits} bits`);
  return bits / 8;
}

function filtersOf(dict: Dict, version: number, key: Buffer, encryptsMetadata: boolean): Filters {
  if (version < 4) {
    const named = new Map<string, CryptFilter>([['RC4', { method: 'rc4', key }]]);
    return { named, streams: 'RC4', strings: 'RC4', embedded: 'RC4', encryptsMetadata: true };
  }
  const table = dict.get('CF');
  const named = new Map<string, CryptFilter>();
  for (const [name, filter] of isDict(table) ? table : new Map<string, Value>()) {
    const method = isDict(filter) ? METHODS[nameOf(filter.get('CFM')) ?? 'None'] : undefined;
    if (method === undefined) throw unsupported('it is encrypted by an unknown method');
    named.set(name, { method, key });
  }
  const streams = nameOf(dict.get('StmF')) ?? IDENTITY;
  const strings = nameOf(dict.get('StrF')) ?? IDENTITY;
  return { named, streams, strings, embedded: nameOf(dict.get('EFF')) ?? streams, encryptsMetadata };
}
