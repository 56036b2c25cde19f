import { createHash, createPublicKey, verify } from 'node:crypto';
import { Fault, sameBytes } from '../foundation/index.js';

/** What of a request is signed (docs/formats/enrolment.md): one fixed list of components, one algorithm, one label. RFC 9421, RFC 9530. */
export interface SignedRequest {
  method: string;
  path: string;
  headers: { contentDigest: string | undefined; signatureInput: string | undefined; signature: string | undefined };
  body: Buffer;
}

export interface SignatureParameters {
  keyid: string;
  nonce: string;
  /** Unix seconds. */
  created: number;
}

const INPUT =
  /^ekms=(\("@method" "@path" "content-digest"\);created=(\d{1,12});nonce="([A-Za-z0-9_-]{22,64})";keyid="([0-9a-f-]{36})";alg="ecdsa-p256-sha256")$/;
const VALUE = /^ekms=:([A-Za-z0-9+/]{86}==):$/;

/** Reads Signature-Input. Throws `app-signature-malformed`. */
export function signatureParameters(request: SignedRequest): SignatureParameters {
  const [, , created, nonce, keyid] = INPUT.exec(request.headers.signatureInput ?? '') ?? [];
  if (!created || !nonce || !keyid)
    throw new Fault('unauthenticated', 'app-signature-malformed', 'this request needs a signature by an app credential (RFC 9421)');
  return { keyid, nonce, created: Number(created) };
}

/** True when the body has the digest and the signature over method, path and digest is by this key (SPKI DER, P-256). */
export function signatureHolds(request: SignedRequest, publicKey: Buffer): boolean {
  const { contentDigest = '', signatureInput = '', signature = '' } = request.headers;
  const parameters = INPUT.exec(signatureInput)?.[1];
  const value = VALUE.exec(signature)?.[1];
  const digest = `sha-256=:${createHash('sha256').update(request.body).digest('base64')}:`;
  if (!parameters || !value || !sameBytes(Buffer.from(digest), Buffer.from(contentDigest))) return false;
  // RFC 9421 §2.5
  const base = [
    `"@method": ${request.method}`,
    `"@path": ${request.path}`,
    `"content-digest": ${contentDigest}`,
    `"@signature-params": ${parameters}`,
  ].join('\n');
  const key = createPublicKey({ key: publicKey, format: 'der', type: 'spki' });
  return verify('sha256', Buffer.from(base), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(value, 'base64'));
}
