import { readDeviceCertificate, type TrustedDevice } from '../codec/x509/index.js';
import { type AuditLog, base64url, type Clock, Fault, orRefused, type Storage, sha256 } from '../foundation/index.js';
import type { DeviceActor } from './actor.js';
import type { ClientVersions } from './client-versions.js';
import type { DeviceTrust } from './device-trust.js';
import type { Request } from './request.js';

/** Which authorities' devices count here, DER: the very same buffers until that changes. */
export interface DeviceAuthorities {
  trusted(name: 'devices'): readonly Uint8Array[];
  /** Another node may have made one meanwhile. */
  look(): Promise<void>;
}

/** Turns a TLS client certificate into a `DeviceActor`, or refuses and writes the refusal down. */
export class DeviceGuard {
  /** Signatures of the certificates that open connections show; keyed by the certificate's bytes, which live as long as the connection. */
  readonly #read = new WeakMap<Buffer, TrustedDevice & { digest: Buffer }>();

  constructor(
    private readonly trust: DeviceTrust,
    private readonly authorities: DeviceAuthorities,
    private readonly log: { storage: Storage; audit: AuditLog },
    private readonly clock: Clock,
    private readonly versions: ClientVersions,
  ) {}

  /** @param certificate DER, undefined where the client showed none. Rejects with `device-certificate-missing`, `device-untrusted`, `device-unknown`, `device-blocked`, `employee-blocked`, `client-too-old`, `device-over-budget`, `person-over-budget`. */
  admit(certificate: Buffer | undefined, request: Request): Promise<DeviceActor> {
    return orRefused(
      this.log,
      () => ({
        action: 'device.admit',
        actor: { kind: 'stranger' },
        request: request.id,
        personal: { network: request.network },
        ...(certificate ? { facts: { certificate: base64url(sha256(certificate)) } } : {}),
      }),
      () => this.#admit(certificate, request),
    );
  }

  async #admit(certificate: Buffer | undefined, request: Request): Promise<DeviceActor> {
    if (!certificate)
      throw new Fault('unauthenticated', 'device-certificate-missing', 'this route wants the certificate of an enrolled device');
    const read = this.#known(certificate) ?? (await this.#verify(certificate));
    const now = this.clock.now().getTime();
    if (now < read.notBefore.getTime() || now >= read.notAfter.getTime())
      throw new Fault('forbidden', 'device-untrusted', 'the device certificate is not valid now');
    const known = await this.trust.find(read.digest);
    if (!known || known.id !== read.device || known.employee !== read.employee)
      throw new Fault('forbidden', 'device-unknown', 'this device is not enrolled here');
    if (known.state !== 'active') throw new Fault('forbidden', 'device-blocked', `this device is ${known.state}; enrol it again`);
    if (known.appState === 'stopped')
      throw new Fault('forbidden', 'device-blocked', 'the client of this device was withdrawn; enrol it again');
    if (known.employeeState !== 'active')
      throw new Fault('forbidden', 'employee-blocked', 'this person has left; keys are not handed out any more');
    this.versions.require(known.platform, request.client);
    if (known.frozen === 'device')
      throw new Fault('forbidden', 'device-over-budget', 'this device asked for far more than usual; an administrator must look at it');
    if (known.frozen === 'person')
      throw new Fault('forbidden', 'person-over-budget', 'your devices asked for far more than usual; an administrator must look at it');
    return { kind: 'device', id: known.id, employee: known.employee, app: known.app, certificate, deliveryKey: known.deliveryKey, request };
  }

  /** A connection may outlive the authority that let it in. */
  #known(certificate: Buffer): (TrustedDevice & { digest: Buffer }) | undefined {
    const known = this.#read.get(certificate);
    return known && this.authorities.trusted('devices').includes(known.authority) ? known : undefined;
  }

  async #verify(certificate: Buffer): Promise<TrustedDevice & { digest: Buffer }> {
    const read = { ...(await this.#judge(certificate)), digest: sha256(certificate) };
    this.#read.set(certificate, read);
    return read;
  }

  async #judge(certificate: Buffer): Promise<TrustedDevice> {
    try {
      return readDeviceCertificate(certificate, this.authorities.trusted('devices'));
    } catch {
      await this.authorities.look();
      return readDeviceCertificate(certificate, this.authorities.trusted('devices'));
    }
  }
}
