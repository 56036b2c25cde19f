import { createCipheriv, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { integer, nothing, octetString, oid, sequence } from '../asn1/index.js';
import { derive, PURPOSE } from './derive.js';

/** How the contents of a file are encrypted and its whole is authenticated. */
export interface Protection {
  /** AlgorithmIdentifier and ciphertext. */
  encrypt(plain: Buffer): { algorithm: Buffer; encrypted: Buffer };
  /** MacData (RFC 7292 §4). */
  mac(content: Buffer): Buffer;
}

/** OWASP's figure for PBKDF2 with SHA-256; importing takes a second. */
const MODERN_ROUNDS = 600_000;
/** What old readers still take within a second or two. */
const COMPAT_ROUNDS = 50_000;

const PBES2 = oid('1.2.840.113549.1.5.13');
const PBKDF2 = oid('1.2.840.113549.1.5.12');
const HMAC_SHA256 = oid('1.2.840.113549.2.9');
const AES_256_CBC = oid('2.16.840.1.101.3.4.1.42');
const PBE_SHA1_3DES = oid('1.2.840.113549.1.12.1.3');
const DIGEST = { sha1: oid('1.3.14.3.2.26'), sha256: oid('2.16.840.1.101.3.4.2.1') } as const;

/** PBES2 (RFC 8018 §6.2): PBKDF2 with HMAC-SHA-256 and AES-256-CBC; MAC with SHA-256. */
export const modern = (phrase: string): Protection => ({
  encrypt(plain) {
    const [salt, iv] = [randomBytes(16), randomBytes(16)];
    const cipher = createCipheriv('aes-256-cbc', pbkdf2Sync(phrase, salt, MODERN_ROUNDS, 32, 'sha256'), iv);
    const kdf = sequence(PBKDF2, sequence(octetString(salt), integer(MODERN_ROUNDS), sequence(HMAC_SHA256, nothing())));
    const algorithm = sequence(PBES2, sequence(kdf, sequence(AES_256_CBC, octetString(iv))));
    return { algorithm, encrypted: Buffer.concat([cipher.update(plain), cipher.final()]) };
  },
  mac: (content) => macData('sha256', phrase, MODERN_ROUNDS, content),
});

/**
 * pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292 appendix C) and a MAC with SHA-1: what gpgsm 2.2 and other old readers want.
 * gpgsm writes a sum of RFC 7292 §B.2 step 6C without its leading zero octets and then derives another key: that is one salt in 128,
 * and such a salt is not used.
 */
export const compat = (phrase: string, random: () => Buffer = () => randomBytes(8)): Protection => ({
  encrypt(plain) {
    for (;;) {
      const salt = random();
      let misread = false;
      const key = derive('sha1', phrase, salt, COMPAT_ROUNDS, PURPOSE.key, 24, (sum) => {
        misread ||= sum[0] === 0;
      });
      if (misread) continue;
      const cipher = createCipheriv('des-ede3-cbc', key, derive('sha1', phrase, salt, COMPAT_ROUNDS, PURPOSE.iv, 8));
      const algorithm = sequence(PBE_SHA1_3DES, sequence(octetString(salt), integer(COMPAT_ROUNDS)));
      return { algorithm, encrypted: Buffer.concat([cipher.update(plain), cipher.final()]) };
    }
  },
  mac: (content) => macData('sha1', phrase, COMPAT_ROUNDS, content),
});

function macData(hash: 'sha1' | 'sha256', phrase: string, rounds: number, content: Buffer): Buffer {
  // Eight octets of salt: NSS 3.87 takes no more.
  const salt = randomBytes(8);
  const key = derive(hash, phrase, salt, rounds, PURPOSE.mac, hash === 'sha1' ? 20 : 32);
  const digest = createHmac(hash, key).update(content).digest();
  return sequence(sequence(sequence(DIGEST[hash], nothing()), octetString(digest)), octetString(salt), integer(rounds));
}
