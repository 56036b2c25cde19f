import { constants, createCipheriv, publicEncrypt, randomBytes, X509Certificate } from 'node:crypto';
import { Fault } from '../../foundation/index.js';
import { at, context, elements, octets, oid, sequence, setOf, tlv, unsigned } from './der.js';
import { issuerAndSerial } from './signed-detached.js';

/** `pkcs1` is what every reader opens; OAEP (SHA-256) is stronger and opened by few. */
export interface EnvelopeForm {
  transport: 'pkcs1' | 'oaep';
  cipher: 'aes-256-cbc' | 'aes-128-cbc';
}

export interface KeyTransportRecipient {
  /** DER */
  certificate: Buffer;
  publicKey: X509Certificate['publicKey'];
  notBefore: Date;
  notAfter: Date;
}

const NULL = tlv(0x05);
const SHA256 = sequence(oid('2.16.840.1.101.3.4.2.1'), NULL);
const TRANSPORTS = {
  pkcs1: sequence(oid('1.2.840.113549.1.1.1'), NULL),
  oaep: sequence(oid('1.2.840.113549.1.1.7'), sequence(context(0, SHA256), context(1, sequence(oid('1.2.840.113549.1.1.8'), SHA256)))),
} as const;
const CIPHERS = { 'aes-256-cbc': oid('2.16.840.1.101.3.4.1.42'), 'aes-128-cbc': oid('2.16.840.1.101.3.4.1.2') } as const;
const VERSION_0 = unsigned(Buffer.of(0));
const DATA = oid('1.2.840.113549.1.7.1');
const ENVELOPED_DATA = oid('1.2.840.113549.1.7.3');
/** Bits of an RSA key: shorter ones no longer hold, longer ones nobody has but who wants to keep us busy. */
const RSA_BITS = { least: 2048, most: 8192 } as const;

/** Throws `certificate-unfit` for what envelopes cannot be made for. */
export function keyTransportRecipient(certificate: Uint8Array): KeyTransportRecipient {
  let parsed: X509Certificate;
  let publicKey: X509Certificate['publicKey'];
  try {
    parsed = new X509Certificate(certificate);
    publicKey = parsed.publicKey;
  } catch {
    throw new Fault('malformed', 'certificate-unfit', 'this is no readable X.509 certificate');
  }
  if (publicKey.asymmetricKeyType !== 'rsa')
    throw new Fault(
      'malformed',
      'certificate-unfit',
      `the certificate holds a key of kind ${publicKey.asymmetricKeyType}, and documents are encrypted to RSA keys only`,
    );
  const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 0;
  if (bits < RSA_BITS.least || bits > RSA_BITS.most)
    throw new Fault(
      'malformed',
      'certificate-unfit',
      `the certificate holds an RSA key of ${bits} bits; from ${RSA_BITS.least} to ${RSA_BITS.most} are taken`,
    );
  if (!mayEncipherKeys(parsed.raw))
    throw new Fault('malformed', 'certificate-unfit', 'the certificate is not meant for encryption: its key usage lacks keyEncipherment');
  return { certificate: parsed.raw, publicKey, notBefore: new Date(parsed.validFrom), notAfter: new Date(parsed.validTo) };
}

const KEY_USAGE = oid('2.5.29.15');

/** RFC 5280 §4.2.1.3: a certificate without the extension may be used for anything. */
export function mayEncipherKeys(certificate: Uint8Array): boolean {
  const tbs = at(certificate, 0, 0);
  const extensions = (tbs && elements(tbs.content)?.find(({ tag }) => tag === 0xa3)?.content) ?? Buffer.alloc(0);
  const usage = elements(at(extensions, 0)?.content ?? Buffer.alloc(0))?.find((extension) =>
    at(extension.content, 0)?.whole.equals(KEY_USAGE),
  );
  if (!usage) return true;
  const bits = at(elements(usage.content)?.at(-1)?.content ?? Buffer.alloc(0), 0);
  return ((bits?.content[1] ?? 0) & 0x20) !== 0;
}

/** EnvelopedData (RFC 5652 §6.1), DER, for recipients named by issuer and serial number. The content key is made here and forgotten. */
export function envelopedData(content: Uint8Array, recipients: readonly KeyTransportRecipient[], form: EnvelopeForm): Buffer {
  const key = randomBytes(form.cipher === 'aes-256-cbc' ? 32 : 16);
  const iv = randomBytes(16);
  const cipher = createCipheriv(form.cipher, key, iv);
  const encrypted = Buffer.concat([cipher.update(content), cipher.final()]);
  const padding =
    form.transport === 'pkcs1'
      ? { padding: constants.RSA_PKCS1_PADDING }
      : { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
  const infos = recipients.map(({ certificate, publicKey }) =>
    sequence(
      VERSION_0,
      issuerAndSerial(certificate),
      TRANSPORTS[form.transport],
      octets(publicEncrypt({ key: publicKey, ...padding }, key)),
    ),
  );
  key.fill(0);
  const info = sequence(DATA, sequence(CIPHERS[form.cipher], octets(iv)), tlv(0x80, encrypted));
  return sequence(ENVELOPED_DATA, context(0, sequence(VERSION_0, setOf(...infos), info)));
}

/** For the holder of one certificate: RSA-OAEP, AES-256-CBC. It hides and does not authenticate: for content that carries a checksum of its own. */
export function envelopedFor(certificate: Uint8Array, plain: Uint8Array): Buffer {
  return envelopedData(plain, [keyTransportRecipient(certificate)], { transport: 'oaep', cipher: 'aes-256-cbc' });
}
