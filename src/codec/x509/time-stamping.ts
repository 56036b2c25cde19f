import { ExtendedKeyUsageExtension, X509Certificate } from './library.js';

const TIME_STAMPING = '1.3.6.1.5.5.7.3.8';

/** RFC 3161 §2.3: its extended key usage is time stamping alone, and critical. */
export function isTimeStampingCertificate(der: Uint8Array): boolean {
  const usage = new X509Certificate(Buffer.from(der)).getExtension(ExtendedKeyUsageExtension);
  return usage?.critical === true && usage.usages.length === 1 && usage.usages[0] === TIME_STAMPING;
}
