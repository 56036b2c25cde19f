import { verify, X509Certificate } from 'node:crypto';
import { USAGE } from '../codec/x509/index.js';
import { Fault, fromBase64, type Json } from '../foundation/index.js';
import type { StatementKind } from '../tokens/index.js';

/**
 * A statement that an appliance signed (docs/formats/statement.md): its payload, when signature, type and chain up to this root hold. Throws
 * `statement-invalid`. Dates of the chain are not judged: a backup outlives certificates.
 */
export function verifyStatement(jws: string, kind: StatementKind, root: Buffer): Record<string, Json> {
  try {
    const [head = '', body = '', signature = ''] = jws.split('.');
    const header = JSON.parse(decode(head).toString()) as { alg?: string; typ?: string; x5c?: string[] };
    const [leaf, authority, ...more] = (header.x5c ?? []).map((text) => new X509Certificate(Buffer.from(text, 'base64')));
    const top = new X509Certificate(root);
    if (!leaf || !authority || more.length > 0 || header.alg !== 'ES256' || header.typ !== `ekms-${kind}+jws`) throw new Error('header');
    const chained =
      leaf.checkIssued(authority) &&
      leaf.verify(authority.publicKey) &&
      authority.checkIssued(top) &&
      authority.verify(top.publicKey) &&
      authority.ca;
    const holds = verify('sha256', Buffer.from(`${head}.${body}`), { key: leaf.publicKey, dsaEncoding: 'ieee-p1363' }, decode(signature));
    // The API process holds keys with certificates of the same authority (its TLS key); only the token's delivery key has this use.
    if (!chained || !holds || !leaf.keyUsage?.includes(USAGE.delivery)) throw new Error('signature');
    return JSON.parse(decode(body).toString()) as Record<string, Json>;
  } catch {
    throw new Fault('malformed', 'statement-invalid', `this ${kind} was not signed by this appliance, or was changed since`);
  }
}

function decode(text: string): Buffer {
  const bytes = fromBase64(text, 'base64url');
  if (!bytes) throw new Error('not base64url');
  return bytes;
}
