/** What the guard asks about a client certificate. Devices fills this port. */
export interface KnownDevice {
  id: string;
  employee: string;
  deliveryKey: Buffer;
  platform: string;
  /** The app credential that it was enrolled with; `stopped`: it was revoked together with its devices. */
  app: string;
  appState: 'active' | 'revoked' | 'stopped' | null;
  state: 'active' | 'frozen' | 'revoked';
  employeeState: 'active' | 'stopped';
  /** What a budget has frozen: this device, its person, or neither. */
  frozen: 'device' | 'person' | null;
}

export abstract class DeviceTrust {
  /** By SHA-256 of the certificate's DER. */
  abstract find(certificateDigest: Buffer): Promise<KnownDevice | undefined>;
}
