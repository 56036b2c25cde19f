import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { readPkcs12 } from '../codec/pkcs12/index.js';
import type { ForeignKey } from './token.js';

/** A key out of a PKCS#12 file; `pkcs8` only where the token can take it. */
type OpenedKey = ForeignKey & { pkcs8?: Buffer };

const PROBE = Buffer.from('a key that signs what its public half verifies is one pair');
/** Shorter ones are broken by anybody; this is old mail, so what is weak is taken and told. */
const LEAST_BITS = 1_024;

/**
 * Opens a PKCS#12 file and wipes its keys once `use` is done; what node:crypto keeps of them goes with its objects. Throws `pkcs12-malformed`,
 * `pkcs12-passphrase`, `algorithm-unsupported`.
 */
export function foreignKeys<T>(file: Buffer, phrase: string, use: (content: { keys: OpenedKey[]; certificates: Buffer[] }) => T): T {
  const { keys, certificates } = readPkcs12(file, phrase);
  const opened: OpenedKey[] = [];
  try {
    for (const key of keys) opened.push(openedKey(key));
    return use({ keys: opened, certificates });
  } finally {
    for (const key of keys) key.fill(0);
    for (const { pkcs8 } of opened) pkcs8?.fill(0);
  }
}

function openedKey(der: Buffer): OpenedKey {
  try {
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' });
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    if (key.asymmetricKeyType !== 'rsa' || bits < LEAST_BITS) return { publicKey, bits, problem: 'key-unsupported' };
    if (!verify('sha256', PROBE, createPublicKey({ key: publicKey, format: 'der', type: 'spki' }), sign('sha256', PROBE, key)))
      return { publicKey, bits, problem: 'key-broken' };
    // Without attributes that a file may carry beside the key.
    return { publicKey, bits, pkcs8: key.export({ format: 'der', type: 'pkcs8' }) };
  } catch {
    return { publicKey: Buffer.alloc(0), bits: 0, problem: 'key-broken' };
  }
}
