import { createPrivateKey, type KeyObject } from 'node:crypto';
import type { KeptKey } from '../store/index.js';
import { type Certificate, readCertificate } from '../x509/index.js';

/** A key that this device has, ready for use. */
export interface HeldKey {
  id: string;
  suite: string;
  state: string;
  mode: 'deliver' | 'remote';
  /** Address of the shared mailbox that it is for; absent for a person's own. */
  mailbox?: string | undefined;
  /** Every certificate ever made for this key, newest first. */
  leaves: Certificate[];
  /** The authorities above them. */
  authorities: Certificate[];
  /** Absent in remote mode. */
  privateKey: KeyObject | undefined;
}

/** The first certificate is the key's own, and so is each of the same key: one that somebody issued to themselves may call itself an authority. */
export function chainOf(pems: readonly string[]): Pick<HeldKey, 'leaves' | 'authorities'> {
  const certificates = pems.map((pem) => readCertificate(pem));
  const isLeaf = ({ isAuthority, spki }: Certificate) => !isAuthority || (certificates[0]?.spki.equals(spki) ?? false);
  return { leaves: certificates.filter(isLeaf), authorities: certificates.filter((certificate) => !isLeaf(certificate)) };
}

/** The private key is read when it is asked for: OpenSSL takes milliseconds for one, and a person has many. */
export function heldKey(kept: KeptKey): HeldKey {
  let privateKey: KeyObject | undefined;
  return {
    id: kept.id,
    suite: kept.suite,
    state: kept.state,
    mode: kept.mode,
    mailbox: kept.mailbox,
    ...chainOf(kept.certificates),
    get privateKey() {
      if (kept.privateKey !== undefined)
        privateKey ??= createPrivateKey({ key: Buffer.from(kept.privateKey, 'base64'), format: 'der', type: 'pkcs8' });
      return privateKey;
    },
  };
}

export function keptKey(held: HeldKey): KeptKey {
  const { id, suite, state, mode, mailbox, leaves, authorities, privateKey } = held;
  const certificates = [...leaves, ...authorities].map((certificate) => certificate.pem);
  return {
    id,
    suite,
    state,
    mode,
    certificates,
    ...(mailbox === undefined ? {} : { mailbox }),
    ...(privateKey && { privateKey: privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64') }),
  };
}
