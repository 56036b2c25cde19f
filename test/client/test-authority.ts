import 'reflect-metadata';
import { generateKeyPairSync, type KeyObject, randomUUID, sign, X509Certificate } from 'node:crypto';
import {
  authorityCertificate,
  deliveryCertificate,
  deviceCertificate,
  type Issuer,
  mailSigningCertificate,
  personCertificate,
  type Signer,
  type Subject,
  tlsServerCertificate,
  USAGE,
  validity,
} from '../../src/codec/x509/index.js';
import { newSerial, sha256 } from '../../src/foundation/index.js';

export interface Certified {
  der: Buffer;
  pem: string;
  key: KeyObject;
}

export const pemOf = (der: Uint8Array): string => new X509Certificate(der).toString();
export const spkiOf = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' }) as Buffer; // "as": the types do not know that der gives bytes

/** Root and three issuing authorities with the very profiles of the appliance, their keys in memory. */
export class TestAuthority {
  private constructor(
    readonly root: Issuer,
    readonly people: Issuer,
    readonly devices: Issuer,
    readonly infrastructure: Issuer,
  ) {}

  static async create(domain = 'corp.example'): Promise<TestAuthority> {
    const rootSigner = newSigner();
    const root = {
      certificate: await authorityCertificate({ self: rootSigner }, 'CN=Test Root', subject(rootSigner.publicKey)),
      signer: rootSigner,
    };
    const below = async (name: string, limits = {}): Promise<Issuer> => {
      const signer = newSigner();
      return { certificate: await authorityCertificate(root, name, subject(signer.publicKey), limits), signer };
    };
    return new TestAuthority(
      root,
      await below('CN=Test People CA', { usages: [USAGE.emailProtection], permitted: { mail: [domain] } }),
      await below('CN=Test Devices CA', { usages: [USAGE.clientAuth], permitted: { directory: 'OU=Devices' } }),
      await below('CN=Test Infrastructure CA', {
        usages: [USAGE.serverAuth, USAGE.emailProtection, USAGE.timeStamping, USAGE.ocspSigning, USAGE.delivery],
        permitted: { dns: ['localhost', domain], mail: [domain] },
      }),
    );
  }

  get rootPem(): string {
    return pemOf(this.root.certificate);
  }

  get pin(): string {
    return sha256(this.root.certificate).toString('base64url');
  }

  /** An encrypting certificate; `days` may be negative for one that has ended. */
  async person(address: string, publicKey: KeyObject, issuer: Issuer = this.people, days = 30): Promise<string> {
    const ask =
      days > 0
        ? subject(spkiOf(publicKey), days)
        : { ...subject(spkiOf(publicKey)), notBefore: new Date(Date.now() - 9e8), notAfter: new Date(Date.now() - 1e8) };
    return pemOf(await personCertificate(issuer, address, ask));
  }

  async device(spki: Buffer, device: string, employee: string, delivery: Buffer): Promise<string[]> {
    const der = await deviceCertificate(this.devices, { device, employee, delivery: sha256(delivery) }, subject(spki));
    return [pemOf(der), pemOf(this.devices.certificate)];
  }

  tlsServer = () => this.p256((spki) => tlsServerCertificate(this.infrastructure, ['localhost', '127.0.0.1'], subject(spki)));
  mailSigning = (from: string) => this.p256((spki) => mailSigningCertificate(this.infrastructure, from, subject(spki)));
  deliverySigning = () => this.p256((spki) => deliveryCertificate(this.infrastructure, subject(spki)));

  private async p256(issue: (spki: Buffer) => Promise<Buffer>): Promise<Certified> {
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const der = await issue(spkiOf(pair.publicKey));
    return { der, pem: pemOf(der) + pemOf(this.infrastructure.certificate), key: pair.privateKey };
  }
}

function newSigner(): Signer {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  return {
    algorithm: 'ecdsa-p384-sha384',
    publicKey: spkiOf(publicKey),
    sign: (message) => sign('sha384', message, { key: privateKey, dsaEncoding: 'ieee-p1363' }),
  };
}

function subject(publicKey: Buffer, days = 30): Subject {
  return { serial: newSerial(), publicKey, ...validity(new Date(), days) };
}

export const newUuid = (): string => randomUUID();
