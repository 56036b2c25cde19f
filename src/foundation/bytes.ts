import { createHash, timingSafeEqual } from 'node:crypto';

export function sha256(...parts: (Uint8Array | string)[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

export const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');

/** Strict: undefined unless the text is the one canonical spelling of its bytes. */
export function fromBase64(text: string, alphabet: 'base64' | 'base64url'): Buffer | undefined {
  const bytes = Buffer.from(text, alphabet);
  return bytes.toString(alphabet) === text ? bytes : undefined;
}
