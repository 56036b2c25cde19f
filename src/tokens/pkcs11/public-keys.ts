import { createPublicKey } from 'node:crypto';
import { base64url } from '../../foundation/index.js';
import { type Handle, KEY, type Template, type TokenSession } from './module.js';

/** DER of the namedCurve parameter (RFC 5480 §2.1.1, RFC 8410 §3), as CKA_EC_PARAMS has it. */
export const CURVES = {
  'P-256': Buffer.from('06082a8648ce3d030107', 'hex'),
  'P-384': Buffer.from('06052b81040022', 'hex'),
  Ed25519: Buffer.from('06032b6570', 'hex'),
} as const;
export type Curve = keyof typeof CURVES;

/** SubjectPublicKeyInfo of an RSA key object, public or private: both hold modulus and public exponent openly. */
export function readRsaSpki(session: TokenSession, key: Handle): Buffer {
  return spki({ kty: 'RSA', n: jwkNumber(session.read(key, 'modulus')), e: jwkNumber(session.read(key, 'publicExponent')) });
}

/** SubjectPublicKeyInfo of an elliptic-curve public key object. */
export function readCurveSpki(session: TokenSession, key: Handle, curve: Curve): Buffer {
  // CKA_EC_POINT is a DER OCTET STRING (PKCS#11 §2.3.3): two header bytes, for no point here has 128 bytes.
  const point = session.read(key, 'ecPoint').subarray(2);
  if (curve === 'Ed25519') return spki({ kty: 'OKP', crv: curve, x: base64url(point) });
  const half = (point.length - 1) / 2;
  return spki({ kty: 'EC', crv: curve, x: base64url(point.subarray(1, 1 + half)), y: base64url(point.subarray(1 + half)) });
}

/** A session object that wraps for the holder of this RSA key. */
export function rsaRecipient(recipient: Buffer): Template {
  const { kty, n, e } = createPublicKey({ key: recipient, format: 'der', type: 'spki' }).export({ format: 'jwk' });
  if (kty !== 'RSA' || !n || !e) throw new Error('a recipient is an RSA public key');
  const numbers = { modulus: Buffer.from(n, 'base64url'), publicExponent: Buffer.from(e, 'base64url') };
  return { ...KEY.rsaPublic, token: false, private: false, wrap: true, ...numbers };
}

/** JWK numbers have no leading zeros (RFC 7518 §2, Base64urlUInt); a token may pad its own. */
function jwkNumber(bytes: Buffer): string {
  const first = bytes.findIndex((byte) => byte !== 0);
  return base64url(bytes.subarray(Math.max(first, 0)));
}

const spki = (jwk: { kty: string; crv?: string; x?: string; y?: string; n?: string; e?: string }): Buffer =>
  createPublicKey({ key: jwk, format: 'jwk' }).export({ format: 'der', type: 'spki' });
