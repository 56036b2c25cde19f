import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import { bitString, context, integer, oid, sequence, setOf, utf8String } from '../../../src/codec/asn1/index.js';

const COMMON_NAME = '2.5.4.3';
const ECDSA_SHA256 = '1.2.840.10045.4.3.2';

/** PKCS#10 (RFC 2986 §4), DER, by an ECDSA P-256 key. The appliance takes the key from it and names the device itself. */
export function certificationRequest(key: KeyObject, name: string): Buffer {
  const subject = sequence(setOf(sequence(oid(COMMON_NAME), utf8String(name))));
  const info = sequence(integer(0), subject, createPublicKey(key).export({ type: 'spki', format: 'der' }), context(0));
  return sequence(info, sequence(oid(ECDSA_SHA256)), bitString(sign('sha256', info, key)));
}
