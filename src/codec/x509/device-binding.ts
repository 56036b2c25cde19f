import { base64url, Fault, fromBase64, isId } from '../../foundation/index.js';

/** What a device certificate says besides its key. `device` and `employee` are UUIDs, `delivery` the SHA-256 of the delivery key's SPKI. */
export interface DeviceBinding {
  device: string;
  employee: string;
  delivery: Buffer;
}

/**
 * The one URI in the certificate's subjectAltName: `ekms:device:<device>:<employee>:<delivery, base64url>` (docs/formats/enrolment.md). A URI
 * and no extension of our own, because every tool shows it and libraries misspell object identifiers of arcs as large as ours.
 */
export const deviceBindingUri = ({ device, employee, delivery }: DeviceBinding): string =>
  `ekms:device:${device}:${employee}:${base64url(delivery)}`;

/** Strict: one spelling. Throws `device-untrusted`. */
export function parseDeviceBinding(uri: string): DeviceBinding {
  const [scheme, kind, device = '', employee = '', digest = '', ...more] = uri.split(':');
  const delivery = fromBase64(digest, 'base64url');
  if (scheme !== 'ekms' || kind !== 'device' || !isId(device) || !isId(employee) || delivery?.length !== 32 || more.length > 0)
    throw new Fault('forbidden', 'device-untrusted', 'the device certificate carries no readable device binding');
  return { device, employee, delivery };
}
