/** Certificates: issue, find, revoke, publish. The signing itself, and the decision whether to, is the token process's. */
export { type StoredCertificate, type RevocationReason, insertCertificate, validCertificatesOf } from './certificate-store.js';
export { certificateTimes, pem } from './certificate-times.js';
export { InfrastructureCertificates, type TlsCredentials } from './infrastructure-certificates.js';
export { KeyIssuance, type KeyIssuanceSettings, type PreparedKey } from './key-issuance.js';
export { AUTHORITIES, RevocationLists } from './revocation-lists.js';
export { CertificateDirectory } from './certificate-directory.js';
export { CertificatesController } from './certificates.controller.js';
export { KeyReplacement } from './key-replacement.js';
