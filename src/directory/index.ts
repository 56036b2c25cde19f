/** Directory: the organisation's own people (LDAP, Active Directory, a CSV file), and EKMS's people kept as they are there. */
export { CsvDirectory } from './csv-directory.js';
export { askedOutside, Directory, type DirectoryEntry, mailAddress } from './directory.js';
export { DirectorySync, type SyncReport, type SyncSettings } from './directory-sync.js';
export { LdapDirectory, type LdapSettings } from './ldap-directory.js';
export { MemoryDirectory } from './memory-directory.js';
export { type KnownPerson, type Plan, plan, type Step } from './plan.js';
export { readLastSync, type SyncOutcome } from './sync-record.js';
