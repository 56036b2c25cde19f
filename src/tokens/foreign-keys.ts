import { createPrivateKey, createPublicKey, sign, verify, X509Certificate } from 'node:crypto';
import { mayEncipherKeys } from '../codec/cms/index.js';
import { readPkcs12 } from '../codec/pkcs12/index.js';
import type { ForeignKey, ForeignKeyProblem } from './token.js';

/** A key out of a PKCS#12 file; `pkcs8` only where the token can take it. */
type OpenedKey = ForeignKey & { pkcs8?: Buffer };

const PROBE = Buffer.from('a key that signs what its public half verifies is one pair');
/** Shorter ones are broken by anybody; this is old mail, so what is weak is taken and told. */
const LEAST_BITS = 1_024;
/** The longest that a token makes or opens. OpenSSL knows no end: a key of a million bits, which fits into a file, would hold the token process for hours. */
const MOST_BITS = 8_192;

/**
 * Opens a PKCS#12 file and wipes its keys once `use` is done; what node:crypto keeps of them goes with its objects. Throws `pkcs12-malformed`,
 * `pkcs12-passphrase`, `algorithm-unsupported`.
 */
export function foreignKeys<T>(file: Buffer, phrase: string, use: (content: { keys: OpenedKey[]; certificates: Buffer[] }) => T): T {
  const { keys, certificates } = readPkcs12(file, phrase);
  const opened: OpenedKey[] = [];
  try {
    const certified = certificates.flatMap((der) => certifiedKey(der));
    for (const key of keys) opened.push(openedKey(key, certified));
    return use({ keys: opened, certificates });
  } finally {
    for (const key of keys) key.fill(0);
    for (const { pkcs8 } of opened) pkcs8?.fill(0);
  }
}

interface CertifiedKey {
  spki: Buffer;
  forEncryption: boolean;
}

/** None of a certificate that cannot be read. */
function certifiedKey(der: Buffer): CertifiedKey[] {
  try {
    const spki = new X509Certificate(der).publicKey.export({ format: 'der', type: 'spki' });
    return [{ spki, forEncryption: mayEncipherKeys(der) }];
  } catch {
    return [];
  }
}

/** Signing keys belong to their owner alone: the token takes none. */
function problemOf(publicKey: Buffer, certified: readonly CertifiedKey[]): ForeignKeyProblem | undefined {
  if (certified.length === 0) return 'certificate-missing';
  const own = certified.filter(({ spki }) => spki.equals(publicKey));
  if (own.length === 0) return 'key-foreign';
  return own.some(({ forEncryption }) => forEncryption) ? undefined : 'signing-only';
}

function openedKey(der: Buffer, certified: readonly CertifiedKey[]): OpenedKey {
  try {
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' });
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    if (key.asymmetricKeyType !== 'rsa' || bits < LEAST_BITS || bits > MOST_BITS) return { publicKey, bits, problem: 'key-unsupported' };
    if (!verify('sha256', PROBE, createPublicKey({ key: publicKey, format: 'der', type: 'spki' }), sign('sha256', PROBE, key)))
      return { publicKey, bits, problem: 'key-broken' };
    const problem = problemOf(publicKey, certified);
    // Without attributes that a file may carry beside the key.
    return problem ? { publicKey, bits, problem } : { publicKey, bits, pkcs8: key.export({ format: 'der', type: 'pkcs8' }) };
  } catch {
    return { publicKey: Buffer.alloc(0), bits: 0, problem: 'key-broken' };
  }
}
