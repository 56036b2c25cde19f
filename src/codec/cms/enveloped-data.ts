import { constants, createCipheriv, publicEncrypt, randomBytes, X509Certificate } from 'node:crypto';
import { Fault } from '../../foundation/index.js';
import { at, context, octets, oid, sequence, setOf, tlv, unsigned } from './der.js';

const ENVELOPED_DATA = oid('1.2.840.113549.1.7.3');
const DATA = oid('1.2.840.113549.1.7.1');
const SHA256 = sequence(oid('2.16.840.1.101.3.4.2.1'), tlv(0x05));
const OAEP_SHA256 = sequence(
  oid('1.2.840.113549.1.1.7'),
  sequence(context(0, SHA256), context(1, sequence(oid('1.2.840.113549.1.1.8'), SHA256))),
);
const AES256_CBC = oid('2.16.840.1.101.3.4.1.42');

/**
 * CMS EnvelopedData (RFC 5652 §6) for the holder of one RSA certificate: RSA-OAEP with SHA-256, AES-256-CBC. It hides and does not
 * authenticate: for content that carries a checksum of its own. Throws `certificate-unfit` for a certificate without an RSA key.
 */
export function envelopedFor(certificate: Uint8Array, plain: Uint8Array): Buffer {
  let key: X509Certificate['publicKey'] | undefined;
  try {
    key = new X509Certificate(certificate).publicKey;
  } catch {
    // said below
  }
  const serial = at(certificate, 0, 0, 1);
  const issuer = at(certificate, 0, 0, 3);
  if (key?.asymmetricKeyType !== 'rsa' || !serial || !issuer)
    throw new Fault(
      'malformed',
      'certificate-unfit',
      'this is no X.509 certificate with an RSA key, which is what can be encrypted to here',
    );
  const cek = randomBytes(32);
  const iv = randomBytes(16);
  const cipher = createCipheriv('aes-256-cbc', cek, iv);
  const content = Buffer.concat([cipher.update(plain), cipher.final()]);
  const encryptedKey = publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }, cek);
  // RFC 5652 §6.2.1: version 0 goes with issuerAndSerialNumber; §6.1: EnvelopedData is then version 0 too.
  const recipient = sequence(unsigned(Buffer.of(0)), sequence(issuer.whole, serial.whole), OAEP_SHA256, octets(encryptedKey));
  const encrypted = sequence(DATA, sequence(AES256_CBC, octets(iv)), tlv(0x80, content));
  return sequence(ENVELOPED_DATA, context(0, sequence(unsigned(Buffer.of(0)), setOf(recipient), encrypted)));
}
