/**
 * PDF documents (ISO 32000-2) encrypted to people: reading where they lie, rewriting from a source to a sink in bounded memory, public-key security. Pure:
 * bytes come and go by two ports.
 */
export type { EnvelopeForm } from '../cms/index.js';
export { fileSink, fileSource } from './descriptors.js';
export { LIMITS } from './limits.js';
export { filtersFor, type Lock, lockOf, type NamedReader, namedReaders } from './lock.js';
export { PdfFile } from './pdf-file.js';
export type { Sink, Source } from './ports.js';
export { type RewritePlan, type Rewritten, rewrite, type Warning } from './rewrite.js';
export { Opening } from './security/opening.js';
export {
  type Permission,
  type Preset,
  parsePermissions,
  permissionBits,
  permissionsOf,
} from './security/permissions.js';
export { type Components, type NewSecurity, type PublicKeyLock, publicKeySecurity, type Readers } from './security/public-key.js';
