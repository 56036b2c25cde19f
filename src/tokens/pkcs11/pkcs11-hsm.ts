import { createHash, randomBytes } from 'node:crypto';
import { sameBytes } from '../../foundation/index.js';
import {
  type Hsm,
  HsmError,
  type KeyKind,
  type OaepHash,
  type Rewrapped,
  type SigningAlgorithm,
  type SigningKeyName,
  type StoredPair,
  type TransportScheme,
  type WrappedPair,
} from '../hsm.js';
import { kwp } from '../key-wrap.js';
import { openOrInvent } from './content-key.js';
import { type Handle, KEY, type Mechanism, type Pkcs11Module, type Template, type TokenSession } from './module.js';
import type { TokenProfile } from './profile.js';
import { readRsaSpki, rsaRecipient } from './public-keys.js';
import {
  findSigningKey,
  findTokenKeys,
  LABEL,
  type Serving,
  signingMechanism,
  type TokenKeys,
  type TokenSigningKey,
} from './token-keys.js';

const NONCE = 12;
/** 65537. */
const PUBLIC_EXPONENT = Buffer.from('010001', 'hex');
/** A key that lives in this session only. The KEK's CKA_UNWRAP_TEMPLATE demands these three of whatever it unwraps. */
const PASSING = { token: false, private: true, sensitive: true } as const;

export interface Pkcs11Token {
  /** Label of the token. */
  label: string;
  profile: TokenProfile;
  /** The canary that the ceremony gave back: a private key wrapped under a KEK, which tells a token that is down from a damaged blob. */
  canary: Buffer;
  /** As the journal says it; without it, the newest keys serve. */
  serving?: Serving | undefined;
}

/** One session with a PKCS#11 token. Keys are found once, here at the start; a token that was away needs a new one of these after C_Initialize. */
export class Pkcs11Hsm implements Hsm {
  readonly #session: TokenSession;
  readonly #token: Pkcs11Token;
  readonly #keys: TokenKeys;
  #active: string | undefined;

