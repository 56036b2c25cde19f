import { AsnConvert } from '@peculiar/asn1-schema';
// The library's Name and asn1-x509's Name are two classes of one encoding.
import {
  Name as DirectoryName,
  GeneralName,
  GeneralSubtree,
  GeneralSubtrees,
  id_ce_nameConstraints,
  NameConstraints,
} from '@peculiar/asn1-x509';
import { type DeviceBinding, deviceBindingUri } from './device-binding.js';
import { type LeafParent, writeLeaf } from './leaf.js';
import {
  AuthorityInfoAccessExtension,
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  CertificatePolicyExtension,
  CRLDistributionPointsExtension,
  ExtendedKeyUsageExtension,
  Extension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  X509CrlGenerator,
  type X509CrlReason,
} from './library.js';
import { POLICY, type Profile, USAGE } from './oids.js';
import { type Signer, signingWith } from './signer.js';

/** Where relying parties find CRL and issuer (RFC 5280 §4.2.1.13, §4.2.2.1). */
export interface IssuerUrls {
  crl: string;
  issuer: string;
}

/** An authority that signs: its certificate (DER), its key in the token, and the addresses that its leaves carry. */
export interface Issuer {
  certificate: Uint8Array;
  signer: Signer;
  urls?: IssuerUrls;
}

/** `serial` is hexadecimal; `publicKey` SPKI DER. */
export interface Subject {
  serial: string;
  publicKey: Buffer;
  notBefore: Date;
  notAfter: Date;
}

/** RFC 5280 §4.1.2.5.2 has seconds only; starting five minutes early forgives a client whose clock is behind. */
export function validity(now: Date, days: number): { notBefore: Date; notAfter: Date } {
  const second = Math.floor(now.getTime() / 1000) * 1000;
  return { notBefore: new Date(second - 300_000), notAfter: new Date(second + days * 86_400_000) };
}

interface Parent {
  name: Name;
  keyIdentifier: AuthorityKeyIdentifierExtension;
}

/** By the authority's certificate, which lives as long as the process: read once, not at each of its leaves. */
const parents = new WeakMap<Uint8Array, Promise<Parent>>();

function parentOf(certificate: Uint8Array): Promise<Parent> {
  let parent = parents.get(certificate);
  if (!parent) {
    parent = readParent(certificate);
    parents.set(certificate, parent);
  }
  return parent;
}

async function readParent(der: Uint8Array): Promise<Parent> {
  const { subjectName, publicKey } = new X509Certificate(der);
  return { name: subjectName, keyIdentifier: await AuthorityKeyIdentifierExtension.create(publicKey) };
}

const linksOf = ({ urls }: Issuer): Extension[] =>
  urls ? [new CRLDistributionPointsExtension([urls.crl]), new AuthorityInfoAccessExtension({ caIssuers: urls.issuer })] : [];

async function issue(issuer: Issuer | { self: Signer }, name: string | Name, subject: Subject, extensions: Extension[]): Promise<Buffer> {
  const signer = 'self' in issuer ? issuer.self : issuer.signer;
  const parent = 'self' in issuer ? undefined : await parentOf(issuer.certificate);
  const { signingKey, signingAlgorithm, crypto } = signingWith(signer);
  const links = 'self' in issuer ? [] : linksOf(issuer);
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: subject.serial,
      subject: name,
      issuer: parent ? parent.name : name,
      notBefore: subject.notBefore,
      notAfter: subject.notAfter,
      publicKey: subject.publicKey,
      signingKey,
      signingAlgorithm,
      extensions: [
        ...extensions,
        await SubjectKeyIdentifierExtension.create(subject.publicKey),
        parent ? parent.keyIdentifier : await AuthorityKeyIdentifierExtension.create(subject.publicKey),
        ...links,
      ],
    },
    crypto,
  );
  return Buffer.from(certificate.rawData);
}

