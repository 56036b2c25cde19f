import { createHash } from 'node:crypto';
import {
  bitString,
  bitsOf,
  children,
  context,
  integer,
  nothing,
  octetString,
  oid,
  readWhole,
  sequence,
  setOf,
  tlv,
  utf8String,
} from '../asn1/index.js';
import type { Signer, SignerAlgorithm } from './signer.js';

/** Of the authority, as its own certificate and ours have them: encoded once. */
export interface LeafParent {
  /** Its Name, DER. */
  name: Buffer;
  /** The Extensions that all its leaves of this profile have, DER, one after the other: those before subjectAltName, and those after the subject's key identifier. */
  before: Buffer;
  after: Buffer;
}

export interface LeafContent {
  /** Hexadecimal, positive. */
  serial: string;
  /** SubjectPublicKeyInfo, DER. */
  publicKey: Buffer;
  notBefore: Date;
  notAfter: Date;
  /** Attribute types and values, one per RelativeDistinguishedName. */
  subject: readonly (readonly [type: 'CN' | 'OU', value: string])[];
  /** The one name in subjectAltName. */
  name: { email: string } | { uri: string };
}

const TYPES = { CN: oid('2.5.4.3'), OU: oid('2.5.4.11') };
const [SUBJECT_ALT_NAME, SUBJECT_KEY_IDENTIFIER] = [oid('2.5.29.17'), oid('2.5.29.14')];
const VERSION_3 = context(0, integer(2));

/** RFC 5758 §3.2: no parameters with ECDSA; RFC 4055 §5: NULL with RSA. */
const ALGORITHMS: Record<SignerAlgorithm, Buffer> = {
  'ecdsa-p256-sha256': sequence(oid('1.2.840.10045.4.3.2')),
  'ecdsa-p384-sha384': sequence(oid('1.2.840.10045.4.3.3')),
  'rsa-pkcs1-sha384': sequence(oid('1.2.840.113549.1.1.12'), nothing()),
};

/**
 * An end entity's certificate (RFC 5280 §4.1), written straight into DER: @peculiar/x509 takes three milliseconds for one, its signature not counted, and
 * enrolment needs two. Byte for byte what that library makes of the same content (test/codec/leaf-certificates.spec.ts).
 */
export async function writeLeaf(signer: Signer, parent: LeafParent, content: LeafContent): Promise<Buffer> {
  const algorithm = ALGORITHMS[signer.algorithm];
  const { subject, publicKey } = content;
  const name = 'email' in content.name ? tlv(0x81, ascii(content.name.email)) : tlv(0x86, ascii(content.name.uri));
  const body = sequence(
    VERSION_3,
    unsigned(Buffer.from(content.serial, 'hex')),
    algorithm,
    parent.name,
    sequence(time(content.notBefore), time(content.notAfter)),
    sequence(...subject.map(([type, value]) => setOf(sequence(TYPES[type], directoryString(value))))),
    publicKey,
    context(
      3,
      sequence(
        parent.before,
        sequence(SUBJECT_ALT_NAME, octetString(sequence(name))),
        sequence(SUBJECT_KEY_IDENTIFIER, octetString(octetString(keyIdentifier(publicKey)))),
        parent.after,
      ),
    ),
  );
  const signature = Buffer.from(await signer.sign(body));
  return sequence(body, algorithm, bitString(signer.algorithm.startsWith('ecdsa') ? ecdsaValue(signature) : signature));
}

/** RFC 5280 §4.2.1.2 (1): SHA-1 of the key's bits; it names, it protects nothing. */
function keyIdentifier(spki: Buffer): Buffer {
  const [, key] = children(readWhole(spki));
  if (!key) throw new Error('a public key has two parts');
  return createHash('sha1').update(bitsOf(key)).digest();
}

/** RFC 5480: r ‖ s as two INTEGERs. */
function ecdsaValue(signature: Buffer): Buffer {
  const half = signature.length / 2;
  return sequence(unsigned(signature.subarray(0, half)), unsigned(signature.subarray(half)));
}

/** INTEGER ≥ 0 in its shortest form (X.690 §8.3.2). */
function unsigned(bytes: Buffer): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const shortest = bytes.subarray(start);
  return tlv(0x02, (shortest[0] ?? 0) & 0x80 ? Buffer.of(0) : Buffer.alloc(0), shortest);
}

/** RFC 5280 §4.1.2.5: UTCTime through 2049. */
function time(at: Date): Buffer {
  const text = `${at.toISOString().replace(/[-:T]|\.\d+/g, '')}`;
  return at.getUTCFullYear() < 2050 ? tlv(0x17, Buffer.from(text.slice(2))) : tlv(0x18, Buffer.from(text));
}

/** PrintableString where it can be one (X.680 §41.4), else UTF8String. */
const directoryString = (text: string): Buffer =>
  /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text) ? tlv(0x13, Buffer.from(text)) : utf8String(text);

/** IA5String. */
function ascii(text: string): Buffer {
  if (!/^[\x20-\x7e]*$/.test(text)) throw new RangeError('a name in a certificate is ASCII');
  return Buffer.from(text, 'latin1');
}
