import { createDecipheriv } from 'node:crypto';
import { Fault } from '../../foundation/index.js';
import { Fields, numberOf, octetsOf, TAG } from '../asn1/index.js';
import type { Enveloped } from './enveloped.js';
import { KEY_WRAP_PAD } from './oids.js';
import { openRc2 } from './rc2.js';

interface Cipher {
  name: string;
  node: string;
  keyLength: 16 | 24 | 32;
  form: 'cbc' | 'gcm' | 'wrap' | 'rc2';
  /** What a reader should hear about it. */
  warning?: string;
}

const AES = '2.16.840.1.101.3.4.1';
const cbc = (bits: 128 | 192 | 256): Cipher => ({
  name: `AES-${bits}-CBC`,
  node: `aes-${bits}-cbc`,
  keyLength: keyBytes(bits),
  form: 'cbc',
});
const gcm = (bits: 128 | 192 | 256): Cipher => ({
  name: `AES-${bits}-GCM`,
  node: `aes-${bits}-gcm`,
  keyLength: keyBytes(bits),
  form: 'gcm',
});
const keyBytes = (bits: 128 | 192 | 256): 16 | 24 | 32 => (bits === 128 ? 16 : bits === 192 ? 24 : 32);

const CIPHERS: Readonly<Record<string, Cipher>> = {
  [`${AES}.2`]: cbc(128),
  [`${AES}.22`]: cbc(192),
  [`${AES}.42`]: cbc(256),
  [`${AES}.6`]: gcm(128),
  [`${AES}.26`]: gcm(192),
  [`${AES}.46`]: gcm(256),
  [KEY_WRAP_PAD]: { name: 'AES-256-KWP', node: 'id-aes256-wrap-pad', keyLength: 32, form: 'wrap' },
  '1.2.840.113549.3.7': {
    name: '3DES-CBC',
    node: 'des-ede3-cbc',
    keyLength: 24,
    form: 'cbc',
    warning: 'the sender used 3DES, which is obsolete (RFC 8551 §2.7): ask for AES',
  },
  '1.2.840.113549.3.2': {
    name: 'RC2-CBC',
    node: 'rc2-cbc',
    keyLength: 16,
    form: 'rc2',
    warning: 'the sender used RC2, which is obsolete: ask for AES',
  },
};

/** RFC 5649 §3: the alternative initial value. */
const WRAP_IV = Buffer.from('a65959a6', 'hex');

export function cipherOf(enveloped: Enveloped): Cipher {
  const cipher = CIPHERS[enveloped.algorithm.oid];
  const known = cipher && (cipher.form === 'gcm') === (enveloped.authenticated !== undefined);
  if (!known)
    throw new Fault(
      'malformed',
      'algorithm-unsupported',
      `the content is encrypted by ${enveloped.algorithm.oid}, which is not supported here`,
    );
  return cipher;
}

/**
 * The content, whole or not at all: undefined when key, padding or tag do not fit. Nothing is given out before the last byte was checked (EFAIL).
 */
export function openContent(enveloped: Enveloped, key: Buffer): Buffer | undefined {
  const cipher = cipherOf(enveloped);
  if (key.length !== cipher.keyLength) return undefined;
  if (cipher.form === 'rc2') return openRc2Content(enveloped, key);
  try {
    const decipher = startDecipher(cipher, enveloped, key);
    return Buffer.concat([decipher.update(enveloped.encrypted), decipher.final()]);
  } catch {
    return undefined;
  }
}

/** RFC 3370 §5.2: the effective length of the key is told by an odd number. */
const RC2_BITS: Readonly<Record<number, number>> = { 160: 40, 120: 64, 58: 128 };

function openRc2Content(enveloped: Enveloped, key: Buffer): Buffer | undefined {
  const fields = Fields.of(enveloped.algorithm.parameters, TAG.sequence);
  const told = fields.take(TAG.integer).content;
  const bits = RC2_BITS[told.readUIntBE(0, Math.min(2, told.length))];
  if (bits === undefined)
    throw new Fault('malformed', 'algorithm-unsupported', 'the content is encrypted by RC2 with an unusual length of key');
  return openRc2(key, bits, octetsOf(fields.take(TAG.octetString)), enveloped.encrypted);
}

function startDecipher(cipher: Cipher, enveloped: Enveloped, key: Buffer) {
  const { parameters } = enveloped.algorithm;
  if (cipher.form === 'wrap') return createDecipheriv(cipher.node, key, WRAP_IV);
  if (cipher.form === 'cbc') return createDecipheriv(cipher.node, key, octetsOf(expectTag(parameters, TAG.octetString)));
  // RFC 5084 §3.2: GCMParameters { nonce, ICVlen DEFAULT 12 }.
  const fields = Fields.of(parameters, TAG.sequence);
  const nonce = octetsOf(fields.take(TAG.octetString));
  const length = fields.optional(TAG.integer);
  const { mac, aad } = enveloped.authenticated ?? { mac: Buffer.alloc(0), aad: Buffer.alloc(0) };
  if (mac.length < 12 || mac.length !== (length ? numberOf(length) : 12))
    throw new Fault('malformed', 'cms-malformed', 'a tag of the wrong length');
  const decipher = createDecipheriv(cipher.node as 'aes-256-gcm', key, nonce, { authTagLength: mac.length });
  decipher.setAuthTag(mac);
  if (aad.length > 0) decipher.setAAD(aad);
  return decipher;
}

function expectTag<T extends { tag: number }>(element: T | undefined, tag: number): T {
  if (element?.tag !== tag) throw new Fault('malformed', 'cms-malformed', 'the parameters of the content cipher are missing');
  return element;
}
