/** What the guard asks about a client certificate. Devices fills this port. */
export interface KnownDevice {
  id: string;
  employee: string;
  deliveryKey: Buffer;
  state: 'active' | 'frozen' | 'revoked';
  employeeState: 'active' | 'stopped';
}

export abstract class DeviceTrust {
  /** By SHA-256 of the certificate's DER. */
  abstract find(certificateDigest: Buffer): Promise<KnownDevice | undefined>;
}
