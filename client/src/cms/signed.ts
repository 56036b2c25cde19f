import { constants, createHash, type KeyObject, verify } from 'node:crypto';
import { children, type Element, Fields, numberOf, octetsOf, oidOf, TAG, timeOf, tlv } from '../../../src/codec/asn1/index.js';
import {
  type AlgorithmIdentifier,
  algorithmOf,
  CONTENT,
  type ContentInfo,
  digestName,
  isNamedBy,
  readRecipientId,
} from '../../../src/codec/cms/index.js';
import { Fault, sameBytes } from '../../../src/foundation/index.js';
import { type Certificate, readCertificate } from '../x509/index.js';

export interface Signed {
  /** The content when it travels inside (opaque signing), undefined when detached. */
  content: Buffer | undefined;
  contentType: string;
  certificates: Certificate[];
  signers: Element[];
}

export interface Signature {
  /** Whether mathematics holds: digest and signature fit content and certificate. Whom the certificate belongs to is another question. */
  intact: boolean;
  signer: Certificate | undefined;
  signingTime: Date | undefined;
  digest: string | undefined;
}

const ATTRIBUTE = {
  contentType: '1.2.840.113549.1.9.3',
  messageDigest: '1.2.840.113549.1.9.4',
  signingTime: '1.2.840.113549.1.9.5',
} as const;
const RSA_PSS = '1.2.840.113549.1.1.10';
const SIGNATURE_DIGEST: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.5': 'sha1',
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
  '1.2.840.10045.4.1': 'sha1',
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
};

/** SignedData (RFC 5652 §5.1). Certificates that cannot be read are passed over: they may be of kinds that we have no use for. */
export function readSigned(info: ContentInfo): Signed {
  if (info.type !== CONTENT.signed) throw new Fault('malformed', 'cms-not-signed', 'this CMS content is not signed');
  const fields = Fields.of(info.content, TAG.sequence);
  fields.take(TAG.integer);
  fields.take(TAG.set);
  const encapsulated = Fields.of(fields.take(TAG.sequence), TAG.sequence);
  const contentType = oidOf(encapsulated.take(TAG.oid));
  const content = encapsulated.optional(0xa0);
  const certificates = fields.optional(0xa0);
  fields.optional(0xa1);
  return {
    content: content && octetsOf(new Fields(content).take(TAG.octetString, 0x24)),
    contentType,
    certificates: certificates ? children(certificates).flatMap(readable) : [],
    signers: children(fields.take(TAG.set)),
  };
}

function readable(element: Element): Certificate[] {
  try {
    return [readCertificate(element.whole)];
  } catch {
    return [];
  }
}

/** Every signature over `content`, checked (RFC 5652 §5.4, §5.6). */
export function checkSignatures(signed: Signed, content: Buffer): Signature[] {
  return signed.signers.map((signer) => {
    try {
      return checkSignature(signer, signed, content);
    } catch {
      // Algorithms that are unknown and structures that are broken are signatures that do not hold; the caller tells.
      return { intact: false, signer: undefined, signingTime: undefined, digest: undefined };
    }
  });
}

function checkSignature(element: Element, signed: Signed, content: Buffer): Signature {
  const fields = Fields.of(element, TAG.sequence);
  fields.take(TAG.integer);
  const id = readRecipientId(fields.take(TAG.sequence, 0x80, 0xa0));
  const digest = digestName(algorithmOf(fields.take(TAG.sequence)).oid);
  const attributes = fields.optional(0xa0);
  const algorithm = algorithmOf(fields.take(TAG.sequence));
  const value = octetsOf(fields.take(TAG.octetString, 0x24));
  const signer = signed.certificates.find((certificate) => isNamedBy(id, certificate));
  const signature = { intact: false, signer, signingTime: undefined, digest };
  if (!signer) return signature;
  if (!attributes) {
    // RFC 5652 §5.3: without signed attributes the content type must be data.
    return { ...signature, intact: signed.contentType === CONTENT.data && verifies(algorithm, digest, content, signer.publicKey, value) };
  }
  const one = readAttributes(attributes);
  const type = one.get(ATTRIBUTE.contentType);
  const imprint = one.get(ATTRIBUTE.messageDigest);
  const time = one.get(ATTRIBUTE.signingTime);
  // RFC 5652 §11.1, §11.2: both must be there once, and say what is true.
  const fits =
    type !== undefined &&
    oidOf(type) === signed.contentType &&
    imprint !== undefined &&
    sameBytes(octetsOf(imprint), createHash(digest).update(content).digest());
  // RFC 5652 §5.4: the signature covers the attributes under the tag of SET OF.
  const intact = fits && verifies(algorithm, digest, tlv(TAG.set, attributes.content), signer.publicKey, value);
  return { ...signature, intact, signingTime: time && timeOf(time) };
}

/** Attributes by type; the second of one kind, or one of several values, makes the whole unreadable. */
function readAttributes(attributes: Element): Map<string, Element> {
  const found = new Map<string, Element>();
  const singular: readonly string[] = Object.values(ATTRIBUTE);
  for (const attribute of children(attributes)) {
    const fields = Fields.of(attribute, TAG.sequence);
    const type = oidOf(fields.take(TAG.oid));
    const values = children(fields.take(TAG.set));
    if (!singular.includes(type)) continue;
    const [value] = values;
    if (!value || values.length !== 1 || found.has(type))
      throw new Fault('malformed', 'cms-malformed', 'a signed attribute is there twice');
    found.set(type, value);
  }
  return found;
}

function verifies(algorithm: AlgorithmIdentifier, digest: string, bytes: Buffer, key: KeyObject, value: Buffer): boolean {
  if (key.asymmetricKeyType === 'ed25519' || key.asymmetricKeyType === 'ed448') return verify(null, bytes, key, value);
  // RFC 5754 §3: an algorithm that names a digest signs with that one; bare rsaEncryption with the signer's digestAlgorithm.
  if (algorithm.oid !== RSA_PSS) return verify(SIGNATURE_DIGEST[algorithm.oid] ?? digest, bytes, key, value);
  const { hash, saltLength } = pssParameters(algorithm.parameters);
  return hash === digest && verify(hash, bytes, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }, value);
}

/** RFC 4055 §3.1. MGF1 runs with the same hash, as RFC 8702 and every mail program has it; another one fails to verify. */
function pssParameters(parameters: Element | undefined): { hash: string; saltLength: number } {
  const fields = Fields.of(parameters, TAG.sequence);
  const hash = fields.optional(0xa0);
  fields.optional(0xa1);
  const salt = fields.optional(0xa2);
  return {
    hash: hash ? digestName(algorithmOf(new Fields(hash).take()).oid) : 'sha1',
    saltLength: salt ? numberOf(new Fields(salt).take(TAG.integer)) : 20,
  };
}
