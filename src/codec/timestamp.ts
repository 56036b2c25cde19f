import { createHash, verify, X509Certificate } from 'node:crypto';
import { Fault, sameBytes } from '../foundation/index.js';
import {
  children,
  type Element,
  Fields,
  integer,
  nothing,
  numberOf,
  octetString,
  octetsOf,
  oid,
  oidOf,
  readWhole,
  sequence,
  TAG,
  timeOf,
  tlv,
} from './asn1/index.js';
import { algorithmOf, CONTENT, digestName, readContentInfo } from './cms/index.js';
import { isTimeStampingCertificate } from './x509/index.js';

/** Time-stamp protocol (RFC 3161, RFC 5816): a query, and the reply judged. One signer, SHA-2, RSA PKCS #1 v1.5 or ECDSA; all else is refused. Pure. */

const SHA256 = '2.16.840.1.101.3.4.2.1';
const TST_INFO = '1.2.840.113549.1.9.16.1.4';
const ATTRIBUTE = {
  contentType: '1.2.840.113549.1.9.3',
  messageDigest: '1.2.840.113549.1.9.4',
  signingCertificate: '1.2.840.113549.1.9.16.2.12',
  signingCertificateV2: '1.2.840.113549.1.9.16.2.47',
} as const;
/** Certificates between the signer and an authority that is believed. */
const LONGEST_CHAIN = 5;

export interface TimeStamp {
  time: Date;
  /** Subject of the signer's certificate, in one line. */
  by: string;
  /** As it was asked for; undefined where none was. */
  nonce: Buffer | undefined;
}

const wrong = (why: string) => new Fault('forbidden', 'timestamp-wrong', `the time stamp does not hold: ${why}`);

