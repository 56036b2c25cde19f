/** Tokens: the only way to keys. `Token` is what rooms above see; behind it stands a process of its own that decides releases by itself. */
export { ACCEPTANCE_LIFE, acceptanceBytes, type LogAcceptance, logAcceptance } from './acceptance.js';
export { type AuthoritySettings, authorityId, generationOf, issuerAmong, urlsOf } from './authorities.js';
export { Authorities } from './authority-list.js';
export { completed, contradicted, type HeldGeneration, heldGenerations } from './custody/completed.js';
export { type CustodyPackage, encodePackage, keksOf, parsePackage, type SealedPackage } from './custody/package.js';
export { type Custodian, type CustodyPlan, custodyPlanShape } from './custody/seal-share.js';
export { parseShare } from './custody/shares.js';
export {
  type KeyKind,
  type OaepHash,
  SIGNING_KEYS,
  type SigningAlgorithm,
  type SigningKeyName,
  type Suite,
  type TransportScheme,
} from './hsm.js';
export { Journal } from './journal.js';
export { kwp } from './key-wrap.js';
export { auditNoteKey } from './note-key.js';
export { pinPlace } from './pin-place.js';
export { readTokenFile, tokenSocket } from './process/settings-file.js';
export { endRestore, unfinishedRestore } from './process/token-state.js';
export { unseal } from './process/unseal.js';
export {
  AGENTS_ID,
  type AgentsRecord,
  type BindingRecord,
  type EnrolmentRecord,
  type HeldMode,
  type KeyMode,
  type KeyRecord,
  type KeyState,
  type MemberRecord,
  NEXT_KEY_STATE,
  type PoolRecord,
  READABLE,
  type Sealed,
  type TransferKeyRecord,
} from './records.js';
export {
  type AgentList,
  type Appointment,
  agentList,
  agentsOf,
  applianceName,
  appointment,
  appointmentBytes,
  isApproval,
  READING_DAYS,
  RECOVERY_DAYS,
  RECOVERY_REASONS,
  type RecoveryAgents,
  type RecoveryApproval,
  type RecoveryRequest,
  recoveryBytes,
  recoveryDigest,
  recoveryRequest,
} from './recovery.js';
export {
  type AdoptedKey,
  type AdoptTo,
  AUTHORITY_NAMES,
  type AuditHead,
  type Authority,
  type AuthorityName,
  type AuthorityUrls,
  type CrlEntry,
  type DeviceEvidence,
  type ForeignKeyProblem,
  type ForeignKeys,
  type InfrastructureProfile,
  RETIRED,
  type Release,
  type RetiredName,
  type SigningKeyInfo,
  type StatementKind,
  SUCCEEDING_AUTHORITIES,
  SUCCESSORS,
  type SucceedingAuthority,
  type SuccessorName,
  Token,
  type TokenFinding,
  type TokenHealth,
  type TokenKeyInfo,
  type TransferKey,
} from './token.js';
export { TokenProcess } from './token-client.js';
export {
  TRANSFER_DAYS,
  TRANSFER_REASONS,
  type TransferRequest,
  transferBytes,
  transferRequest,
} from './transfer.js';
export {
  type AcceptedLine,
  acceptedLeaf,
  type TransferAcceptance,
  transferAcceptance,
  transferAcceptanceBytes,
} from './transfer-acceptance.js';
