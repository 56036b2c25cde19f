import type { NoteKey, VerifySignature } from './note.js';

/** WebCrypto as Node and browsers have it alike. */
export const verifyByWebCrypto: VerifySignature = async (key, message, signature) => {
  const { algorithm, how } = HOW[key.type];
  const format = key.type === 'ecdsa-p256' ? 'spki' : 'raw';
  const raw = key.type === 'ecdsa-p256' ? fixedLength(signature) : signature;
  if (!raw) return false;
  try {
    const imported = await crypto.subtle.importKey(format, plain(key.publicKey), algorithm, false, ['verify']);
    return await crypto.subtle.verify(how, imported, plain(raw), plain(message));
  } catch {
    return false; // a key or signature that is none
  }
};

const HOW = {
  ed25519: { algorithm: { name: 'Ed25519' }, how: { name: 'Ed25519' } },
  cosignature: { algorithm: { name: 'Ed25519' }, how: { name: 'Ed25519' } },
  'ecdsa-p256': { algorithm: { name: 'ECDSA', namedCurve: 'P-256' }, how: { name: 'ECDSA', hash: 'SHA-256' } },
} as const satisfies Record<NoteKey['type'], object>;

/** WebCrypto's types ask for memory that no other thread shares. */
const plain = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(bytes);

/** ECDSA P-256 from DER (RFC 3279 §2.2.3) to r ‖ s, which WebCrypto takes. */
function fixedLength(der: Uint8Array): Uint8Array | undefined {
  const [sequence, length = 0] = der;
  if (sequence !== 0x30 || length !== der.length - 2) return undefined;
  const out = new Uint8Array(64);
  let at = 2;
  for (const end of [32, 64]) {
    const size = der[at + 1] ?? 0;
    const number = der.subarray(at + 2, at + 2 + size);
    if (der[at] !== 0x02 || number.length !== size || size === 0) return undefined;
    const digits = number[0] === 0 ? number.subarray(1) : number;
    if (digits.length > 32) return undefined;
    out.set(digits, end - digits.length);
    at += 2 + size;
  }
  return at === der.length ? out : undefined;
}
