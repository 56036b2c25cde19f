import {
  createCipheriv,
  createHmac,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  pbkdf2Sync,
  randomBytes,
  sign,
} from 'node:crypto';
import { integer, nothing, octetString, oid, sequence, setOf, tlv, utf8String } from '../../src/codec/asn1/index.js';
import { derive, type Protection, PURPOSE, pkcs12 } from '../../src/codec/pkcs12/index.js';
import { writeLeaf } from '../../src/codec/x509/leaf.js';

export const PHRASE = 'phrase';

/** What openssl and NSS write. */
const ROUNDS = 2_048;

/**
 * PBES2 as openssl has it, for many files: they have their salts, and so what is derived of the pass phrase, in common. Whoever opens them cannot tell and
 * derives it for each.
 */
function asOpenssl(): Protection {
  const [salt, macSalt] = [randomBytes(16), randomBytes(8)];
  const key = pbkdf2Sync(PHRASE, salt, ROUNDS, 32, 'sha256');
  const macKey = derive('sha256', PHRASE, macSalt, ROUNDS, PURPOSE.mac, 32);
  const prf = sequence(oid('1.2.840.113549.2.9'), nothing());
  const kdf = sequence(oid('1.2.840.113549.1.5.12'), sequence(octetString(salt), integer(ROUNDS), prf));
  const sha256 = sequence(oid('2.16.840.1.101.3.4.2.1'), nothing());
  return {
    encrypt(plain) {
      const iv = randomBytes(16);
      const cipher = createCipheriv('aes-256-cbc', key, iv);
      const scheme = sequence(oid('2.16.840.1.101.3.4.1.42'), octetString(iv));
      const algorithm = sequence(oid('1.2.840.113549.1.5.13'), sequence(kdf, scheme));
      return { algorithm, encrypted: Buffer.concat([cipher.update(plain), cipher.final()]) };
    },
    mac: (content) =>
      sequence(sequence(sha256, octetString(createHmac('sha256', macKey).update(content).digest())), octetString(macSalt), integer(ROUNDS)),
  };
}

/** Critical keyUsage keyEncipherment (RFC 5280 §4.2.1.3). */
const FOR_ENCRYPTION = sequence(oid('2.5.29.15'), tlv(0x01, Buffer.of(0xff)), octetString(tlv(0x03, Buffer.of(5, 0x20))));

export interface MadeFile {
  p12: Buffer;
  /** SPKI, DER. */
  publicKey: Buffer;
}

/** Makes PKCS#12 files in a millisecond or two each: a key with a certificate for an address, of an authority that nobody here knows. */
export function p12Maker(): (address: string, privateKey: KeyObject) => Promise<MadeFile> {
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const signer = {
    algorithm: 'ecdsa-p256-sha256' as const,
    publicKey: authority.publicKey.export({ format: 'der', type: 'spki' }),
    sign: (message: Uint8Array) => sign('sha256', message, { key: authority.privateKey, dsaEncoding: 'ieee-p1363' }),
  };
  const name = sequence(setOf(sequence(oid('2.5.4.3'), utf8String('Former'))));
  const parent = { name, before: FOR_ENCRYPTION, after: Buffer.alloc(0) };
  const [notBefore, notAfter] = [new Date(Date.now() - 60_000), new Date(Date.now() + 86_400_000)];
  const protection = asOpenssl();
  let serial = 0;
  return async (address, privateKey) => {
    const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
    const hex = (++serial).toString(16).padStart(8, '0');
    const content = { serial: hex, publicKey, notBefore, notAfter, subject: [['CN', address]] as const, name: { email: address } };
    const der = await writeLeaf(signer, parent, content);
    return { p12: pkcs12({ name: address, privateKey, leaves: [{ der }], authorities: [] }, protection), publicKey };
  };
}
