import { createHash } from 'node:crypto';
import { Fault } from '../../foundation/index.js';
import { at, context, octets, oid, sequence, setOf, tlv, unsigned } from './der.js';

/** What a detached signature is made of. `sign` takes the message (it hashes by itself) and gives ECDSA P-256's r ‖ s. */
export interface DetachedSignature {
  content: Uint8Array;
  /** DER; the signer's first, then what leads to its root. */
  certificates: readonly Uint8Array[];
  time: Date;
  algorithm: 'ecdsa-p256-sha256';
  sign: (signedAttributes: Buffer) => Promise<Uint8Array>;
}

const SIGNED_DATA = oid('1.2.840.113549.1.7.2');
const DATA = oid('1.2.840.113549.1.7.1');
const CONTENT_TYPE = oid('1.2.840.113549.1.9.3');
const MESSAGE_DIGEST = oid('1.2.840.113549.1.9.4');
const SIGNING_TIME = oid('1.2.840.113549.1.9.5');
const SIGNING_CERTIFICATE_V2 = oid('1.2.840.113549.1.9.16.2.47');
/** RFC 5754 §2 and §3.3: parameters absent for both. */
const SHA256 = sequence(oid('2.16.840.1.101.3.4.2.1'));
const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));
const VERSION_1 = unsigned(Buffer.of(1));

/** CMS SignedData (RFC 5652 §5), DER, with the content left out: what stands in `application/pkcs7-signature`. */
export async function signedDetached(ask: DetachedSignature): Promise<Buffer> {
  const [signer] = ask.certificates;
  if (!signer) throw new Fault('misconfigured', 'certificate-missing', 'a signature needs the certificate of its signer');
  const attributes = setOf(
    attribute(CONTENT_TYPE, DATA),
    attribute(MESSAGE_DIGEST, octets(sha256(ask.content))),
    attribute(SIGNING_TIME, signingTime(ask.time)),
    // RFC 5035 §4: one ESSCertIDv2; its hashAlgorithm defaults to SHA-256, and DER leaves a default out.
    attribute(SIGNING_CERTIFICATE_V2, sequence(sequence(sequence(octets(sha256(signer)))))),
  );
  // RFC 5652 §5.4: what is signed is the DER of the SET OF, not the [0] under which the attributes travel.
  const signature = ecdsaValue(await ask.sign(attributes));
  const signedAttributes = Buffer.from(attributes);
  signedAttributes[0] = 0xa0;
  const info = sequence(VERSION_1, issuerAndSerial(signer), SHA256, signedAttributes, ECDSA_SHA256, octets(signature));
  const certificates = context(0, ...ask.certificates.toSorted(Buffer.compare));
  return sequence(SIGNED_DATA, context(0, sequence(VERSION_1, setOf(SHA256), sequence(DATA), certificates, setOf(info))));
}

const attribute = (type: Buffer, value: Buffer): Buffer => sequence(type, setOf(value));
const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

/** RFC 5652 §11.3: UTCTime from 1950 through 2049, GeneralizedTime otherwise; both to the second, in Z. */
function signingTime(time: Date): Buffer {
  const digits = `${time.toISOString().slice(0, 19).replace(/[-T:]/g, '')}Z`;
  const year = time.getUTCFullYear();
  return year >= 1950 && year <= 2049 ? tlv(0x17, Buffer.from(digits.slice(2))) : tlv(0x18, Buffer.from(digits));
}

/** RFC 3279 §2.2.3: ECDSA-Sig-Value. */
export function ecdsaValue(signature: Uint8Array): Buffer {
  if (signature.length !== 64) throw new RangeError('an ECDSA P-256 signature is 64 bytes, r ‖ s');
  return sequence(unsigned(signature.subarray(0, 32)), unsigned(signature.subarray(32)));
}

/** IssuerAndSerialNumber (RFC 5652 §10.2.4), as the certificate itself spells both. */
export function issuerAndSerial(certificate: Uint8Array): Buffer {
  // RFC 5280 §4.1: TBSCertificate is [0] version (not there in version 1), serialNumber, signature, issuer.
  const first = at(certificate, 0, 0, 0)?.tag === 0xa0 ? 1 : 0;
  const [serial, issuer] = [at(certificate, 0, 0, first), at(certificate, 0, 0, first + 2)];
  if (!serial || !issuer || serial.tag !== 0x02) throw new Fault('malformed', 'certificate-malformed', 'this is not an X.509 certificate');
  return sequence(issuer.whole, serial.whole);
}
