import { ExtendedKeyUsage } from './library.js';

/** The arc of EKMS: a UUID (382c972b-12bc-4d8d-a478-defc0312369a) under 2.25, which needs no registration (ITU-T X.667). docs/formats/oids.md */
const ARC = '2.25.74668294882190335279802394242528196250';

/** Certificate policies: one per profile, so that no certificate of ours passes for another kind. */
export const POLICY = {
  person: `${ARC}.1.1`,
  device: `${ARC}.1.2`,
  'tls-server': `${ARC}.1.3`,
  audit: `${ARC}.1.4`,
  'mail-signing': `${ARC}.1.5`,
  delivery: `${ARC}.1.6`,
} as const;
export type Profile = keyof typeof POLICY;

/** RFC 5280 §4.2.1.12, and one of our own for the key that signs deliveries. */
export const USAGE = {
  serverAuth: ExtendedKeyUsage.serverAuth,
  clientAuth: ExtendedKeyUsage.clientAuth,
  emailProtection: ExtendedKeyUsage.emailProtection,
  timeStamping: ExtendedKeyUsage.timeStamping,
  ocspSigning: ExtendedKeyUsage.ocspSigning,
  delivery: POLICY.delivery,
} as const;