/** Certificates in a PEM file, DER. */
export const authoritiesIn = (pem: string): Buffer[] =>
  (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map((one) => new X509Certificate(one).raw);

/** DER of a TimeStampReq that wants the signer's certificates with it. @param imprint SHA-256 */
export function timeStampQuery(imprint: Uint8Array, nonce: Uint8Array): Buffer {
  const algorithm = sequence(oid(SHA256), nothing());
  return sequence(integer(1), sequence(algorithm, octetString(imprint)), tlv(TAG.integer, unsigned(nonce)), tlv(0x01, Buffer.of(0xff)));
}

/** The token out of a TimeStampResp. Throws `timestamp-refused` where the authority granted none. */
export function readTimeStampReply(reply: Buffer): Buffer {
  const fields = Fields.of(readWhole(reply), TAG.sequence);
  const status = numberOf(Fields.of(fields.take(TAG.sequence), TAG.sequence).take(TAG.integer));
  const token = fields.optional(TAG.sequence);
  if (status > 1 || !token) throw new Fault('unavailable', 'timestamp-refused', `the time-stamp authority refuses (status ${status})`, 60);
  return token.whole;
}

/**
 * Judges a token. Throws `timestamp-wrong`, or what the codecs throw for bytes that are none.
 * @param imprint SHA-256 of what was stamped
 * @param authorities certificates (DER) that are believed; the signer's chain ends in one of them
 */
export function verifyTimeStamp(token: Buffer, imprint: Uint8Array, authorities: readonly Uint8Array[]): TimeStamp {
  const info = readContentInfo(token);
  if (info.type !== CONTENT.signed) throw wrong('it is no signed message');
  const fields = Fields.of(info.content, TAG.sequence);
  fields.take(TAG.integer);
  fields.take(TAG.set);
  const encapsulated = Fields.of(fields.take(TAG.sequence), TAG.sequence);
  if (oidOf(encapsulated.take(TAG.oid)) !== TST_INFO) throw wrong('it holds no time');
  const content = octetsOf(new Fields(encapsulated.take(0xa0)).take(TAG.octetString, 0x24));
  const certificates = children(fields.optional(0xa0) ?? empty).flatMap(({ tag, whole }) =>
    tag === TAG.sequence ? [new X509Certificate(whole)] : [],
  );
  fields.optional(0xa1);
  const [signer, ...others] = children(fields.take(TAG.set));
  if (!signer || others.length > 0) throw wrong('it has not one signer');
  const certificate = signedBy(signer, content, certificates);
  const said = timeSaid(content, imprint);
  if (!isTimeStampingCertificate(certificate.raw)) throw wrong('its signer is not certified for time stamps');
  requireChain(certificate, certificates, authorities, said.time);
  return { ...said, by: certificate.subject.replaceAll('\n', ', ') };
}

/** TSTInfo (RFC 3161 §2.4.2). */
function timeSaid(content: Buffer, imprint: Uint8Array): Pick<TimeStamp, 'time' | 'nonce'> {
  const fields = Fields.of(readWhole(content), TAG.sequence);
  if (numberOf(fields.take(TAG.integer)) !== 1) throw wrong('its version is unknown');
  fields.take(TAG.oid);
  const stamped = Fields.of(fields.take(TAG.sequence), TAG.sequence);
  if (algorithmOf(stamped.take(TAG.sequence)).oid !== SHA256 || !sameBytes(octetsOf(stamped.take(TAG.octetString)), imprint))
    throw wrong('it stands for something else');
  fields.take(TAG.integer);
  const said = fields.take(0x18);
  // RFC 3161 §2.4.2 allows fractions of a second; whole ones are enough here.
  const whole = Buffer.from(said.content.toString('latin1').replace(/\.\d+Z$/, 'Z'), 'latin1');
  const time = timeOf({ ...said, content: whole });
  fields.optional(TAG.sequence);
  fields.optional(0x01);
  return { time, nonce: fields.optional(TAG.integer)?.content };
}

/** The certificate that the signed attributes name by its digest (RFC 5035, RFC 2634 §5.4), once its key is seen to have signed them. */
function signedBy(element: Element, content: Buffer, certificates: readonly X509Certificate[]): X509Certificate {
  const fields = Fields.of(element, TAG.sequence);
  fields.take(TAG.integer);
  fields.take(TAG.sequence, 0x80, 0xa0);
  const digest = strong(algorithmOf(fields.take(TAG.sequence)).oid);
  const attributes = fields.take(0xa0);
  fields.take(TAG.sequence);
  const value = octetsOf(fields.take(TAG.octetString));
  const one = new Map<string, Element>();
  for (const attribute of children(attributes)) {
    const parts = Fields.of(attribute, TAG.sequence);
    const type = oidOf(parts.take(TAG.oid));
    const [only, more] = children(parts.take(TAG.set));
    if (!only || more || one.has(type)) throw wrong('an attribute is there twice');
    one.set(type, only);
  }
  const type = one.get(ATTRIBUTE.contentType);
  const imprint = one.get(ATTRIBUTE.messageDigest);
  if (!type || oidOf(type) !== TST_INFO || !imprint) throw wrong('it does not say what was signed');
  if (!sameBytes(octetsOf(imprint), createHash(digest).update(content).digest())) throw wrong('it was changed');
  const certificate = certificates.find(named(one));
  if (!certificate) throw wrong('its signer’s certificate is not with it');
  // RFC 5652 §5.4: the signature covers the attributes under the tag of SET OF.
  if (!verify(digest, tlv(TAG.set, attributes.content), certificate.publicKey, value)) throw wrong('its signature does not fit');
  return certificate;
}

function named(attributes: ReadonlyMap<string, Element>): (certificate: X509Certificate) => boolean {
  const [second, first] = [attributes.get(ATTRIBUTE.signingCertificateV2), attributes.get(ATTRIBUTE.signingCertificate)];
  const id = Fields.of(
    Fields.of(Fields.of(second ?? first, TAG.sequence).take(TAG.sequence), TAG.sequence).take(TAG.sequence),
    TAG.sequence,
  );
  const algorithm = second ? id.optional(TAG.sequence) : undefined;
  const name = second ? (algorithm ? strong(algorithmOf(algorithm).oid) : 'sha256') : 'sha1';
  const digest = octetsOf(id.take(TAG.octetString));
  return ({ raw }) => sameBytes(createHash(name).update(raw).digest(), digest);
}

/** Every certificate in time when the stamp was made, each issued by the next, the last by one that is believed. */
function requireChain(signer: X509Certificate, between: readonly X509Certificate[], authorities: readonly Uint8Array[], at: Date): void {
  const believed = authorities.map((der) => new X509Certificate(der));
  let current = signer;
  for (let depth = 0; depth < LONGEST_CHAIN; depth += 1) {
    if (at < current.validFromDate || at > current.validToDate) throw wrong('a certificate of its chain was not valid then');
    const issues = (issuer: X509Certificate) => issuer.ca && current.checkIssued(issuer) && current.verify(issuer.publicKey);
    const anchor = believed.find(issues);
    if (anchor) {
      if (at < anchor.validFromDate || at > anchor.validToDate) throw wrong('a certificate of its chain was not valid then');
      return;
    }
    const next = between.find((one) => one !== current && issues(one));
    if (!next) break;
    current = next;
  }
  throw wrong('its signer’s certificate does not lead to an authority that is believed');
}

/** As node:crypto names it. Throws for SHA-1 and what is unknown. */
function strong(algorithm: string): string {
  const name = digestName(algorithm);
  if (name === 'sha1') throw wrong('it is by SHA-1');
  return name;
}

/** An INTEGER is signed: one above zero begins with a bit that is not set, and no octet is spare. */
export function unsigned(bytes: Uint8Array): Buffer {
  const at = bytes.findIndex((octet) => octet !== 0);
  const digits = Buffer.from(at < 0 ? [0] : bytes.subarray(at));
  return (digits[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.of(0), digits]) : digits;
}

const empty: Element = { tag: 0xa0, whole: Buffer.alloc(0), content: Buffer.alloc(0) };
