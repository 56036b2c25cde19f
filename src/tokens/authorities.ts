import { X509Certificate } from 'node:crypto';
import {
  authorityCertificate,
  deliveryCertificate,
  type Issuer,
  type Signer,
  subjectText,
  succeedingAuthority,
  USAGE,
  validity,
} from '../codec/x509/index.js';
import { newSerial } from '../foundation/index.js';
import type { Hsm, SigningKeyName } from './hsm.js';
import { AUTHORITY_NAMES, type Authority, type AuthorityName, type AuthorityUrls, type SucceedingAuthority } from './token.js';

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

/** A token's signing key as X.509 signs with it. @param n another of its name than the one in service */
export function signerOf(hsm: Hsm, name: SigningKeyName, n?: number): Signer {
  const algorithm = hsm.algorithm(name, n);
  if (algorithm === 'ed25519') throw new Error(`${name} is no certificate-signing key`);
  return { algorithm, publicKey: hsm.publicKey(name, n), sign: (message) => hsm.sign(name, message, n) };
}

/** How a generation of an authority is called where one word must say it: in addresses, in the database, on the command line. */
export const authorityId = ({ name, n }: Pick<Authority, 'name' | 'n'>): string => (n === 1 ? name : `${name}-${n}`);

/** Where relying parties find the list and the certificate of this generation. */
export function urlsOf(urls: AuthorityUrls, n: number): AuthorityUrls {
  const numbered = (url: string) => (n === 1 ? url : url.replace(/(\.[a-z]+)$/, `-${n}$1`));
  return { crl: numbered(urls.crl), issuer: numbered(urls.issuer) };
}

/** Which generation signed this certificate: by its issuer's name, which nobody but the token process gives. @param der of a certificate that an authority of this appliance signed */
export function generationOf(der: Uint8Array): number {
  return Number(/^CN=EKMS (?:People|Devices|Infrastructure) CA ([1-9]\d{0,5})$/m.exec(new X509Certificate(der).issuer)?.[1] ?? 1);
}

/** Of these generations, the one that signed this certificate. */
export function issuerAmong<A extends Pick<Authority, 'certificate'>>(authorities: readonly A[], der: Uint8Array): A | undefined {
  const certificate = new X509Certificate(der);
  return authorities.find((each) => {
    const issuer = new X509Certificate(each.certificate);
    return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
  });
}

/** Those that `init` made, where none has taken over yet. */
export const firstAuthorities = (certificates: AuthorityCertificates): Authority[] =>
  AUTHORITY_NAMES.map((name) => ({ name, n: 1, certificate: certificates[name], state: 'serving' }));

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
  const subject = { serial: newSerial(), publicKey: hsm.publicKey('delivery'), ...within(infrastructure, now) };
  return deliveryCertificate({ certificate: infrastructure, signer: signerOf(hsm, 'infrastructure'), urls }, subject);
}

/**
 * A certificate by the root for the key of this name that serves in `hsm`, the n-th: limited as the generation before. Its name is its own (RFC 5280 §4.1.2.6), so whoever
 * looks for an issuer, or for its list, by name finds one.
 */
export function certifyAuthority(
  hsm: Hsm,
  { name, n, before, root }: { name: SucceedingAuthority; n: number; before: Buffer; root: Buffer },
  urls: AuthorityUrls,
  now: Date,
): Promise<Buffer> {
  const subject = { serial: newSerial(), publicKey: hsm.publicKey(name), ...within(root, now) };
  const called = subjectText(before).replace(/(CN=EKMS [A-Za-z]+ CA)(?: \d+)?$/, `$1 ${n}`);
  return succeedingAuthority({ certificate: root, signer: signerOf(hsm, 'root'), urls }, called, subject, before);
}

/** From now on, no longer than its issuer lives. */
function within(issuer: Buffer, now: Date): { notBefore: Date; notAfter: Date } {
  const { notBefore, notAfter } = validity(now, ISSUING_DAYS);
  return { notBefore, notAfter: new Date(Math.min(notAfter.getTime(), new X509Certificate(issuer).validToDate.getTime())) };
}
