import { statSync } from 'node:fs';
import pkcs11, { type Handle, type PKCS11, type Mechanism as RawMechanism } from 'pkcs11js';
import { HsmError, type HsmErrorCode } from '../hsm.js';

export type { Handle };

/** A mechanism by the number that the profile gives, with what it needs beside. */
export interface Mechanism {
  number: number;
  oaep?: { hash: number; mgf: number };
  gcm?: { nonce: Buffer; context: Buffer };
}

/** What a key is: PKCS#11's object class and key type. */
export const KEY = {
  aes: { class: pkcs11.CKO_SECRET_KEY, keyType: pkcs11.CKK_AES },
  genericSecret: { class: pkcs11.CKO_SECRET_KEY, keyType: pkcs11.CKK_GENERIC_SECRET },
  rsaPrivate: { class: pkcs11.CKO_PRIVATE_KEY, keyType: pkcs11.CKK_RSA },
  rsaPublic: { class: pkcs11.CKO_PUBLIC_KEY, keyType: pkcs11.CKK_RSA },
  ecPrivate: { class: pkcs11.CKO_PRIVATE_KEY, keyType: pkcs11.CKK_EC },
  ecPublic: { class: pkcs11.CKO_PUBLIC_KEY, keyType: pkcs11.CKK_EC },
  // CKK_EC_EDWARDS of PKCS#11 3.0, which pkcs11js has no name for.
  edwardsPrivate: { class: pkcs11.CKO_PRIVATE_KEY, keyType: 0x40 },
  edwardsPublic: { class: pkcs11.CKO_PUBLIC_KEY, keyType: 0x40 },
} as const;

const ATTRIBUTE = {
  class: pkcs11.CKA_CLASS,
  keyType: pkcs11.CKA_KEY_TYPE,
  label: pkcs11.CKA_LABEL,
  id: pkcs11.CKA_ID,
  token: pkcs11.CKA_TOKEN,
  private: pkcs11.CKA_PRIVATE,
  sensitive: pkcs11.CKA_SENSITIVE,
  extractable: pkcs11.CKA_EXTRACTABLE,
  alwaysSensitive: pkcs11.CKA_ALWAYS_SENSITIVE,
  neverExtractable: pkcs11.CKA_NEVER_EXTRACTABLE,
  modifiable: pkcs11.CKA_MODIFIABLE,
  copyable: 0x171, // CKA_COPYABLE of PKCS#11 2.40
  wrap: pkcs11.CKA_WRAP,
  unwrap: pkcs11.CKA_UNWRAP,
  encrypt: pkcs11.CKA_ENCRYPT,
  decrypt: pkcs11.CKA_DECRYPT,
  sign: pkcs11.CKA_SIGN,
  verify: pkcs11.CKA_VERIFY,
  derive: pkcs11.CKA_DERIVE,
  value: pkcs11.CKA_VALUE,
  valueLength: pkcs11.CKA_VALUE_LEN,
  modulus: pkcs11.CKA_MODULUS,
  modulusBits: pkcs11.CKA_MODULUS_BITS,
  publicExponent: pkcs11.CKA_PUBLIC_EXPONENT,
  privateExponent: pkcs11.CKA_PRIVATE_EXPONENT,
  ecParameters: pkcs11.CKA_EC_PARAMS,
  ecPoint: pkcs11.CKA_EC_POINT,
} as const;
export type AttributeName = keyof typeof ATTRIBUTE;
export type Template = Partial<Record<AttributeName, boolean | number | string | Buffer>>;

/** A wrapped RSA-4096 key has 2,384 bytes; nothing that a token hands out here is longer, but for what `encrypt` is given. */
const OUTPUT = 4096;

/** A refusal by the token, in PKCS#11's own word. Whatever has no better name is `token-down`: recovery opens everything anew. */
export class TokenRefusal extends HsmError {
  constructor(
    readonly ckr: string,
    call: string,
  ) {
    super(hsmCode(ckr), `the token answered ${ckr} to ${call}`);
  }
}

