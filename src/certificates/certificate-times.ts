import { X509Certificate } from 'node:crypto';

/** Validity of a certificate we made, in milliseconds since 1970. */
export function certificateTimes(der: Buffer): { notBefore: number; notAfter: number } {
  const { validFromDate, validToDate } = new X509Certificate(der);
  return { notBefore: validFromDate.getTime(), notAfter: validToDate.getTime() };
}

/** As everywhere here: hexadecimal, lower case. */
export const serialOf = (der: Uint8Array): string => new X509Certificate(der).serialNumber.toLowerCase();

/** RFC 7468 §5 */
export function pem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
