import { Fault, sameBytes } from '../../foundation/index.js';
import { Pkcs10CertificateRequest } from './library.js';

/** Reads a PKCS#10 request (RFC 2986) and answers its SPKI (DER) once its own signature holds. Throws `csr-malformed`, `csr-signature-wrong`. */
export async function readCertificationRequest(der: Buffer): Promise<Buffer> {
  let request: Pkcs10CertificateRequest;
  try {
    request = new Pkcs10CertificateRequest(der);
  } catch {
    throw new Fault('malformed', 'csr-malformed', 'this is not a certification request (PKCS#10, DER)');
  }
  if (!sameBytes(Buffer.from(request.rawData), der))
    throw new Fault('malformed', 'csr-malformed', 'the certification request has trailing bytes or a second spelling');
  const holds = await request.verify().catch(() => false);
  if (!holds) throw new Fault('malformed', 'csr-signature-wrong', 'the certification request is not signed by its own key');
  return Buffer.from(request.publicKey.rawData);
}