/** What an authority may sign below it: RFC 5280 §4.2.1.10 subtrees and §4.2.1.12 usages. */
export interface AuthorityLimits {
  usages?: string[];
  permitted?: { mail?: string[]; dns?: string[]; directory?: string };
}

const subtree = (base: GeneralName): GeneralSubtree => new GeneralSubtree({ base });

function nameConstraints(permitted: NonNullable<AuthorityLimits['permitted']>): Extension {
  const directory = permitted.directory
    ? [new GeneralName({ directoryName: AsnConvert.parse(new Name(permitted.directory).toArrayBuffer(), DirectoryName) })]
    : [];
  const bases = [
    ...(permitted.mail ?? []).map((host) => new GeneralName({ rfc822Name: host })),
    ...(permitted.dns ?? []).map((host) => new GeneralName({ dNSName: host })),
    ...directory,
  ];
  const value = new NameConstraints({ permittedSubtrees: new GeneralSubtrees(bases.map(subtree)) });
  return new Extension(id_ce_nameConstraints, true, AsnConvert.serialize(value));
}

/** A root (issuer `self`) or an issuing authority; path length 1 and 0. */
export function authorityCertificate(
  issuer: Issuer | { self: Signer },
  name: string,
  subject: Subject,
  limits: AuthorityLimits = {},
): Promise<Buffer> {
  return issue(issuer, name, subject, [
    new BasicConstraintsExtension(true, 'self' in issuer ? 1 : 0, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    ...(limits.usages ? [new ExtendedKeyUsageExtension(limits.usages)] : []),
    ...(limits.permitted ? [nameConstraints(limits.permitted)] : []),
  ]);
}

/** The extensions that limit what an authority may sign (RFC 5280 §4.2.1.3, .9, .10, .12); its successor has them byte for byte. */
const LIMITING = ['2.5.29.19', '2.5.29.15', '2.5.29.37', id_ce_nameConstraints];

/** The next generation of an authority: as limited as `before`, whoever asks for it, and under a name of its own. */
export function succeedingAuthority(issuer: Issuer, name: string, subject: Subject, before: Uint8Array): Promise<Buffer> {
  const { extensions } = new X509Certificate(before);
  return issue(
    issuer,
    name,
    subject,
    extensions.filter(({ type }) => LIMITING.includes(type)),
  );
}

/** A distinguished name as RFC 4514 text, which the verbs here take back. */
export const subjectText = (certificate: Uint8Array): string => new X509Certificate(certificate).subject;

function leaf(profile: Profile, keyUsage: KeyUsageFlags, usages: string[], names?: JsonGeneralNames): Extension[] {
  return [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(keyUsage, true),
    ...(usages.length > 0 ? [new ExtendedKeyUsageExtension(usages)] : []),
    new CertificatePolicyExtension([POLICY[profile]]),
    ...(names ? [new SubjectAlternativeNameExtension(names)] : []),
  ];
}

/** V1: the address and nothing else about the person (RFC 8550 §3, §4.4). */
export async function personCertificate(issuer: Issuer, address: string, subject: Subject): Promise<Buffer> {
  const parent = await leafParent(issuer, 'person', () => leaf('person', KeyUsageFlags.keyEncipherment, [USAGE.emailProtection]));
  return writeLeaf(issuer.signer, parent, { ...subject, subject: [['CN', address]], name: { email: address } });
}

export async function deviceCertificate(issuer: Issuer, binding: DeviceBinding, subject: Subject): Promise<Buffer> {
  const parent = await leafParent(issuer, 'device', () => leaf('device', KeyUsageFlags.digitalSignature, [USAGE.clientAuth]));
  const names = [
    ['OU', 'Devices'],
    ['CN', binding.device],
  ] as const;
  return writeLeaf(issuer.signer, parent, { ...subject, subject: names, name: { uri: deviceBindingUri(binding) } });
}

/** By the authority's certificate, the profile and the addresses in it. */
const leafParents = new WeakMap<Uint8Array, Map<string, Promise<LeafParent>>>();

function leafParent(issuer: Issuer, profile: Profile, extensions: () => Extension[]): Promise<LeafParent> {
  const { certificate, urls } = issuer;
  const key = `${profile} ${urls?.crl} ${urls?.issuer}`;
  const known = leafParents.get(certificate) ?? new Map<string, Promise<LeafParent>>();
  leafParents.set(certificate, known);
  let parent = known.get(key);
  if (!parent) {
    parent = readLeafParent(issuer, extensions());
    known.set(key, parent);
  }
  return parent;
}

async function readLeafParent(issuer: Issuer, before: readonly Extension[]): Promise<LeafParent> {
  const { name, keyIdentifier } = await parentOf(issuer.certificate);
  const encoded = (extensions: readonly Extension[]) => Buffer.concat(extensions.map(({ rawData }) => Buffer.from(rawData)));
  return { name: Buffer.from(name.toArrayBuffer()), before: encoded(before), after: encoded([keyIdentifier, ...linksOf(issuer)]) };
}

/** `names`: DNS names and IP addresses, the first is the subject. */
export function tlsServerCertificate(issuer: Issuer, names: string[], subject: Subject): Promise<Buffer> {
  return issue(
    issuer,
    new Name([{ CN: [names[0] ?? ''] }]),
    subject,
    leaf(
      'tls-server',
      KeyUsageFlags.digitalSignature,
      [USAGE.serverAuth],
      names.map((value) => ({ type: /^[\d.]+$|:/.test(value) ? 'ip' : 'dns', value })),
    ),
  );
}

/** EKMS's own mail: challenges and announcements. */
export function mailSigningCertificate(issuer: Issuer, address: string, subject: Subject): Promise<Buffer> {
  return issue(
    issuer,
    new Name([{ CN: ['EKMS'] }]),
    subject,
    leaf('mail-signing', KeyUsageFlags.digitalSignature, [USAGE.emailProtection], [{ type: 'email', value: address }]),
  );
}

/** The key that signs deliveries: named by its policy alone, good for nothing in TLS or mail. */
export function deliveryCertificate(issuer: Issuer, subject: Subject): Promise<Buffer> {
  return issue(issuer, 'CN=EKMS delivery', subject, leaf('delivery', KeyUsageFlags.digitalSignature, [USAGE.delivery]));
}

export interface CrlContent {
  number: number;
  thisUpdate: Date;
  nextUpdate: Date;
  entries: { serial: string; revokedAt: Date; reason: number }[];
}

export async function certificateRevocationList(issuer: Issuer, content: CrlContent): Promise<Buffer> {
  const parent = new X509Certificate(issuer.certificate);
  const { signingKey, signingAlgorithm, crypto } = signingWith(issuer.signer);
  const number = Buffer.from(content.number.toString(16).padStart(16, '0'), 'hex');
  const crl = await X509CrlGenerator.create(
    {
      issuer: parent.subject,
      thisUpdate: content.thisUpdate,
      nextUpdate: content.nextUpdate,
      entries: content.entries.map((entry) => ({
        serialNumber: entry.serial,
        revocationDate: entry.revokedAt,
        reason: entry.reason as X509CrlReason,
      })),
      signingKey,
      signingAlgorithm,
      extensions: [
        await AuthorityKeyIdentifierExtension.create(parent.publicKey),
        // RFC 5280 §5.2.3: CRL number, a non-negative INTEGER in shortest form.
        new Extension('2.5.29.20', false, derInteger(number)),
      ],
    },
    crypto,
  );
  return Buffer.from(crl.rawData);
}

function derInteger(bytes: Buffer): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0 && ((bytes[start + 1] ?? 0) & 0x80) === 0) start++;
  const content = bytes.subarray(start);
  return Buffer.concat([Buffer.from([0x02, content.length]), content]);
}
