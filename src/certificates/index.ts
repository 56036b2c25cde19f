/** Certificates: issue, find, revoke, publish. The signing itself, and the decision whether to, is the token process's. */

export { AddressCertificates } from './address-certificates.js';
export { CertificateDirectory } from './certificate-directory.js';
export { insertCertificate, REASON, type RevocationReason, type StoredCertificate, validCertificatesOf } from './certificate-store.js';
export { certificateTimes, pem, serialOf } from './certificate-times.js';
export { CertificatesController } from './certificates.controller.js';
export { InfrastructureCertificates, type TlsCredentials } from './infrastructure-certificates.js';
export { KeyIssuance, type KeyIssuanceSettings, type PreparedKey } from './key-issuance.js';
export { KeyRenewal, type RenewalPolicy } from './key-renewal.js';
export { KeyReplacement } from './key-replacement.js';
export { PremadeKeys } from './premade-keys.js';
export { isAhead, RevocationLists } from './revocation-lists.js';