function hsmCode(ckr: string): HsmErrorCode {
  if (ckr.startsWith('CKR_PIN_')) return 'pin-refused';
  if (ckr.startsWith('CKR_MECHANISM_')) return 'mechanism-missing';
  return 'token-down';
}

/** pkcs11js says `CKR_X:16` in message or stack, depending on the function, and CKR_VENDOR_DEFINED for codes younger than its headers. */
function ask<T>(call: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    // Not instanceof: what the native part throws may come from another realm than this file.
    const { message, stack } = error as Partial<Error>;
    const [, name, number] = /(CKR_\w+)(?::(\d+))?/.exec(`${message} ${stack}`) ?? [];
    if (name === undefined) throw error;
    throw new TokenRefusal(name === 'CKR_VENDOR_DEFINED' ? `CKR_0x${Number(number).toString(16)}` : name, call);
  }
}

/** `modifiable` goes last: SoftHSM goes through a template in order, and once that is false refuses the rest (CKR_ATTRIBUTE_READ_ONLY on unwrap). */
const raw = (template: Template) =>
  // keyof: a Template holds no other names
  (Object.keys(template) as AttributeName[])
    .sort((a, b) => Number(a === 'modifiable') - Number(b === 'modifiable'))
    .flatMap((name) => {
      const value = template[name];
      return value === undefined ? [] : [{ type: ATTRIBUTE[name], value }];
    });

function rawMechanism({ number, oaep, gcm }: Mechanism): RawMechanism {
  // source 1: CKZ_DATA_SPECIFIED, with an empty label (RFC 8017 §7.1.1).
  const noLabel = { source: 1, sourceData: Buffer.alloc(0) };
  if (oaep)
    return {
      mechanism: number,
      parameter: { type: pkcs11.CK_PARAMS_RSA_OAEP, hashAlg: oaep.hash, mgf: oaep.mgf, ...noLabel } as RawMechanism['parameter'] & object,
    };
  if (gcm)
    return {
      mechanism: number,
      parameter: {
        type: pkcs11.CK_PARAMS_AES_GCM_v240,
        iv: gcm.nonce,
        ivBits: gcm.nonce.length * 8,
        aad: gcm.context,
        tagBits: 128,
      } as RawMechanism['parameter'] & object,
    };
  return { mechanism: number };
}

/** node-api hands a null pointer for an empty Buffer, which modules refuse; an empty view of one byte is not null. */
const input = (bytes: Uint8Array): Buffer =>
  bytes.length > 0 ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) : Buffer.alloc(1).subarray(0, 0);

/** A PKCS#11 library in this process. The only file that speaks to pkcs11js. Initialisation and login belong to the process, not to one of these. */
export class Pkcs11Module {
  readonly #pkcs11: PKCS11 = new pkcs11.PKCS11();

