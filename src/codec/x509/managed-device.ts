import { X509Certificate as NodeCertificate, verify } from 'node:crypto';
import { sameBytes } from '../../foundation/index.js';
import { SubjectAlternativeNameExtension, X509Certificate } from './library.js';
import { USAGE } from './oids.js';
import { type RevocationList, serialOf } from './revocation-list.js';

/** Critical extensions that are looked at here or say nothing against a device (RFC 5280 §4.2): key usage, names, basic constraints, policies, EKU. */
const UNDERSTOOD = new Set(['2.5.29.15', '2.5.29.17', '2.5.29.19', '2.5.29.32', '2.5.29.37']);

export type UnfitCertificate = 'foreign' | 'expired' | 'unfit' | 'revoked' | 'revocation-unknown';

/**
 * Judges a certificate that an organisation's device management (MDM) gave to a machine. It must be signed by one of `authorities` itself (CAs that the
 * operator named; no chain is built, so nothing below them can be slipped in), be in time with its CA, be no CA, and, where it names extended key
 * usages, be for client authentication. `address`, as `parseAddress` keys it: where the
 * certificate names mailboxes, it must be one of them.
 * @param lists undefined where the operator gave no CRL; otherwise its CA must have one that is in time, and not be on it
 */
export function judgeManagedDevice(
  der: Buffer,
  authorities: readonly Buffer[],
  address: string,
  now: Date,
  lists?: readonly RevocationList[],
): { spki: Buffer; holds: (statement: Uint8Array, signature: Uint8Array) => boolean } | UnfitCertificate {
  let leaf: NodeCertificate;
  let extensions: X509Certificate['extensions'];
  let mailboxes: string[];
  try {
    leaf = new NodeCertificate(der);
    const read = new X509Certificate(der);
    extensions = read.extensions;
    const names = read.getExtension(SubjectAlternativeNameExtension)?.names.toJSON() ?? [];
    // As addresses of people are compared: without case.
    mailboxes = names.filter(({ type }) => type === 'email').map(({ value }) => value.toLowerCase());
  } catch {
    return 'unfit';
  }
  if (!sameBytes(leaf.raw, der)) return 'unfit';
  const issuer = authorities
    .map((authority) => new NodeCertificate(authority))
    .find((authority) => authority.ca && leaf.checkIssued(authority) && leaf.verify(authority.publicKey));
  if (!issuer) return 'foreign';
  if ([leaf, issuer].some(({ validFromDate, validToDate }) => now < validFromDate || now >= validToDate)) return 'expired';
  if (lists) {
    const list = lists.find(
      ({ authority, thisUpdate, nextUpdate }) => sameBytes(authority, issuer.raw) && thisUpdate <= now && now < nextUpdate,
    );
    if (!list) return 'revocation-unknown';
    if (list.revoked.has(serialOf(leaf.serialNumber))) return 'revoked';
  }
  if (leaf.ca || extensions.some(({ critical, type }) => critical && !UNDERSTOOD.has(type))) return 'unfit';
  // Node calls the extended key usages so.
  if (leaf.keyUsage && !leaf.keyUsage.includes(USAGE.clientAuth)) return 'unfit';
  if (mailboxes.length > 0 && !mailboxes.includes(address)) return 'foreign';
  const key = leaf.publicKey;
  const fits =
    key.asymmetricKeyType === 'ec' || (key.asymmetricKeyType === 'rsa' && (key.asymmetricKeyDetails?.modulusLength ?? 0) >= 2048);
  if (!fits) return 'unfit';
  return {
    spki: key.export({ type: 'spki', format: 'der' }),
    holds: (statement, signature) => verify('sha256', statement, key, signature),
  };
}
