/** X.509 for a relying party (RFC 5280): read, chain to the one pinned root, ask for a certificate. Pure. */
export { type Certificate, readCertificate, readPem, subjectKeyIdentifier } from './certificate.js';
export { nameText } from './name-text.js';
export { POLICY, USAGE } from './oids.js';
export { chainToRoot, isSelfSigned } from './path.js';
export { certificationRequest } from './request.js';
export { openStatement } from './statement.js';
