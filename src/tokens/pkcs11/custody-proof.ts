import { createHash, createPublicKey, randomBytes, verify } from 'node:crypto';
import { sameBytes } from '../../foundation/index.js';
import type { CustodyEntry, CustodyPackage } from '../custody/package.js';
import { HsmError } from '../hsm.js';
import { CustodyOpening } from './custody-keys.js';
import { KEY, type Pkcs11Module } from './module.js';
import { Pkcs11Hsm, type Pkcs11Token } from './pkcs11-hsm.js';
import { findSigningKey, LABEL, signingLabel, signingMechanism } from './token-keys.js';

const TRIED = { token: false, private: true, sensitive: true, extractable: false } as const;

/**
 * Opens each of the custodians' copies in a session and holds it against the key in service: a copy that would not restore is found at the
 * ceremony, not after the fire. Nothing stays in the token. Throws HsmError `blob-corrupt`, naming the key.
 */
export function proveCustody(
  module: Pkcs11Module,
  token: Pkcs11Token,
  ceremonyKey: Buffer,
  custody: Pick<CustodyPackage, 'custodyKey' | 'keys'>,
): void {
  const hsm = new Pkcs11Hsm(module, token);
  const session = module.openSession(token.label);
  try {
    const opening = new CustodyOpening(session, token.profile, ceremonyKey, custody.custodyKey.wrapped);
    const message = randomBytes(32);
    for (const entry of custody.keys) {
      const holds = proofs(entry);
      if (!holds) throw new HsmError('blob-corrupt', `the custodians' copy of ${entry.label} is not the key in service`);
    }
    opening.close();

    function proofs(entry: CustodyEntry): boolean {
      const { mechanisms } = token.profile;
      if (entry.kind === 'kek') {
        const copy = opening.take(entry, { ...TRIED, unwrap: true });
        const [kek] = session.find({ ...KEY.aes, token: true, label: entry.label });
        // One that was destroyed since has its copy only, for older backups.
        if (!kek) return true;
        const tried = session.generateKey({ number: mechanisms.aesKeyGen }, { ...KEY.aes, ...TRIED, extractable: true, valueLength: 32 });
        session.unwrap({ number: mechanisms.kwp }, copy, session.wrap({ number: mechanisms.kwp }, kek, tried), { ...KEY.aes, ...TRIED });
        return true;
      }
      if (entry.label === LABEL.records) {
        const mac = session.sign({ number: mechanisms.hmacSha256 }, opening.take(entry, { ...TRIED, sign: true }), message);
        return sameBytes(mac, hsm.mac(message));
      }
      if (entry.label === LABEL.seal) {
        const sealed = hsm.seal(message, 'custody proof');
        const gcm = { nonce: Buffer.from(sealed.subarray(0, 12)), context: Buffer.from('custody proof') };
        const opened = session.decrypt(
          { number: mechanisms.aesGcm, gcm },
          opening.take(entry, { ...TRIED, decrypt: true }),
          sealed.subarray(12),
        );
        return sameBytes(opened, message);
      }
      const named = signingLabel(entry.label);
      const serving = named && findSigningKey(session, named.name, named.n);
      if (!serving || !entry.publicKey?.equals(serving.publicKey)) return false;
      const { mechanism, hostDigest } = signingMechanism(serving.algorithm, token.profile);
      const digest = { ed25519: null, 'rsa-pkcs1-sha384': 'sha384', 'ecdsa-p256-sha256': 'sha256', 'ecdsa-p384-sha384': 'sha384' }[
        serving.algorithm
      ];
      const input = hostDigest ? createHash(hostDigest).update(message).digest() : message;
      const signature = session.sign(mechanism, opening.take(entry, { ...TRIED, sign: true }), input);
      const key = createPublicKey({ key: entry.publicKey, format: 'der', type: 'spki' });
      return verify(digest, message, { key, dsaEncoding: 'ieee-p1363' }, signature);
    }
  } finally {
    session.close();
    hsm.close();
  }
}