  /** Loads and initialises. HsmError `module-missing` when there is no PKCS#11 library at `path`. */
  constructor(readonly path: string) {
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) throw new HsmError('module-missing', `there is no PKCS#11 module at ${path}`);
    try {
      this.#pkcs11.load(path);
    } catch {
      throw new HsmError('module-missing', `${path} is not a PKCS#11 module`);
    }
    this.initialise();
  }

  /** Also after `finalise`. Without CKF_OS_LOCKING_OK two threads in SoftHSM crash the process (facts/token.md §6). */
  initialise(): void {
    try {
      ask('C_Initialize', () => this.#pkcs11.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK }));
    } catch (error) {
      if (error instanceof TokenRefusal && error.ckr === 'CKR_CRYPTOKI_ALREADY_INITIALIZED') return;
      const why = error instanceof TokenRefusal ? error.ckr : 'it failed';
      throw new HsmError(
        'token-down',
        `the PKCS#11 module does not start (${why}): is the token's folder where its configuration file says?`,
      );
    }
  }

  /** Ends every session of this process, those of other threads too. */
  finalise(): void {
    try {
      ask('C_Finalize', () => this.#pkcs11.C_Finalize());
    } catch (error) {
      if (!(error instanceof TokenRefusal && error.ckr === 'CKR_CRYPTOKI_NOT_INITIALIZED')) throw error;
    }
  }

  /** What the token of this label says of itself; undefined when there is none. */
  tokenInfo(label: string): { manufacturer: string; model: string; pinCountLow: boolean; pinLocked: boolean } | undefined {
    const found = this.#tokens().find((token) => token.label === label);
    if (!found) return undefined;
    const has = (flag: number) => (found.flags & flag) !== 0;
    return {
      manufacturer: found.manufacturer,
      model: found.model,
      pinCountLow: has(pkcs11.CKF_USER_PIN_COUNT_LOW) || has(pkcs11.CKF_USER_PIN_FINAL_TRY),
      pinLocked: has(pkcs11.CKF_USER_PIN_LOCKED),
    };
  }

  /** Makes a token in the first slot that has none yet. */
  initialiseToken(label: string, soPin: string): void {
    const free = this.#tokens().find((token) => (token.flags & pkcs11.CKF_TOKEN_INITIALIZED) === 0);
    if (!free) throw new HsmError('token-missing', 'the module has no free slot for a new token');
    // CK_UTF8CHAR label[32], padded with blanks, no NUL (PKCS#11 §5.5).
    ask('C_InitToken', () => this.#pkcs11.C_InitToken(free.slot, soPin, label.padEnd(32)));
  }

  /** HsmError `token-missing` when no token, or more than one, has this label. */
  openSession(label: string): TokenSession {
    const tokens = this.#tokens().filter((token) => token.label === label);
    const [token] = tokens;
    if (!token) throw new HsmError('token-missing', `the module has no token labelled ${label}`);
    if (tokens.length > 1)
      throw new HsmError('token-missing', `${tokens.length} tokens are labelled ${label}; which one is meant cannot be told`);
    const flags = pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION;
    return new TokenSession(
      this.#pkcs11,
      ask('C_OpenSession', () => this.#pkcs11.C_OpenSession(token.slot, flags)),
    );
  }

  #tokens() {
    return ask('C_GetTokenInfo', () =>
      this.#pkcs11.C_GetSlotList(true).map((slot) => {
        const { label, flags, manufacturerID, model } = this.#pkcs11.C_GetTokenInfo(slot);
        return { slot, label: label.trimEnd(), flags, manufacturer: manufacturerID.trimEnd(), model: model.trimEnd() };
      }),
    );
  }
}

/** One PKCS#11 session in our words. Everything is synchronous: the *Async calls of pkcs11js leak (facts/token.md §6). */
export class TokenSession {
  readonly #pkcs11: PKCS11;
  readonly #session: Handle;

  constructor(library: PKCS11, session: Handle) {
    this.#pkcs11 = library;
    this.#session = session;
  }

