import { X509Certificate } from 'node:crypto';
import { authorityCertificate, deliveryCertificate, type Issuer, type Signer, USAGE, validity } from '../codec/x509/index.js';
import { newSerial } from '../foundation/index.js';
import type { Hsm, SigningKeyName } from './hsm.js';
import type { AuthorityName, AuthorityUrls } from './token.js';

export interface AuthoritySettings {
  /** The organisation's name, for people who read certificates. */
  organisation: string;
  /** Mail domains whose people may have certificates: the people CA's name constraint. */
  domains: string[];
  /** DNS name of the appliance: the infrastructure CA's name constraint. */
  publicName: string;
  /** URLs of each issuing authority's CRL and certificate. */
  urls: Record<AuthorityName, AuthorityUrls>;
}

export type AuthorityCertificates = Record<AuthorityName | 'delivery', Buffer>;

const ROOT_DAYS = 25 * 365;
const ISSUING_DAYS = 15 * 365;

/** A token's signing key as X.509 signs with it. */
export function signerOf(hsm: Hsm, name: SigningKeyName): Signer {
  const algorithm = hsm.algorithm(name);
  if (algorithm === 'ed25519') throw new Error(`${name} is no certificate-signing key`);
  return { algorithm, publicKey: hsm.publicKey(name), sign: (message) => hsm.sign(name, message) };
}

/** The root and the three issuing authorities, separate for people, devices and infrastructure, each limited to its trade (RFC 5280 §4.2.1.10, §4.2.1.12). */
export async function makeAuthorities(hsm: Hsm, settings: AuthoritySettings, now: Date): Promise<AuthorityCertificates> {
  const subject = (name: SigningKeyName, days: number) => ({ serial: newSerial(), publicKey: hsm.publicKey(name), ...validity(now, days) });
  const rootSigner = signerOf(hsm, 'root');
  const organisation = settings.organisation.replace(/([,+"\\<>;=#])/g, '\\$1');
  const root = await authorityCertificate({ self: rootSigner }, `O=${organisation}, CN=EKMS Root CA`, subject('root', ROOT_DAYS));
  const issuer: Issuer = { certificate: root, signer: rootSigner, urls: settings.urls.root };
  const people = await authorityCertificate(issuer, `O=${organisation}, CN=EKMS People CA`, subject('people', ISSUING_DAYS), {
    usages: [USAGE.emailProtection],
    permitted: { mail: settings.domains },
  });
  const devices = await authorityCertificate(issuer, `O=${organisation}, CN=EKMS Devices CA`, subject('devices', ISSUING_DAYS), {
    usages: [USAGE.clientAuth],
    permitted: { directory: 'OU=Devices' },
  });
  const infrastructure = await authorityCertificate(
    issuer,
    `O=${organisation}, CN=EKMS Infrastructure CA`,
    subject('infrastructure', ISSUING_DAYS),
    {
      usages: [USAGE.serverAuth, USAGE.emailProtection, USAGE.timeStamping, USAGE.ocspSigning, USAGE.delivery],
      permitted: { dns: [settings.publicName, ...settings.domains], mail: settings.domains },
    },
  );
  const delivery = await certifyDelivery(hsm, infrastructure, settings.urls.infrastructure, now);
  return { root, people, devices, infrastructure, delivery };
}

/** A certificate for the delivery key, which lives no longer than the authority. */
export function certifyDelivery(hsm: Hsm, infrastructure: Buffer, urls: AuthorityUrls, now: Date): Promise<Buffer> {
  const { notBefore, notAfter } = validity(now, ISSUING_DAYS);
  const end = new Date(Math.min(notAfter.getTime(), Date.parse(new X509Certificate(infrastructure).validTo)));
  const subject = { serial: newSerial(), publicKey: hsm.publicKey('delivery'), notBefore, notAfter: end };
  return deliveryCertificate({ certificate: infrastructure, signer: signerOf(hsm, 'infrastructure'), urls }, subject);
}
