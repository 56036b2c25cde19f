import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { type AuditLog, type Clock, newSerial, type Storage } from '../foundation/index.js';
import { type Authorities, type AuthorityUrls, generationOf, type InfrastructureProfile, type Token } from '../tokens/index.js';
import { insertCertificate } from './certificate-store.js';
import { certificateTimes } from './certificate-times.js';

/** A TLS server's credentials, for `tls.createSecureContext`; leaf first. */
export interface TlsCredentials {
  key: KeyObject;
  certificate: Buffer;
  authority: Buffer;
  notAfter: number;
}

const TLS_DAYS = 7;
const MAIL_DAYS = 365;

/** Certificates for the appliance itself. */
export class InfrastructureCertificates {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly clock: Clock,
    private readonly authorities: Authorities,
    private readonly urls: AuthorityUrls,
  ) {}

  /**
   * A fresh TLS key, in memory only, and a week's certificate for it. OpenSSL inside Node cannot sign through PKCS#11 without the PIN in this
   * process, so the key lives here and nowhere else, and dies with the process (docs/adr/0003).
   */
  async tlsServer(names: string[]): Promise<TlsCredentials> {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const certificate = await this.#issue('tls-server', publicKey.export({ type: 'spki', format: 'der' }), names, TLS_DAYS);
    return { key: privateKey, certificate, authority: await this.#issuerOf(certificate), notAfter: certificateTimes(certificate).notAfter };
  }

  /** The certificate of the token's mail key for this address: the one at hand while it has a month left, else a new one. */
  async mailSigning(address: string): Promise<{ certificate: Buffer; authority: Buffer }> {
    const { publicKey } = await this.token.signingKey('mail');
    const row = await this.storage.one<{ der: Buffer }>(
      "SELECT der FROM certificates WHERE profile = 'mail-signing' AND address = ? AND revoked_at IS NULL AND not_after > ? ORDER BY not_after DESC LIMIT 1",
      [address, this.clock.now().getTime() + 30 * 86_400_000],
    );
    const isGood = row && isFor(row.der, publicKey) && generationOf(row.der) >= this.authorities.serving('infrastructure').n;
    const certificate = isGood ? row.der : await this.#issue('mail-signing', publicKey, [address], MAIL_DAYS);
    return { certificate, authority: await this.#issuerOf(certificate) };
  }

  /** The token decides which generation signs, so it is looked for by what was signed. */
  async #issuerOf(certificate: Buffer): Promise<Buffer> {
    return (await this.authorities.signerOf(certificate)).certificate;
  }

  async #issue(profile: InfrastructureProfile, spki: Buffer, names: string[], days: number): Promise<Buffer> {
    const serial = newSerial();
    const certificate = await this.token.issueInfrastructure({ profile, spki, names, serial, urls: this.urls, days });
    await this.storage.write(async (unit) => {
      await insertCertificate(unit, {
        serial,
        authority: 'infrastructure',
        profile,
        der: certificate,
        ...certificateTimes(certificate),
        ...(profile === 'mail-signing' ? { address: names[0] ?? '' } : {}),
      });
      await this.audit.append(unit, {
        action: 'certificate.issue',
        outcome: 'done',
        actor: { kind: 'system' },
        subject: serial,
        facts: { profile },
      });
    });
    return certificate;
  }
}

const isFor = (der: Buffer, spki: Buffer): boolean =>
  new X509Certificate(der).publicKey.equals(createPublicKey({ key: spki, format: 'der', type: 'spki' }));
