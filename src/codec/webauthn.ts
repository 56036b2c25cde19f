import { createPublicKey, verify } from 'node:crypto';
import { z } from 'zod';
import { base64url, sameBytes, sha256 } from '../foundation/index.js';

/** What an authenticator signed (WebAuthn level 3 §6.3.3). */
export interface Assertion {
  clientData: Uint8Array;
  authenticatorData: Uint8Array;
  signature: Uint8Array;
}

/** What it must have been asked, and by which page. */
export interface Expected {
  /** SubjectPublicKeyInfo, DER. */
  publicKey: Uint8Array;
  rp: string;
  origin: string;
  challenge: Uint8Array;
}

const clientData = z.looseObject({
  type: z.literal('webauthn.get'),
  challenge: z.string(),
  origin: z.string(),
  crossOrigin: z.boolean().optional(),
});

/** User present, user verified (WebAuthn level 3 §6.1). */
const PRESENT_AND_VERIFIED = 0x05;
const FLAGS_AT = 32;
/** rpIdHash, flags, signCount: the shortest that there is. */
const SHORTEST = 37;

/**
 * Whether this is that passkey's signature over the challenge, made on that origin by a person whom the authenticator verified (WebAuthn level 3
 * §7.2, steps 11 to 20, without the counter). Nothing that comes in makes it throw.
 */
export function isAssertion(made: Assertion, { publicKey, rp, origin, challenge }: Expected): boolean {
  try {
    const told = clientData.parse(JSON.parse(Buffer.from(made.clientData).toString('utf8')));
    if (told.challenge !== base64url(challenge) || told.origin !== origin || told.crossOrigin === true) return false;
    const data = Buffer.from(made.authenticatorData);
    if (data.length < SHORTEST || !sameBytes(data.subarray(0, FLAGS_AT), sha256(Buffer.from(rp)))) return false;
    if (((data[FLAGS_AT] ?? 0) & PRESENT_AND_VERIFIED) !== PRESENT_AND_VERIFIED) return false;
    return isSignature(publicKey, Buffer.concat([data, sha256(made.clientData)]), made.signature);
  } catch {
    return false;
  }
}

/** Ed25519; ECDSA in DER or RSA PKCS#1 v1.5, with SHA-256. May throw on a signature of an odd form. */
export function isSignature(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  return verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', bytes, key, signature);
}
