/** Custody: keys are never lost. Backups for the custodians, restore, escrow, rotation of the KEK, recovery by several people. */
export {
  AcceptedTransfers,
  type FiledAcceptance,
  type Incoming,
  type IncomingLines,
  LinesWithOwners,
  ownerOf,
} from './accepted-transfers.js';
export { type Restored, settleRestored } from './after-restore.js';
export { AuthorityRetirement, type AuthorityStanding, rootFixed } from './authority-retirement.js';
export { openChain } from './backup-chain.js';
export { type Content, decodeContent, rowsOf } from './backup-content.js';
export { type OpenBackup, openBackupFile } from './backup-file.js';
export {
  type BackupSettings,
  Backups,
  CUSTODY_SETTINGS,
  type ListedBackup,
  recall,
  remember,
  type SpoiltBackup,
  spoiltBackups,
} from './backups.js';
export { DocumentRecovery } from './document-recovery.js';
export { EscrowJournal, isMounted, isSameDisk, packageBeside, prepareEscrow } from './escrow-journal.js';
export { type Former, FormerKeys } from './former-keys.js';
export {
  destroyFormer,
  forgetFormer,
  formerToken,
  isInService,
  type Place,
  rememberSwitch,
  type Switch,
  settleMigration,
} from './former-token.js';
export { type FromEscrow, takeFromEscrow } from './from-escrow.js';
export { type FromTail, takeFromTail } from './from-tail.js';
export { KekRotation, type RotationStatus } from './kek-rotation.js';
export { type ImportedKey, KeyImports } from './key-imports.js';
export { KEY_REASONS, KeyLives } from './key-lives.js';
export { type FiledTransfer, KeyTransfers } from './key-transfers.js';
export { holdAgainst, type KnownLog, readKnownLog } from './known-log.js';
export { type MinutesFacts, minutesPdf, minutesStatement } from './minutes.js';
export { RecoveriesController } from './recoveries.controller.js';
export { type NamedAgent, RecoveryAgentRegister } from './recovery-agents.js';
export { type RecoveryAsk, RecoveryCases } from './recovery-cases.js';
export { verifyStatement } from './statement.js';
export { TokenKeyRotation } from './token-key-rotation.js';
export { TransferKeys } from './transfer-keys.js';
export {
  type TransferCard,
  type TransferHead,
  type TransferLine,
  type TransferredKey,
  transferCard,
  transferEnd,
  transferHead,
  transferLine,
  transferredKey,
} from './transfer-shapes.js';
