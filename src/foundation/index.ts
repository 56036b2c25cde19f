/** Foundation: the words every room speaks. Pure; enters no other room. */
export { type Address, parseAddress } from './address.js';
export { type AuditAction, inadmissible, isAuditAction, type PlainEvent, schemaVersion } from './audit-actions.js';
export { type AuditActor, type AuditAttempt, type AuditEvent, AuditLog, orRefused, type Receipt } from './audit-log.js';
export { base64url, fromBase64, sameBytes, sha256 } from './bytes.js';
export { canonicalJson, type Json } from './canonical-json.js';
export { Clock, SystemClock } from './clock.js';
export { Fault, type FaultKind, isFault } from './fault.js';
export { isId, newId, newSerial } from './ids.js';
export { OneAtATime } from './one-at-a-time.js';
export { parsed, parsedJson, shapes } from './parsed.js';
export { ROLES, type Role } from './roles.js';
export { type Reader, type Row, type SqlValue, Storage, type Unit } from './unit.js';
