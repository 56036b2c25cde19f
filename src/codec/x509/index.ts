/** X.509 as EKMS makes and reads it (RFC 5280, RFC 8550). Pure: signing happens wherever the `Signer` is. */
export {
  type AuthorityLimits,
  authorityCertificate,
  type CrlContent,
  certificateRevocationList,
  deliveryCertificate,
  deviceCertificate,
  type Issuer,
  type IssuerUrls,
  mailSigningCertificate,
  personCertificate,
  type Subject,
  subjectText,
  succeedingAuthority,
  tlsServerCertificate,
  validity,
} from './certificate.js';
export { readCertificationRequest } from './certification-request.js';
export type { DeviceBinding } from './device-binding.js';
export { readDeviceCertificate, type TrustedDevice } from './device-certificate.js';
export { judgeManagedDevice, type UnfitCertificate } from './managed-device.js';
export { POLICY, type Profile, USAGE } from './oids.js';
export { type RevocationList, readRevocationList, thisUpdateOf } from './revocation-list.js';
export type { Signer, SignerAlgorithm } from './signer.js';
export { isTimeStampingCertificate } from './time-stamping.js';
