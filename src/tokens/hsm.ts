/**
 * What one session with a token can do, synchronously, inside the token process. Two things fill it and pass the same contract tests:
 * PKCS#11 (`pkcs11/`) and a memory token made of node:crypto (`memory-hsm.ts`). Deciding who may ask is the warden's, not this port's.
 */
export type Suite = 'rsa' | 'ec' | 'sm2';

/** What a pair is made as. `rsa` only for now; the others have their place. */
export interface KeyKind {
  suite: Suite;
  /** RSA modulus length in bits. */
  bits: number;
}

/** Label of a key-encryption key, in the token and in the custodians' package, and its id back from it. */
export const kekLabel = (kek: string): string => `ekms/kek/${kek}`;
export const kekIdOf = (label: string): string | undefined => /^ekms\/kek\/([1-9]\d*)$/.exec(label)?.[1];

/** Non-exportable signing keys that live in the token, by name. P-384 (or RSA-4096) for authorities, P-256 for the rest, Ed25519 for audit. */
export const SIGNING_KEYS = ['root', 'people', 'devices', 'infrastructure', 'delivery', 'mail', 'audit'] as const;
export type SigningKeyName = (typeof SIGNING_KEYS)[number];
export type SigningAlgorithm = 'ecdsa-p384-sha384' | 'ecdsa-p256-sha256' | 'ed25519' | 'rsa-pkcs1-sha384';

export interface WrappedPair {
  /** SubjectPublicKeyInfo, DER. */
  publicKey: Buffer;
  /** PKCS#8 PrivateKeyInfo wrapped by AES-KWP (RFC 5649) under the KEK. */
  wrapped: Buffer;
  /** Id of the KEK. */
  kek: string;
}

/** A stored pair on its way out; `publicKey` is compared with what was unwrapped before anything leaves. */
export interface StoredPair extends WrappedPair {
  kind: KeyKind;
}

export interface Rewrapped {
  /** RSA-OAEP of the fresh AES-256 content-encryption key under the recipient's key. */
  encryptedKey: Buffer;
  /** The PKCS#8 wrapped by AES-KWP under that content-encryption key. */
  content: Buffer;
  /** Hash of the OAEP used. */
  oaepHash: OaepHash;
}

export type OaepHash = 'sha1' | 'sha256';
export type TransportScheme = 'rsa-pkcs1' | 'rsa-oaep-sha1' | 'rsa-oaep-sha256';

export interface Hsm {
  /** Id of the KEK that new pairs are wrapped under. */
  readonly activeKek: string;
  generatePair(kind: KeyKind): WrappedPair;
  /**
   * Unwrap, wrap under a fresh CEK, wrap that for `recipient` (SPKI DER, RSA), destroy both handles whatever happens.
   * Throws HsmError: `blob-corrupt` when the blob does not unwrap though the canary does, or is another key than `publicKey`.
   */
  rewrap(pair: StoredPair, recipient: Buffer): Rewrapped;
  /**
   * Remote mode: the token opens a mail's encrypted key into a session key of `length` bytes and wraps that for `recipient`.
   * Bad padding, wrong length or wrong key give a fresh random key of that length by the same path: never an error.
   */
  transport(
    pair: StoredPair,
    scheme: TransportScheme,
    encryptedKey: Buffer,
    length: 16 | 24 | 32,
    recipient: Buffer,
  ): { encryptedKey: Buffer; oaepHash: OaepHash };
  /** The same key wrapped under the KEK in service. Throws as `rewrap` does. */
  renew(pair: StoredPair): WrappedPair;
  /** Takes an RSA key from outside (PKCS#8, DER) and wraps it under the KEK in service: the one way in for a key that was not born here. Its birth is not ours. */
  adopt(pkcs8: Buffer): WrappedPair;
  /**
   * Takes an RSA key that another token sealed to `pair` (as `rewrap` does), by handles only, and wraps it under the KEK in service. Throws HsmError
   * `blob-corrupt` where it does not open, `mechanism-missing` where this token cannot do that OAEP.
   */
  receive(pair: StoredPair, sealed: Rewrapped): WrappedPair;
  /** HMAC-SHA-256 under the token's record key. 32 bytes. */
  mac(data: Uint8Array): Buffer;
  /** AES-256-GCM under the token's sealing key: 12-byte nonce, ciphertext, 16-byte tag. For what must rest in the database unread. */
  seal(plaintext: Uint8Array, context: string): Buffer;
  /** Throws HsmError `seal-broken` when tag or context do not fit. */
  open(sealed: Uint8Array, context: string): Buffer;
  /**
   * ECDSA as r ‖ s (IEEE P1363), Ed25519 and RSA as they are. `data` is the message; hashing happens here. By the key in service, or by the n-th of its name; throws
   * HsmError `token-missing` where that is not there.
   */
  sign(key: SigningKeyName, data: Uint8Array, n?: number): Buffer;
  algorithm(key: SigningKeyName, n?: number): SigningAlgorithm;
  /** SubjectPublicKeyInfo, DER. */
  publicKey(key: SigningKeyName, n?: number): Buffer;
  /** Unwraps the canary blob. Throws HsmError `token-down` when the token does not answer as it should. */
  checkCanary(): void;
  close(): void;
}

/** `token-down`: try again after recovery. `blob-corrupt`, `seal-broken`: these bytes are damaged or not ours. `pin-refused`: never try again by yourself. */
export type HsmErrorCode =
  | 'token-down'
  | 'blob-corrupt'
  | 'seal-broken'
  | 'pin-refused'
  | 'token-missing'
  | 'module-missing'
  | 'kek-missing'
  | 'mechanism-missing';

export class HsmError extends Error {
  override readonly name = 'HsmError';
  constructor(
    readonly code: HsmErrorCode,
    message: string,
  ) {
    super(message);
  }
}
