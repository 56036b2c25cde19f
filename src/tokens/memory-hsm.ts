import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  sign,
} from 'node:crypto';
import { sameBytes } from '../foundation/index.js';
import {
  type Hsm,
  HsmError,
  type KeyKind,
  type OaepHash,
  type Rewrapped,
  SIGNING_KEYS,
  type SigningAlgorithm,
  type SigningKeyName,
  type StoredPair,
  type TransportScheme,
  type WrappedPair,
} from './hsm.js';
import { kwp } from './key-wrap.js';
import { LABEL, type Serving, signingLabel } from './pkcs11/token-keys.js';
import { type AuthorityKind, signingAlgorithms } from './signing-keys.js';

const NONCE = 12;
const TAG = 16;
const RELEASE_HASH: OaepHash = 'sha1';

interface MemorySigningKey {
  algorithm: SigningAlgorithm;
  key: KeyObject;
}

/** A token made of node:crypto, for tests: it keeps every promise of `Hsm` except that keys stay out of this process. */
export class MemoryHsm implements Hsm {
  readonly activeKek = '1';
  /** Set it, and the token is gone: every verb throws `token-down`. Clear it, and it is back. */
  down = false;
  readonly #keks = new Map([['1', randomBytes(32)]]);
  readonly #macKey = randomBytes(32);
  readonly #sealKey = randomBytes(32);
  readonly #signing = new Map<string, MemorySigningKey>();
  readonly #canary = kwp.wrap(this.#kek('1'), randomBytes(40));
  /** As somebody says it who knows; the first of each name without. */
  serving: () => Serving = () => ({});

  constructor(options: { authorities?: AuthorityKind } = {}) {
    const algorithms = signingAlgorithms(options.authorities ?? 'p384');
    for (const name of SIGNING_KEYS) this.makeKey({ name, n: 1, algorithm: algorithms[name] });
  }

  /** Makes a signing key beside those that are there, or in the place of the one of this number. */
  makeKey({ name, n, algorithm }: { name: SigningKeyName; n: number; algorithm: SigningAlgorithm }): undefined {
    this.#answer();
    this.#signing.set(LABEL.signing(name, n), { algorithm, key: makeSigningKey(algorithm) });
  }

  destroyKey(name: SigningKeyName, n: number): void {
    this.#answer();
    this.#signing.delete(LABEL.signing(name, n));
  }

  /** Which keys of this name it holds, oldest first. */
  numbersOf(name: SigningKeyName): number[] {
    const held = [...this.#signing.keys()].map(signingLabel);
    return held.flatMap((key) => (key?.name === name ? [key.n] : [])).sort((a, b) => a - b);
  }

  /** The same token with other keys in service; closing it ends nothing. */
  session(serving: Serving = this.serving()): Hsm {
    const of = (name: SigningKeyName, n?: number) => n ?? serving[name] ?? 1;
    return new Proxy<Hsm>(this, {
      get: (token, verb: keyof Hsm) => {
        if (verb === 'close') return () => undefined;
        if (verb === 'sign') return (name: SigningKeyName, data: Uint8Array, n?: number) => token.sign(name, data, of(name, n));
        if (verb === 'algorithm' || verb === 'publicKey') return (name: SigningKeyName, n?: number) => token[verb](name, of(name, n));
        const value: unknown = token[verb];
        return typeof value === 'function' ? value.bind(token) : value;
      },
    });
  }

  generatePair(kind: KeyKind): WrappedPair {
    this.#answer();
    if (kind.suite !== 'rsa') throw new HsmError('mechanism-missing', `this token makes no ${kind.suite} pairs`);
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: kind.bits, publicExponent: 65537 });
    const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' });
    try {
      const wrapped = kwp.wrap(this.#kek(this.activeKek), pkcs8);
      return { publicKey: publicKey.export({ format: 'der', type: 'spki' }), wrapped, kek: this.activeKek };
    } finally {
      pkcs8.fill(0);
    }
  }

  rewrap(pair: StoredPair, recipient: Buffer): Rewrapped {
    this.#answer();
    const cek = randomBytes(32);
    const pkcs8 = this.#unwrap(pair);
    try {
      return { encryptedKey: wrapKeyFor(recipient, cek), content: kwp.wrap(cek, pkcs8), oaepHash: RELEASE_HASH };
    } finally {
      pkcs8.fill(0);
      cek.fill(0);
    }
  }

  transport(pair: StoredPair, scheme: TransportScheme, encryptedKey: Buffer, length: 16 | 24 | 32, recipient: Buffer) {
    this.#answer();
    const pkcs8 = this.#unwrap(pair);
    try {
      const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
      const opened = openTransport(key, scheme, encryptedKey);
      return { encryptedKey: wrapKeyFor(recipient, opened?.length === length ? opened : randomBytes(length)), oaepHash: RELEASE_HASH };
    } finally {
      pkcs8.fill(0);
    }
  }

