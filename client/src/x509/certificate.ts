import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { bitsOf, children, type Element, Fields, octetsOf, oidOf, readWhole, TAG } from '../../../src/codec/asn1/index.js';
import { Fault } from '../../../src/foundation/index.js';

export interface Extension {
  critical: boolean;
  value: Buffer;
}

/** A certificate (RFC 5280 §4.1): Node checks its signature, the fields that CMS and path validation compare stand here as they were encoded. */
export interface Certificate {
  der: Buffer;
  pem: string;
  x509: X509Certificate;
  publicKey: KeyObject;
  /** SubjectPublicKeyInfo, DER. */
  spki: Buffer;
  /** Name, DER: compared byte for byte. */
  issuer: Buffer;
  subject: Buffer;
  /** Content octets of the serial number. */
  serial: Buffer;
  keyIdentifier: Buffer;
  /** By dotted OID. */
  extensions: ReadonlyMap<string, Extension>;
  /** rfc822Names of subjectAltName, as written. */
  addresses: string[];
  usages: string[] | undefined;
  policies: string[];
  isAuthority: boolean;
  notBefore: Date;
  notAfter: Date;
}

export const EXTENSION = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  policies: '2.5.29.32',
  extendedKeyUsage: '2.5.29.37',
} as const;

const malformed = () =>
  new Fault('malformed', 'certificate-malformed', 'this is not a readable X.509 version 3 certificate (RFC 5280 §4.1)');

export function readCertificate(input: Uint8Array | string): Certificate {
  let x509: X509Certificate;
  let publicKey: KeyObject;
  try {
    x509 = new X509Certificate(input);
    // Fails for keys of kinds that OpenSSL does not know.
    publicKey = x509.publicKey;
  } catch {
    throw malformed();
  }
  const der = x509.raw;
  const tbs = new Fields(Fields.of(readWhole(der), TAG.sequence).take(TAG.sequence));
  tbs.optional(0xa0);
  const serial = tbs.take(TAG.integer).content;
  tbs.take(TAG.sequence);
  const issuer = tbs.take(TAG.sequence).whole;
  tbs.take(TAG.sequence);
  const subject = tbs.take(TAG.sequence).whole;
  const spki = tbs.take(TAG.sequence).whole;
  const extensions = readExtensions(tbs.rest().find((field) => field.tag === 0xa3));
  const value = (type: string): Element | undefined => {
    const extension = extensions.get(type);
    return extension && readWhole(extension.value);
  };
  const names = value(EXTENSION.subjectAltName);
  const usages = value(EXTENSION.extendedKeyUsage);
  const policies = value(EXTENSION.policies);
  const keyIdentifier = value(EXTENSION.subjectKeyIdentifier);
  return {
    der,
    pem: x509.toString(),
    x509,
    publicKey,
    spki,
    issuer,
    subject,
    serial,
    keyIdentifier: keyIdentifier ? octetsOf(keyIdentifier) : subjectKeyIdentifier(spki),
    extensions,
    addresses: names ? children(names).flatMap((name) => (name.tag === 0x81 ? [name.content.toString('latin1')] : [])) : [],
    usages: usages && children(usages).map(oidOf),
    policies: policies ? children(policies).map((policy) => oidOf(Fields.of(policy, TAG.sequence).take(TAG.oid))) : [],
    isAuthority: x509.ca,
    notBefore: new Date(x509.validFrom),
    notAfter: new Date(x509.validTo),
  };
}

function readExtensions(field: Element | undefined): Map<string, Extension> {
  const found = new Map<string, Extension>();
  if (!field) return found;
  for (const entry of children(new Fields(field).take(TAG.sequence))) {
    const parts = Fields.of(entry, TAG.sequence);
    const type = oidOf(parts.take(TAG.oid));
    const critical = parts.optional(0x01)?.content[0] === 0xff;
    // RFC 5280 §4.2: no certificate holds two of one kind.
    if (found.has(type)) throw malformed();
    found.set(type, { critical, value: parts.take(TAG.octetString).content });
  }
  return found;
}

/** RFC 5280 §4.2.1.2, method 1: SHA-1 of the subjectPublicKey bits. */
export function subjectKeyIdentifier(spki: Buffer): Buffer {
  const fields = Fields.of(readWhole(spki), TAG.sequence);
  fields.take(TAG.sequence);
  return createHash('sha1')
    .update(bitsOf(fields.take(TAG.bitString)))
    .digest();
}

/** The certificates of a PEM text, in its order. Whatever stands between them is not looked at. */
export function readPem(text: string): Certificate[] {
  return (text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []).map((pem) => readCertificate(pem));
}