  /** @param pin may be left out where another session of this process is logged in and stays open */
  constructor(module: Pkcs11Module, token: Pkcs11Token, pin?: string) {
    this.#token = token;
    this.#session = module.openSession(token.label);
    try {
      if (pin !== undefined) this.#session.login(pin);
      this.#keys = findTokenKeys(this.#session, token.serving);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get activeKek(): string {
    return this.#active ?? this.#keys.activeKek;
  }

  /**
   * With custodians, the KEK in service is the newest that they hold a copy of: one that a rotation cut off has made without it never serves.
   * @param labels of the keys in the custody package; undefined where there is none
   */
  serveUnder(labels: readonly string[] | undefined): void {
    this.#active = labels && [...this.#keys.keks.keys()].find((id) => labels.includes(LABEL.kek(id)));
  }

  renew(pair: StoredPair): WrappedPair {
    return this.#withPrivateKey(pair, { extractable: true }, (privateKey) => ({
      publicKey: pair.publicKey,
      wrapped: this.#session.wrap(this.#kwp, this.#kek(this.activeKek), privateKey),
      kek: this.activeKek,
    }));
  }

  /** Newest first. */
  get kekIds(): string[] {
    return [...this.#keys.keks.keys()];
  }

  /** The canary wrapped under the KEK in service. */
  renewedCanary(): Buffer {
    const template = { ...KEY.ecPrivate, ...PASSING, extractable: true };
    for (const kek of this.#keys.keks.values())
      try {
        const canary = this.#session.unwrap(this.#kwp, kek, this.#token.canary, template);
        return this.#thenDestroy(canary, () => this.#session.wrap(this.#kwp, this.#kek(this.activeKek), canary));
      } catch (error) {
        if (!(error instanceof HsmError)) throw error; // the next KEK may be its own
      }
    throw new HsmError('token-down', 'no KEK opens the canary');
  }

  generatePair(kind: KeyKind): WrappedPair {
    if (kind.suite !== 'rsa') throw new HsmError('mechanism-missing', `this token makes no ${kind.suite} pairs`);
    const { publicKey, privateKey } = this.#session.generateKeyPair(
      { number: this.#mechanisms.rsaKeyPairGen },
      { ...KEY.rsaPublic, token: false, private: false, modulusBits: kind.bits, publicExponent: PUBLIC_EXPONENT },
      { ...KEY.rsaPrivate, ...PASSING, extractable: true },
    );
    return this.#thenDestroy(publicKey, () =>
      this.#thenDestroy(privateKey, () => ({
        publicKey: readRsaSpki(this.#session, publicKey),
        wrapped: this.#session.wrap(this.#kwp, this.#kek(this.activeKek), privateKey),
        kek: this.activeKek,
      })),
    );
  }

  rewrap(pair: StoredPair, recipient: Buffer): Rewrapped {
    return this.#withPrivateKey(pair, { extractable: true }, (privateKey) => {
      const cek = this.#session.generateKey(
        { number: this.#mechanisms.aesKeyGen },
        { ...KEY.aes, ...PASSING, valueLength: 32, extractable: true, wrap: true },
      );
      return this.#thenDestroy(cek, () => ({ ...this.#wrapFor(recipient, cek), content: this.#session.wrap(this.#kwp, cek, privateKey) }));
    });
  }

  transport(pair: StoredPair, scheme: TransportScheme, encryptedKey: Buffer, length: 16 | 24 | 32, recipient: Buffer) {
    const mechanism = this.#transportMechanism(scheme);
    return this.#withPrivateKey(pair, { extractable: false, unwrap: true }, (privateKey) => {
      const key = openOrInvent(this.#session, this.#token.profile, { mechanism, privateKey, encryptedKey, length });
      return this.#thenDestroy(key, () => {
        // Bad padding and a token that went away answer alike here, and asking only after a failure would tell by the time it takes.
        this.checkCanary();
        return this.#wrapFor(recipient, key);
      });
    });
  }

  adopt(pkcs8: Buffer): WrappedPair {
    const value = randomBytes(32);
    try {
      const carrier = this.#session.create({ ...KEY.aes, ...PASSING, unwrap: true, value });
      return this.#thenDestroy(carrier, () => {
        const template = { ...KEY.rsaPrivate, ...PASSING, extractable: true };
        const privateKey = this.#session.unwrap(this.#kwp, carrier, kwp.wrap(value, pkcs8), template);
        return this.#thenDestroy(privateKey, () => ({
          publicKey: readRsaSpki(this.#session, privateKey),
          wrapped: this.#session.wrap(this.#kwp, this.#kek(this.activeKek), privateKey),
          kek: this.activeKek,
        }));
      });
    } finally {
      value.fill(0);
    }
  }

  receive(pair: StoredPair, { encryptedKey, content, oaepHash }: Rewrapped): WrappedPair {
    const oaep = this.#oaep(oaepHash);
    const open = (mechanism: Mechanism, by: Handle, sealed: Buffer, template: Template): Handle => {
      try {
        return this.#session.unwrap(mechanism, by, sealed, template);
      } catch (error) {
        throw this.#blame(error, 'blob-corrupt', 'the key that was sent does not open');
      }
    };
    return this.#withPrivateKey(pair, { extractable: false, unwrap: true }, (own) => {
      const cek = open(oaep, own, encryptedKey, { ...KEY.aes, ...PASSING, extractable: false, unwrap: true });
      return this.#thenDestroy(cek, () => {
        const privateKey = open(this.#kwp, cek, content, { ...KEY.rsaPrivate, ...PASSING, extractable: true });
        return this.#thenDestroy(privateKey, () => ({
          publicKey: readRsaSpki(this.#session, privateKey),
          wrapped: this.#session.wrap(this.#kwp, this.#kek(this.activeKek), privateKey),
          kek: this.activeKek,
        }));
      });
    });
  }

  mac(data: Uint8Array): Buffer {
    return this.#session.sign({ number: this.#mechanisms.hmacSha256 }, this.#keys.records, data);
  }

  seal(plaintext: Uint8Array, context: string): Buffer {
    const nonce = randomBytes(NONCE);
    return Buffer.concat([nonce, this.#session.encrypt(this.#gcm(nonce, context), this.#keys.seal, plaintext)]);
  }

  open(sealed: Uint8Array, context: string): Buffer {
    const nonce = Buffer.from(sealed.subarray(0, NONCE));
    try {
      return this.#session.decrypt(this.#gcm(nonce, context), this.#keys.seal, sealed.subarray(NONCE));
    } catch (error) {
      throw this.#blame(error, 'seal-broken', 'these sealed bytes are damaged or belong elsewhere');
    }
  }

  sign(name: SigningKeyName, data: Uint8Array, n?: number): Buffer {
    const { handle, algorithm } = this.#signingKey(name, n);
    const { mechanism, hostDigest } = signingMechanism(algorithm, this.#token.profile);
    return this.#session.sign(mechanism, handle, hostDigest ? createHash(hostDigest).update(data).digest() : data);
  }

  algorithm(name: SigningKeyName, n?: number): SigningAlgorithm {
    return this.#signingKey(name, n).algorithm;
  }

  publicKey(name: SigningKeyName, n?: number): Buffer {
    return this.#signingKey(name, n).publicKey;
  }

  /** After a KEK rotation the canary may still be the former one's: it passes if any KEK opens it. */
  checkCanary(): void {
    const template = { ...KEY.ecPrivate, ...PASSING, extractable: false };
    let refusal: unknown;
    for (const kek of this.#keys.keks.values()) {
      try {
        this.#session.destroy(this.#session.unwrap(this.#kwp, kek, this.#token.canary, template));
        return;
      } catch (error) {
        refusal = error;
      }
    }
    throw new HsmError('token-down', `the token does not open its canary: ${refusal instanceof Error ? refusal.message : 'no key'}`);
  }

  /** Never throws: a token that went away has closed the session already. */
  close(): void {
    try {
      this.#session.close();
    } catch {
      // The session is gone either way.
    }
  }

  get #mechanisms(): TokenProfile['mechanisms'] {
    return this.#token.profile.mechanisms;
  }

  get #kwp(): Mechanism {
    return { number: this.#mechanisms.kwp };
  }

  #gcm(nonce: Buffer, context: string): Mechanism {
    return { number: this.#mechanisms.aesGcm, gcm: { nonce, context: Buffer.from(context) } };
  }

  #oaep(hash: OaepHash): Mechanism {
    const oaep = this.#token.profile.oaep.hashes[hash];
    if (!oaep) throw new HsmError('mechanism-missing', `this token does no RSA-OAEP with ${hash}`);
    return { number: this.#mechanisms.rsaOaep, oaep };
  }

  #transportMechanism(scheme: TransportScheme): Mechanism {
    if (scheme === 'rsa-pkcs1') return { number: this.#mechanisms.rsaPkcs };
    return this.#oaep(scheme === 'rsa-oaep-sha1' ? 'sha1' : 'sha256');
  }

  #kek(id: string): Handle {
    const kek = this.#keys.keks.get(id);
    if (!kek) throw new HsmError('kek-missing', `the token holds no key-encryption key ${id}`);
    return kek;
  }

  /** Those that serve are at hand; another of a name is looked for, which is seldom wanted. */
  #signingKey(name: SigningKeyName, n?: number): TokenSigningKey {
    if (n !== undefined) return findSigningKey(this.#session, name, n);
    const key = this.#keys.signing.get(name);
    if (!key) throw new HsmError('token-missing', `the token holds no signing key ${name}`);
    return key;
  }

  #thenDestroy<T>(key: Handle, use: () => T): T {
    try {
      return use();
    } finally {
      this.#session.destroy(key);
    }
  }

  #withPrivateKey<T>(pair: StoredPair, template: Template, use: (privateKey: Handle) => T): T {
    const kek = this.#kek(pair.kek);
    let privateKey: Handle;
    try {
      privateKey = this.#session.unwrap(this.#kwp, kek, pair.wrapped, { ...KEY.rsaPrivate, ...PASSING, ...template });
    } catch (error) {
      throw this.#blame(error, 'blob-corrupt', 'the wrapped key does not unwrap');
    }
    return this.#thenDestroy(privateKey, () => {
      if (!sameBytes(readRsaSpki(this.#session, privateKey), pair.publicKey))
        throw new HsmError('blob-corrupt', 'the wrapped key is not the one that its public key names');
      return use(privateKey);
    });
  }

  #wrapFor(recipient: Buffer, key: Handle): { encryptedKey: Buffer; oaepHash: OaepHash } {
    const oaepHash = this.#token.profile.oaep.release;
    const publicKey = this.#session.create(rsaRecipient(recipient));
    return this.#thenDestroy(publicKey, () => ({ encryptedKey: this.#session.wrap(this.#oaep(oaepHash), publicKey, key), oaepHash }));
  }

  /** Tokens answer damaged input and their own absence with the same code (SoftHSM: CKR_GENERAL_ERROR); the canary knows which it was. */
  #blame(error: unknown, code: 'blob-corrupt' | 'seal-broken', message: string): unknown {
    if (!(error instanceof HsmError)) return error;
    try {
      this.checkCanary();
    } catch (down) {
      return down;
    }
    return new HsmError(code, message);
  }
}
