import { createHash, type KeyObject } from 'node:crypto';
import { bmpString, context, integer, octetString, oid, sequence, setOf, tlv } from '../asn1/index.js';
import type { Protection } from './protect.js';

const DATA = oid('1.2.840.113549.1.7.1');
const ENCRYPTED_DATA = oid('1.2.840.113549.1.7.6');
const SHROUDED_KEY_BAG = oid('1.2.840.113549.1.12.10.1.2');
const CERTIFICATE_BAG = oid('1.2.840.113549.1.12.10.1.3');
const X509_CERTIFICATE = oid('1.2.840.113549.1.9.22.1');
const FRIENDLY_NAME = oid('1.2.840.113549.1.9.20');
const LOCAL_KEY_ID = oid('1.2.840.113549.1.9.21');

/** DER. */
type Certificate = { readonly der: Buffer };

export interface Identity {
  name: string;
  privateKey: KeyObject;
  /** All certificates of the key, newest first: a mail may name any of them. */
  leaves: readonly Certificate[];
  /** Up to and with the root. */
  authorities: readonly Certificate[];
}

/** PFX (RFC 7292 §4) in password privacy and password integrity mode. */
export function pkcs12(identity: Identity, protection: Protection): Buffer {
  const keyId = createHash('sha1')
    .update(identity.leaves[0]?.der ?? '')
    .digest();
  const own = setOf(attribute(FRIENDLY_NAME, bmpString(identity.name)), attribute(LOCAL_KEY_ID, octetString(keyId)));
  const certificates = sequence(
    ...identity.leaves.map((leaf) => bag(CERTIFICATE_BAG, certificateBag(leaf), own)),
    ...identity.authorities.map((authority) => bag(CERTIFICATE_BAG, certificateBag(authority))),
  );
  const privateKey = protection.encrypt(identity.privateKey.export({ type: 'pkcs8', format: 'der' }));
  const key = sequence(bag(SHROUDED_KEY_BAG, sequence(privateKey.algorithm, octetString(privateKey.encrypted)), own));
  const authSafe = sequence(encryptedData(protection, certificates), data(key));
  return sequence(integer(3), data(authSafe), protection.mac(authSafe));
}

const attribute = (type: Buffer, value: Buffer): Buffer => sequence(type, setOf(value));
const data = (content: Buffer): Buffer => sequence(DATA, context(0, octetString(content)));
const bag = (type: Buffer, value: Buffer, attributes?: Buffer): Buffer => sequence(type, context(0, value), attributes ?? Buffer.alloc(0));
const certificateBag = (certificate: Certificate): Buffer => sequence(X509_CERTIFICATE, context(0, octetString(certificate.der)));

/** RFC 5652 §8: EncryptedData, version 0, its content IMPLICIT [0]. */
function encryptedData(protection: Protection, plain: Buffer): Buffer {
  const { algorithm, encrypted } = protection.encrypt(plain);
  return sequence(ENCRYPTED_DATA, context(0, sequence(integer(0), sequence(DATA, algorithm, tlv(0x80, encrypted)))));
}
