import { createHash } from 'node:crypto';
import { Fault } from '../../foundation/index.js';
import { at, context, octets, oid, sequence, setOf, tlv, unsigned } from './der.js';

/** A private key on its way to a device: `content` is the PKCS#8 under AES-KWP, `encryptedKey` the AES-256 key of that under RSA-OAEP. */
export interface EnvelopedKey {
  encryptedKey: Buffer;
  content: Buffer;
  oaepHash: 'sha1' | 'sha256';
}

const ENVELOPED_DATA = oid('1.2.840.113549.1.7.3');
const DATA = oid('1.2.840.113549.1.7.1');
const OAEP = oid('1.2.840.113549.1.1.7');
const MGF1 = oid('1.2.840.113549.1.1.8');
const SHA256 = sequence(oid('2.16.840.1.101.3.4.2.1'), tlv(0x05));
/** RFC 5649 §5: with id-aes256-wrap-pad the parameters field is absent. */
const AES256_WRAP_PAD = sequence(oid('2.16.840.1.101.3.4.1.48'));
const VERSION_2 = unsigned(Buffer.of(2));

/** RFC 8017 §A.2.1: every field of RSAES-OAEP-params defaults to SHA-1, so DER leaves them out; SHA-256 is named for both hash and MGF1. */
const OAEP_PARAMETERS = { sha1: sequence(), sha256: sequence(context(0, SHA256), context(1, sequence(MGF1, SHA256))) } as const;

/** CMS EnvelopedData as docs/formats/delivery.md has it, for the device that holds `deliveryKey` (SPKI DER). */
export function envelopedKey(key: EnvelopedKey & { deliveryKey: Uint8Array }): Buffer {
  return encode(key, subjectKeyIdentifier(key.deliveryKey));
}

/** Strict: takes the very bytes that `envelopedKey` makes and nothing else. */
export function parseEnvelopedKey(der: Uint8Array): EnvelopedKey & { keyIdentifier: Buffer } {
  const envelope = at(der, 0, 1, 0)?.content ?? Buffer.alloc(0);
  const keyIdentifier = at(envelope, 1, 0, 1)?.content;
  const encryptedKey = at(envelope, 1, 0, 3)?.content;
  const content = at(envelope, 2, 2)?.content;
  if (keyIdentifier && encryptedKey && content)
    for (const oaepHash of ['sha1', 'sha256'] as const)
      if (encode({ encryptedKey, content, oaepHash }, keyIdentifier).equals(der)) return { encryptedKey, content, oaepHash, keyIdentifier };
  throw new Fault('malformed', 'delivery-malformed', 'this is not a delivery as docs/formats/delivery.md describes it');
}

/** RFC 5280 §4.2.1.2, method 1: SHA-1 of the subjectPublicKey bits, without the octet that counts unused ones. */
export function subjectKeyIdentifier(spki: Uint8Array): Buffer {
  const bits = at(spki, 0, 1);
  if (bits?.tag !== 0x03) throw new Fault('malformed', 'public-key-malformed', 'this is not a SubjectPublicKeyInfo (RFC 5280 §4.1)');
  return createHash('sha1').update(bits.content.subarray(1)).digest();
}

function encode(key: EnvelopedKey, keyIdentifier: Uint8Array): Buffer {
  // RFC 5652 §6.2.1: version 2 goes with subjectKeyIdentifier [0] IMPLICIT; §6.1: EnvelopedData is then version 2 too.
  const recipient = sequence(VERSION_2, tlv(0x80, keyIdentifier), sequence(OAEP, OAEP_PARAMETERS[key.oaepHash]), octets(key.encryptedKey));
  const content = sequence(DATA, AES256_WRAP_PAD, tlv(0x80, key.content));
  return sequence(ENVELOPED_DATA, context(0, sequence(VERSION_2, setOf(recipient), content)));
}
