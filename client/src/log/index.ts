/** The appliance's log as far as it is about the employee's keys: read, and believed only where it proves itself (docs/formats/uses.md). */
export { CHECKS, type Evidence, type Finding, type ProvedUse } from './checks.js';
export { type LogReading, readUses } from './read-uses.js';
