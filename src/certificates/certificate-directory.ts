import { type Clock, Fault, type Storage } from '../foundation/index.js';
import type { AuthorityName } from '../tokens/index.js';
import { validCertificatesOf } from './certificate-store.js';

/** Public certificates: of people by address, of authorities by name. */
export class CertificateDirectory {
  constructor(
    private readonly storage: Storage,
    private readonly authorities: Readonly<Record<AuthorityName, Buffer>>,
    private readonly clock: Clock,
  ) {}

  of(address: string): Promise<Buffer[]> {
    return validCertificatesOf(this.storage, address, this.clock.now().getTime());
  }

  /** DER. Throws `authority-unknown`. */
  authority(name: string): Buffer {
    if (!Object.hasOwn(this.authorities, name)) throw new Fault('not-found', 'authority-unknown', 'there is no such authority');
    return this.authorities[name as AuthorityName];
  }
}
