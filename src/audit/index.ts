/** Audit: fills foundation's `AuditLog` and reads the log back. No room enters here but to read; they append through the port. */

export { AuditReader, type LogEntry } from './audit-reader.js';
export { BoundedAuditLog } from './bounded-audit-log.js';
export { checkLog, type LogCheck } from './check-log.js';
export { DurableAuditLog } from './durable-audit-log.js';
export { type EntryBody, leafHash } from './entry.js';
