import { type Clock, Fault, type Storage } from '../foundation/index.js';
import type { Authorities } from '../tokens/index.js';
import { endedCertificateOf, everyCertificateOfEmployee, validCertificatesOf, validCertificatesOfEmployee } from './certificate-store.js';

/** Public certificates: of people by address, of authorities by name. */
export class CertificateDirectory {
  constructor(
    private readonly storage: Storage,
    private readonly authorities: Authorities,
    private readonly clock: Clock,
  ) {}

  of(address: string): Promise<Buffer[]> {
    return validCertificatesOf(this.storage, address, this.clock.now().getTime());
  }

  /** An employee's own, newest first. */
  ofEmployee(employee: string): Promise<Buffer[]> {
    return validCertificatesOfEmployee(this.storage, employee, this.clock.now().getTime());
  }

  /** Each that an employee's keys ever had, whatever became of it: what a document may name them by. */
  everOf(employee: string): Promise<Buffer[]> {
    return everyCertificateOfEmployee(this.storage, employee);
  }

  /** Valid certificates of an address; `ended` says of one without any what became of the last. */
  async standing(address: string): Promise<{ valid: Buffer[]; ended: 'expired' | 'revoked' | undefined }> {
    const valid = await this.of(address);
    return { valid, ended: valid.length > 0 ? undefined : await endedCertificateOf(this.storage, address, this.clock.now().getTime()) };
  }

  /** DER, by what the authority is called in addresses. Rejects with `authority-unknown`. */
  async authority(id: string): Promise<Buffer> {
    const found = await this.authorities.find(id);
    if (!found) throw new Fault('not-found', 'authority-unknown', 'there is no such authority');
    return found.certificate;
  }

  /** DER of the authority that signed this certificate; without one, of what would sign a person's now. */
  async issuerOf(der: Buffer | undefined): Promise<Buffer> {
    return ((der && (await this.authorities.issuerOf(der))) ?? this.authorities.serving('people')).certificate;
  }
}
