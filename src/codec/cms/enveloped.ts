import { X509Certificate } from 'node:crypto';
import { Fault } from '../../foundation/index.js';
import { children, type Element, Fields, octetsOf, oidOf, readWhole, TAG, tlv } from '../asn1/index.js';
import { type AlgorithmIdentifier, algorithmOf, type ContentInfo } from './content-info.js';
import { subjectKeyIdentifier } from './enveloped-key.js';
import { CONTENT } from './oids.js';
import { issuerAndSerial } from './signed-detached.js';

/** How a mail names the key that opens it (RFC 5652 §6.2.1). */
export type RecipientId = { issuer: Buffer; serial: Buffer } | { keyIdentifier: Buffer };

export interface Recipient {
  id: RecipientId;
  algorithm: AlgorithmIdentifier;
  encryptedKey: Buffer;
}

export interface Enveloped {
  recipients: Recipient[];
  /** Recipients of other kinds (key agreement, passwords, shared keys): told, not opened. */
  otherRecipients: number;
  contentType: string;
  algorithm: AlgorithmIdentifier;
  encrypted: Buffer;
  /** AuthEnvelopedData only (RFC 5083 §2.1): the tag, and the attributes that it covers too. */
  authenticated?: { mac: Buffer; aad: Buffer };
}

/** EnvelopedData (RFC 5652 §6.1) or AuthEnvelopedData (RFC 5083). */
export function readEnveloped(info: ContentInfo): Enveloped {
  if (info.type !== CONTENT.enveloped && info.type !== CONTENT.authEnveloped)
    throw new Fault('malformed', 'cms-not-enveloped', 'this CMS content is not encrypted');
  const fields = Fields.of(info.content, TAG.sequence);
  fields.take(TAG.integer);
  fields.optional(0xa0);
  const infos = children(fields.take(TAG.set));
  const transports = infos.filter((recipient) => recipient.tag === TAG.sequence);
  const content = Fields.of(fields.take(TAG.sequence), TAG.sequence);
  const contentType = oidOf(content.take(TAG.oid));
  const algorithm = algorithmOf(content.take(TAG.sequence));
  const encrypted = octetsOf(content.take(0x80, 0xa0));
  const enveloped: Enveloped = {
    recipients: transports.map(readRecipient),
    otherRecipients: infos.length - transports.length,
    contentType,
    algorithm,
    encrypted,
  };
  if (info.type === CONTENT.enveloped) return enveloped;
  const attributes = fields.optional(0xa1);
  // RFC 5083 §2.2: what is authenticated is the DER with the tag of SET OF, not with [1].
  return {
    ...enveloped,
    authenticated: { mac: octetsOf(fields.take(TAG.octetString)), aad: attributes ? tlv(TAG.set, attributes.content) : Buffer.alloc(0) },
  };
}

function readRecipient(element: Element): Recipient {
  const fields = new Fields(element);
  fields.take(TAG.integer);
  const id = fields.take(TAG.sequence, 0x80, 0xa0);
  return {
    id: readRecipientId(id),
    algorithm: algorithmOf(fields.take(TAG.sequence)),
    encryptedKey: octetsOf(fields.take(TAG.octetString, 0x24)),
  };
}

/** Also the sid of a SignerInfo (RFC 5652 §5.3), which has the same form. */
export function readRecipientId(id: Element): RecipientId {
  if (id.tag !== TAG.sequence) return { keyIdentifier: octetsOf(id) };
  const parts = new Fields(id);
  return { issuer: parts.take(TAG.sequence).whole, serial: parts.take(TAG.integer).content };
}

export function isNamedBy(id: RecipientId, certificate: { issuer: Buffer; serial: Buffer; keyIdentifier: Buffer }): boolean {
  if ('keyIdentifier' in id) return id.keyIdentifier.equals(certificate.keyIdentifier);
  return id.issuer.equals(certificate.issuer) && id.serial.equals(certificate.serial);
}

/** By what a recipient may be named who has this certificate, DER; its key identifier as RFC 5280 §4.2.1.2 (1) makes it. */
export function namesOf(certificate: Uint8Array): { issuer: Buffer; serial: Buffer; keyIdentifier: Buffer } {
  const parts = new Fields(readWhole(issuerAndSerial(certificate)));
  const spki = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });
  return {
    issuer: parts.take(TAG.sequence).whole,
    serial: parts.take(TAG.integer).content,
    keyIdentifier: subjectKeyIdentifier(spki),
  };
}
