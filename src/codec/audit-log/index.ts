/** Judging an exported audit log. Pure, without Node: a page runs the same code as `ekms audit verify`. */

export { type ExportSource, successionPath } from './keys-of-export.js';
export { type Damage, type DamageKind, type Verdict, type VerifyParts, verifyExport } from './verify.js';
export { type EvidenceLine, type EvidenceManifest, type EvidenceProofs, spelled, verifyEvidence } from './verify-evidence.js';
