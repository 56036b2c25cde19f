import { verify } from 'node:crypto';
import * as z from 'zod/mini';
import { canonicalJson, Fault, fromBase64, type Json } from '../../../src/foundation/index.js';
import { type Certificate, readCertificate } from './certificate.js';
import { POLICY } from './oids.js';
import { chainToRoot } from './path.js';

const forged = (why: string) => new Fault('forbidden', 'statement-forged', why);

/**
 * What an appliance's delivery key has signed (RFC 7515 §5.2, in the one form of docs/formats/delivery.md): the signature holds, its signer chains to the
 * root, the header says `typ`, and the payload is canonical JSON of `shape`. Throws `statement-forged`.
 */
export function openStatement<S extends z.ZodMiniType<Json>>(
  jws: string,
  { typ, shape, root, now }: { typ: string; shape: S; root: Certificate; now: Date },
): z.output<S> {
  const parts = jws.split('.');
  const [head, body, signature] = parts.map((part) => fromBase64(part, 'base64url'));
  if (parts.length !== 3 || !head || !body || !signature) throw forged('its signature is malformed');
  const header = z.strictObject({
    alg: z.literal('ES256'),
    typ: z.literal(typ),
    x5c: z.array(z.base64()).check(z.minLength(1), z.maxLength(5)),
  });
  const [signer, ...among] = shaped(header, head).x5c.map((der) => readCertificate(Buffer.from(der, 'base64')));
  if (!signer) throw forged('its signature names no signer');
  chainToRoot({ leaf: signer, among, root, policy: POLICY.deliverySigning, at: now });
  // RFC 7518 §3.4: ES256 is P-256, r ‖ s.
  const isP256 = signer.publicKey.asymmetricKeyDetails?.namedCurve === 'prime256v1';
  const input = Buffer.from(jws.slice(0, jws.lastIndexOf('.')));
  if (!isP256 || !verify('sha256', input, { key: signer.publicKey, dsaEncoding: 'ieee-p1363' }, signature))
    throw forged('its signature does not hold');
  const claim = shaped(shape, body);
  if (canonicalJson(claim as Json) !== body.toString('utf8')) throw forged('its signed statement is not in canonical form');
  return claim;
}

function shaped<S extends z.ZodMiniType>(shape: S, json: Buffer): z.output<S> {
  try {
    return shape.parse(JSON.parse(json.toString('utf8')));
  } catch {
    throw forged('its signature is not of the known form');
  }
}
