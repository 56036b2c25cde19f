import { KeyUsageFlags, KeyUsagesExtension, X509Certificate, X509Crl } from './library.js';

/** Who a CRL speaks for and what it says. */
export interface RevocationList {
  /** DER of the authority that signed it. */
  authority: Buffer;
  thisUpdate: Date;
  nextUpdate: Date;
  /** Serial numbers as `serialOf` writes them. */
  revoked: ReadonlySet<string>;
}

/** A serial number as a number: writers differ in case and in leading zeros. */
export const serialOf = (hex: string): string => BigInt(`0x${hex}`).toString(16);

/**
 * A complete CRL that one of `authorities` signed itself (RFC 5280 §5, §6.3.3); undefined for any other bytes. Delta, indirect and partitioned
 * lists say so in a critical extension and are not taken: read as complete ones they would call a revoked certificate good.
 * @param der
 */
export async function readRevocationList(der: Buffer, authorities: readonly Buffer[]): Promise<RevocationList | undefined> {
  try {
    const crl = new X509Crl(der);
    if (!crl.nextUpdate || crl.extensions.some(({ critical }) => critical)) return undefined;
    if (crl.entries.some(({ extensions }) => extensions.some(({ critical }) => critical))) return undefined;
    for (const authority of authorities) {
      const issuer = new X509Certificate(authority);
      if (issuer.subject !== crl.issuer || !mayList(issuer) || !(await crl.verify({ publicKey: issuer }))) continue;
      const revoked = new Set(crl.entries.map(({ serialNumber }) => serialOf(serialNumber)));
      return { authority, thisUpdate: crl.thisUpdate, nextUpdate: crl.nextUpdate, revoked };
    }
  } catch {
    // No CRL.
  }
  return undefined;
}

/** When a list that we made says it was made. @param der */
export const thisUpdateOf = (der: Buffer): Date => new X509Crl(der).thisUpdate;

/** An authority that names its key's usages must name this one (§4.2.1.3). */
function mayList(authority: X509Certificate): boolean {
  const usages = authority.getExtension(KeyUsagesExtension)?.usages;
  return usages === undefined || (usages & KeyUsageFlags.cRLSign) !== 0;
}