  renew(pair: StoredPair): WrappedPair {
    this.#answer();
    const pkcs8 = this.#unwrap(pair);
    try {
      return { publicKey: pair.publicKey, wrapped: kwp.wrap(this.#kek(this.activeKek), pkcs8), kek: this.activeKek };
    } finally {
      pkcs8.fill(0);
    }
  }

  adopt(pkcs8: Buffer): WrappedPair {
    this.#answer();
    const publicKey = createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
    const wrapped = kwp.wrap(this.#kek(this.activeKek), pkcs8);
    return { publicKey: publicKey.export({ format: 'der', type: 'spki' }), wrapped, kek: this.activeKek };
  }

  receive(pair: StoredPair, { encryptedKey, content, oaepHash }: Rewrapped): WrappedPair {
    this.#answer();
    const own = this.#unwrap(pair);
    let pkcs8: Buffer | undefined;
    try {
      const key = createPrivateKey({ key: own, format: 'der', type: 'pkcs8' });
      const cek = openTransport(key, `rsa-oaep-${oaepHash}`, encryptedKey);
      if (!cek) throw new Error('the content key does not open');
      pkcs8 = kwp.unwrap(cek, content);
      return this.adopt(pkcs8);
    } catch {
      throw new HsmError('blob-corrupt', 'the key that was sent does not open');
    } finally {
      own.fill(0);
      pkcs8?.fill(0);
    }
  }

  mac(data: Uint8Array): Buffer {
    this.#answer();
    return createHmac('sha256', this.#macKey).update(data).digest();
  }

  seal(plaintext: Uint8Array, context: string): Buffer {
    this.#answer();
    const nonce = randomBytes(NONCE);
    const cipher = createCipheriv('aes-256-gcm', this.#sealKey, nonce).setAAD(Buffer.from(context));
    return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }

  open(sealed: Uint8Array, context: string): Buffer {
    this.#answer();
    const bytes = Buffer.from(sealed);
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.#sealKey, bytes.subarray(0, NONCE), { authTagLength: TAG });
      decipher.setAAD(Buffer.from(context)).setAuthTag(bytes.subarray(-TAG));
      return Buffer.concat([decipher.update(bytes.subarray(NONCE, -TAG)), decipher.final()]);
    } catch {
      throw new HsmError('seal-broken', 'these sealed bytes are damaged or belong elsewhere');
    }
  }

  sign(name: SigningKeyName, data: Uint8Array, n?: number): Buffer {
    this.#answer();
    const { algorithm, key } = this.#signingKey(name, n);
    const digest = { 'ecdsa-p384-sha384': 'sha384', 'ecdsa-p256-sha256': 'sha256', ed25519: null, 'rsa-pkcs1-sha384': 'sha384' }[algorithm];
    return sign(digest, data, { key, dsaEncoding: 'ieee-p1363' });
  }

  algorithm(name: SigningKeyName, n?: number): SigningAlgorithm {
    return this.#signingKey(name, n).algorithm;
  }

  publicKey(name: SigningKeyName, n?: number): Buffer {
    return spki(this.#signingKey(name, n).key);
  }

  checkCanary(): void {
    this.#answer();
    kwp.unwrap(this.#kek(this.activeKek), this.#canary);
  }

  close(): void {
    this.down = true;
  }

  #answer(): void {
    if (this.down) throw new HsmError('token-down', 'the token does not answer');
  }

  #kek(id: string): Buffer {
    const kek = this.#keks.get(id);
    if (!kek) throw new HsmError('kek-missing', `the token holds no key-encryption key ${id}`);
    return kek;
  }

  #signingKey(name: SigningKeyName, n = this.serving()[name] ?? 1): MemorySigningKey {
    const label = LABEL.signing(name, n);
    const found = this.#signing.get(label);
    if (!found) throw new HsmError('token-missing', `the token holds no signing key ${label}`);
    return found;
  }

  #unwrap(pair: StoredPair): Buffer {
    const kek = this.#kek(pair.kek);
    let pkcs8: Buffer | undefined;
    let publicKey: Buffer;
    try {
      pkcs8 = kwp.unwrap(kek, pair.wrapped);
      publicKey = spki(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
    } catch {
      pkcs8?.fill(0);
      throw new HsmError('blob-corrupt', 'the wrapped key does not unwrap');
    }
    if (!sameBytes(publicKey, pair.publicKey)) {
      pkcs8.fill(0);
      throw new HsmError('blob-corrupt', 'the wrapped key is not the one that its public key names');
    }
    return pkcs8;
  }
}

function makeSigningKey(algorithm: SigningAlgorithm): KeyObject {
  if (algorithm === 'ed25519') return generateKeyPairSync('ed25519').privateKey;
  if (algorithm === 'rsa-pkcs1-sha384') return generateKeyPairSync('rsa', { modulusLength: 4096 }).privateKey;
  return generateKeyPairSync('ec', { namedCurve: algorithm === 'ecdsa-p384-sha384' ? 'P-384' : 'P-256' }).privateKey;
}

const spki = (privateKey: KeyObject): Buffer => createPublicKey(privateKey).export({ format: 'der', type: 'spki' });

function wrapKeyFor(recipient: Buffer, key: Uint8Array): Buffer {
  const publicKey = createPublicKey({ key: recipient, format: 'der', type: 'spki' });
  return publicEncrypt({ key: publicKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: RELEASE_HASH }, key);
}

/** Undefined where the padding does not fit; OpenSSL itself answers a bad PKCS#1 v1.5 padding with random bytes (implicit rejection). */
function openTransport(key: KeyObject, scheme: TransportScheme, encryptedKey: Buffer): Buffer | undefined {
  const how =
    scheme === 'rsa-pkcs1'
      ? { padding: constants.RSA_PKCS1_PADDING }
      : { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: scheme === 'rsa-oaep-sha1' ? 'sha1' : 'sha256' };
  try {
    return privateDecrypt({ key, ...how }, encryptedKey);
  } catch {
    return undefined;
  }
}
