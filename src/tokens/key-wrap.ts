import { createCipheriv, createDecipheriv } from 'node:crypto';

/** RFC 5649 §3: the alternative initial value with which a key of any length is wrapped. */
const KWP_IV = Buffer.from('a65959a6', 'hex');

/** AES-KWP (RFC 5649) by node:crypto; the key's length chooses AES-128, -192 or -256. */
export const kwp = {
  wrap(key: Uint8Array, plain: Uint8Array): Buffer {
    const cipher = createCipheriv(`id-aes${key.length * 8}-wrap-pad`, key, KWP_IV);
    return Buffer.concat([cipher.update(plain), cipher.final()]);
  },
  /** Throws when the integrity check does not hold. */
  unwrap(key: Uint8Array, wrapped: Uint8Array): Buffer {
    // OpenSSL makes nothing of nothing, where RFC 5649 §4.2 has two blocks at least.
    if (wrapped.length < 16) throw new Error('a wrapped key has 16 bytes or more');
    const decipher = createDecipheriv(`id-aes${key.length * 8}-wrap-pad`, key, KWP_IV);
    return Buffer.concat([decipher.update(wrapped), decipher.final()]);
  },
};
