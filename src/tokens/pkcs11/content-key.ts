import { randomBytes } from 'node:crypto';
import { HsmError } from '../hsm.js';
import { type Handle, KEY, type Mechanism, type TokenSession } from './module.js';
import type { TokenProfile } from './profile.js';

const PASSING = { token: false, private: true, sensitive: true } as const;

/** A mail's encrypted content-encryption key, and what is to open it. */
export interface EncryptedContentKey {
  mechanism: Mechanism;
  privateKey: Handle;
  encryptedKey: Buffer;
  /** Bytes that whoever asks says the key has. */
  length: 16 | 24 | 32;
}

/**
 * A session key: what the encrypted key holds, or, where anything about it is wrong, a random key of the announced length made by the same
 * calls. Whoever asks cannot tell which (RFC 3218 §2.3.2, MMA in CMS): a bad padding and a wrong key differ only in the plaintext of the mail.
 */
export function openOrInvent(session: TokenSession, profile: TokenProfile, ask: EncryptedContentKey): Handle {
  const template = { ...KEY.aes, ...PASSING, extractable: true, encrypt: true };
  const invented = session.generateKey({ number: profile.mechanisms.aesKeyGen }, { ...template, valueLength: ask.length });
  const opened = unlessRefused(() => session.unwrap(ask.mechanism, ask.privateKey, ask.encryptedKey, template));
  const fits = hasLength(session, profile, opened ?? invented, ask.length, opened === undefined);
  if (opened === undefined) return invented;
  session.destroy(fits ? invented : opened);
  return fits ? opened : invented;
}

/**
 * Whether this AES key, which may not be read, has that many bytes. CKA_VALUE_LEN is 0 in SoftHSM after an unwrap, and any length passes as AES;
 * so: it encrypts only when it has 16, 24 or 32 bytes, and KWP, which adds 8 (RFC 5649 §4.1), tells these apart.
 * @param refused whether the token has refused something already: an exception takes 0.15 ms, which a caller can measure, so each path has exactly one
 */
function hasLength(session: TokenSession, { mechanisms }: TokenProfile, key: Handle, length: number, refused: boolean): boolean {
  const encrypts = (by: Handle): boolean => {
    const gcm = { nonce: randomBytes(12), context: Buffer.alloc(0) };
    return unlessRefused(() => session.encrypt({ number: mechanisms.aesGcm, gcm }, by, Buffer.alloc(1))) !== undefined;
  };
  const template = { ...KEY.aes, ...PASSING, valueLength: 32, wrap: true, encrypt: false };
  const yardstick = session.generateKey({ number: mechanisms.aesKeyGen }, template);
  try {
    const wrapped = unlessRefused(() => session.wrap({ number: mechanisms.kwp }, yardstick, key));
    const isAesKey = encrypts(key);
    if (isAesKey && !refused) encrypts(yardstick);
    return isAesKey && wrapped?.length === length + 8;
  } finally {
    session.destroy(yardstick);
  }
}

function unlessRefused<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    if (error instanceof HsmError) return undefined;
    throw error;
  }
}
