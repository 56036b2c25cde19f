import { FirstTables1795500000000 } from './0001-first-tables.js';
import { NetworkPolicies1795510000000 } from './0010-network-policies.js';
import { Administrators1795520000000 } from './0020-administrators.js';
import { Requests1795521000000 } from './0021-requests.js';
import { Directory1795530000000 } from './0030-directory.js';
import { StaffSignIn1795531000000 } from './0031-staff-sign-in.js';
import { Budgets1795540000000 } from './0040-budgets.js';
import { AppReleases1795541000000 } from './0041-app-releases.js';
import { DeviceTrust1795542000000 } from './0042-device-trust.js';
import { RegisteredDevices1795543000000 } from './0043-registered-devices.js';
import { AuditTree1795550000000 } from './0050-audit-tree.js';
import { KeyUses1795551000000 } from './0051-key-uses.js';
import { AuditSearch1795555000000 } from './0055-audit-search.js';
import { AuditRetention1795556000000 } from './0056-audit-retention.js';
import { SealedEntries1795557000000 } from './0057-sealed-entries.js';
import { WitnessedHeads1795558000000 } from './0058-witnessed-heads.js';
import { Nodes1795559000000 } from './0059-nodes.js';
import { AuditTimestamps1795560000000 } from './0060-audit-timestamps.js';
import { AuditPostings1795563000000 } from './0063-audit-postings.js';
import { Recovery1795570000000 } from './0070-recovery.js';
import { RecoveryAgents1795575000000 } from './0075-recovery-agents.js';
import { ImportedKeys1795576000000 } from './0076-imported-keys.js';
import { KeyLives1795577000000 } from './0077-key-lives.js';
import { KeyRenewal1795582000000 } from './0082-key-renewal.js';
import { SharedMailboxes1795583000000 } from './0083-shared-mailboxes.js';
import { QuorumKeys1795585000000 } from './0085-quorum-keys.js';
import { Transfers1795587000000 } from './0087-transfers.js';
import { NoAuditHead1795588000000 } from './0088-no-audit-head.js';
import { TransferAcceptances1795594000000 } from './0094-transfer-acceptances.js';

/** In order. A landed migration is never edited; a change is a new one. */
export const migrations = [
  FirstTables1795500000000,
  NetworkPolicies1795510000000,
  Administrators1795520000000,
  Requests1795521000000,
  Directory1795530000000,
  StaffSignIn1795531000000,
  Budgets1795540000000,
  AppReleases1795541000000,
  Recovery1795570000000,
  AuditTree1795550000000,
  KeyUses1795551000000,
  AuditSearch1795555000000,
  AuditRetention1795556000000,
  SealedEntries1795557000000,
  DeviceTrust1795542000000,
  RegisteredDevices1795543000000,
  RecoveryAgents1795575000000,
  ImportedKeys1795576000000,
  KeyLives1795577000000,
  KeyRenewal1795582000000,
  WitnessedHeads1795558000000,
  AuditPostings1795563000000,
  Nodes1795559000000,
  Transfers1795587000000,
  AuditTimestamps1795560000000,
  SharedMailboxes1795583000000,
  QuorumKeys1795585000000,
  NoAuditHead1795588000000,
  TransferAcceptances1795594000000,
] as const;