  close(): void {
    ask('C_CloseSession', () => this.#pkcs11.C_CloseSession(this.#session));
  }

  /** Login is of the whole process: a second session finds itself logged in, and its PIN is then not looked at. */
  login(pin: string, as: 'user' | 'security officer' = 'user'): void {
    try {
      ask('C_Login', () => this.#pkcs11.C_Login(this.#session, as === 'user' ? pkcs11.CKU_USER : pkcs11.CKU_SO, pin));
    } catch (error) {
      if (!(error instanceof TokenRefusal && error.ckr === 'CKR_USER_ALREADY_LOGGED_IN')) throw error;
    }
  }

  logout(): void {
    ask('C_Logout', () => this.#pkcs11.C_Logout(this.#session));
  }

  initialisePin(pin: string): void {
    ask('C_InitPIN', () => this.#pkcs11.C_InitPIN(this.#session, pin));
  }

  /** Logged in as the user whose PIN it is. */
  changePin(from: string, to: string): void {
    ask('C_SetPIN', () => this.#pkcs11.C_SetPIN(this.#session, from, to));
  }

  generateKey(mechanism: Mechanism, template: Template): Handle {
    return ask('C_GenerateKey', () => this.#pkcs11.C_GenerateKey(this.#session, rawMechanism(mechanism), raw(template)));
  }

  generateKeyPair(mechanism: Mechanism, publicKey: Template, privateKey: Template): { publicKey: Handle; privateKey: Handle } {
    return ask('C_GenerateKeyPair', () =>
      this.#pkcs11.C_GenerateKeyPair(this.#session, rawMechanism(mechanism), raw(publicKey), raw(privateKey)),
    );
  }

  wrap(mechanism: Mechanism, under: Handle, key: Handle): Buffer {
    return ask('C_WrapKey', () => this.#pkcs11.C_WrapKey(this.#session, rawMechanism(mechanism), under, key, Buffer.alloc(OUTPUT)));
  }

  unwrap(mechanism: Mechanism, under: Handle, wrapped: Uint8Array, template: Template): Handle {
    return ask('C_UnwrapKey', () => this.#pkcs11.C_UnwrapKey(this.#session, rawMechanism(mechanism), under, input(wrapped), raw(template)));
  }

  create(template: Template): Handle {
    return ask('C_CreateObject', () => this.#pkcs11.C_CreateObject(this.#session, raw(template)));
  }

  copy(key: Handle, changes: Template): Handle {
    return ask('C_CopyObject', () => this.#pkcs11.C_CopyObject(this.#session, key, raw(changes)));
  }

  change(key: Handle, changes: Template): void {
    ask('C_SetAttributeValue', () => this.#pkcs11.C_SetAttributeValue(this.#session, key, raw(changes)));
  }

  destroy(key: Handle): void {
    ask('C_DestroyObject', () => this.#pkcs11.C_DestroyObject(this.#session, key));
  }

  find(template: Template): Handle[] {
    return ask('C_FindObjects', () => {
      this.#pkcs11.C_FindObjectsInit(this.#session, raw(template));
      try {
        return this.#pkcs11.C_FindObjects(this.#session, 1000);
      } finally {
        this.#pkcs11.C_FindObjectsFinal(this.#session);
      }
    });
  }

  read(key: Handle, attribute: AttributeName): Buffer {
    return ask('C_GetAttributeValue', () => {
      const [result] = this.#pkcs11.C_GetAttributeValue(this.#session, key, [{ type: ATTRIBUTE[attribute] }]);
      return result?.value ?? Buffer.alloc(0);
    });
  }

  sign(mechanism: Mechanism, key: Handle, data: Uint8Array): Buffer {
    return ask('C_Sign', () => {
      this.#pkcs11.C_SignInit(this.#session, rawMechanism(mechanism), key);
      return this.#pkcs11.C_Sign(this.#session, input(data), Buffer.alloc(OUTPUT));
    });
  }

  encrypt(mechanism: Mechanism, key: Handle, plaintext: Uint8Array): Buffer {
    return ask('C_Encrypt', () => {
      this.#pkcs11.C_EncryptInit(this.#session, rawMechanism(mechanism), key);
      return this.#pkcs11.C_Encrypt(this.#session, input(plaintext), Buffer.alloc(plaintext.length + OUTPUT));
    });
  }

  decrypt(mechanism: Mechanism, key: Handle, ciphertext: Uint8Array): Buffer {
    return ask('C_Decrypt', () => {
      this.#pkcs11.C_DecryptInit(this.#session, rawMechanism(mechanism), key);
      return this.#pkcs11.C_Decrypt(this.#session, input(ciphertext), Buffer.alloc(ciphertext.length + OUTPUT));
    });
  }
}
