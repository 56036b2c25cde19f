import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import * as z from 'zod/mini';
import { base64url, canonicalJson, Fault, fromBase64 } from '../../../src/foundation/index.js';

/** Key file (32 random bytes), or scrypt (RFC 7914) over a pass phrase: 2^17 · 8 · 128 bytes are 128 MiB and about half a second for each guess. */
const derivation = z.discriminatedUnion('name', [
  z.strictObject({ name: z.literal('file') }),
  z.strictObject({ name: z.literal('scrypt'), n: z.literal(2 ** 17), r: z.literal(8), p: z.literal(1), salt: z.string() }),
]);
export type Derivation = z.infer<typeof derivation>;
const sealedFile = z.strictObject({ v: z.literal(1), kdf: derivation, nonce: z.string(), sealed: z.string() });

export const newDerivation = (name: 'file' | 'scrypt'): Derivation =>
  name === 'file' ? { name } : { name, n: 2 ** 17, r: 8, p: 1, salt: base64url(randomBytes(16)) };

export function deriveKey(kdf: Derivation & { name: 'scrypt' }, phrase: string): Promise<Buffer> {
  const salt = Buffer.from(kdf.salt, 'base64url');
  return new Promise((resolve, reject) => {
    // NFC, so that one phrase typed on two systems is one phrase.
    scrypt(phrase.normalize('NFC'), salt, 32, { N: kdf.n, r: kdf.r, p: kdf.p, maxmem: 2 ** 28 }, (error, key) =>
      error ? reject(error) : resolve(key),
    );
  });
}

/** AES-256-GCM; the header is authenticated with it, the nonce is fresh each time. */
export function seal(key: Buffer, kdf: Derivation, plain: Buffer): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(header(kdf));
  const sealed = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  return `${JSON.stringify({ v: 1, kdf, nonce: base64url(nonce), sealed: base64url(sealed) })}\n`;
}

const header = (kdf: Derivation): Buffer => Buffer.from(canonicalJson({ v: 1, kdf }));

export interface Sealed {
  kdf: Derivation;
  /** Undefined when the key is not the right one, or a byte was changed. */
  open(key: Buffer): Buffer | undefined;
}

export function readSealed(text: string, path: string): Sealed {
  const damaged = new Fault('malformed', 'store-damaged', `${path} is not a store of this version of mesign`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw damaged;
  }
  const file = sealedFile.safeParse(json);
  const nonce = file.success && fromBase64(file.data.nonce, 'base64url');
  const sealed = file.success && fromBase64(file.data.sealed, 'base64url');
  if (!file.success || !nonce || !sealed || nonce.length !== 12 || sealed.length < 16) throw damaged;
  const { kdf } = file.data;
  return {
    kdf,
    open(key) {
      try {
        const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 }).setAAD(header(kdf));
        decipher.setAuthTag(sealed.subarray(-16));
        return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
      } catch {
        return undefined;
      }
    },
  };
}
