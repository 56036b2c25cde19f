import { createPrivateKey, type KeyObject } from 'node:crypto';
import { type Certificate, readCertificate } from '../x509/index.js';
import type { State } from './state.js';

/** The enrolled device, ready for use. Keys are read when they are asked for: OpenSSL takes milliseconds for one. */
export interface Device {
  id: string;
  server: string;
  address: string;
  root: Certificate;
  deliveryKey: KeyObject;
  /** For mutual TLS, PEM. */
  identity: { certificates: string; key: string };
}

export function deviceOf(state: State): Device {
  return {
    id: state.device,
    server: state.server,
    address: state.address,
    root: readCertificate(state.root),
    get deliveryKey() {
      return privateKey(state.deliveryKey);
    },
    identity: {
      certificates: state.certificates.join('\n'),
      get key() {
        return privateKey(state.identityKey).export({ type: 'pkcs8', format: 'pem' }).toString();
      },
    },
  };
}

const privateKey = (text: string): KeyObject => createPrivateKey({ key: Buffer.from(text, 'base64'), format: 'der', type: 'pkcs8' });
