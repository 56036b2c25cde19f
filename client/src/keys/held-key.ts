import { createPrivateKey, type KeyObject } from 'node:crypto';
import type { KeptKey } from '../store/index.js';
import { type Certificate, readCertificate } from '../x509/index.js';

/** A key that this device has, ready for use. */
export interface HeldKey {
  id: string;
  suite: string;
  state: string;
  mode: 'deliver' | 'remote';
  /** Every certificate ever made for this key, newest first. */
  leaves: Certificate[];
  /** The authorities above them. */
  authorities: Certificate[];
  /** Absent in remote mode. */
  privateKey: KeyObject | undefined;
}

export function heldKey(kept: KeptKey): HeldKey {
  const certificates = kept.certificates.map((pem) => readCertificate(pem));
  return {
    id: kept.id,
    suite: kept.suite,
    state: kept.state,
    mode: kept.mode,
    leaves: certificates.filter((certificate) => !certificate.isAuthority),
    authorities: certificates.filter((certificate) => certificate.isAuthority),
    privateKey:
      kept.privateKey === undefined
        ? undefined
        : createPrivateKey({ key: Buffer.from(kept.privateKey, 'base64'), format: 'der', type: 'pkcs8' }),
  };
}

export function keptKey(held: HeldKey): KeptKey {
  const { id, suite, state, mode, leaves, authorities, privateKey } = held;
  const certificates = [...leaves, ...authorities].map((certificate) => certificate.pem);
  return {
    id,
    suite,
    state,
    mode,
    certificates,
    ...(privateKey && { privateKey: privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64') }),
  };
}
