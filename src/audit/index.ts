/** Audit: fills foundation's `AuditLog` and reads the log back. No room enters here but to read; they append through the port. */

export { keepAuditKey, keepWitnessKey, renameAuditKey } from './audit-key.js';
export { AuditKeyRotation } from './audit-key-rotation.js';
export { AuditLogController } from './audit-log.controller.js';
export { AuditReader, type LogEntry } from './audit-reader.js';
export { BoundedAuditLog } from './bounded-audit-log.js';
export { checkLog, type LogCheck } from './check-log.js';
export { Checkpoints } from './checkpoints.js';
export { ClockWatch } from './clock-watch.js';
export { DurableAuditLog } from './durable-audit-log.js';
export { type EntryBody, leafHash } from './entry.js';
export { type Erased, Erasure } from './erasure.js';
export { EvidenceDesk } from './evidence/evidence-desk.js';
export { exportFolder, writeExportFile } from './export-files.js';
export { KeyUsesController } from './key-uses.controller.js';
export { KeyUses } from './key-uses.js';
export { goOnRestored, LogAcceptances, laterOrigin } from './log-acceptances.js';
export { LogBook, type ReadingBy } from './log-book.js';
export { copyOfLog, LogCopy } from './log-copy.js';
export { LogTree } from './log-tree.js';
export { FileSink } from './out/file-sink.js';
export { cefForm, jsonForm, type Origin } from './out/forms.js';
export { Forwarder, type ForwardingLimits, type SinkState } from './out/forwarder.js';
export { OtlpSink } from './out/otlp-sink.js';
export { type Delivered, type LineForm, Sink } from './out/sink.js';
export { SyslogSink } from './out/syslog-sink.js';
export { type Pruned, Pruning, prunedUntil } from './pruning.js';
export { AuditReports, REPORTS, type ReportName } from './reports/audit-reports.js';
export { SealedEntries, Veil } from './sealed-entries.js';
export { AuditSearchController } from './search/audit-search.controller.js';
export { AuditSearch } from './search/audit-search.js';
export {
  FILTER_QUESTION,
  REPORT_QUESTION,
  reportQuestion,
  SEARCH_QUESTION,
  searchQuestion,
  shownPage,
  shownReport,
} from './search/question.js';
export { SearchIndex } from './search/search-index.js';
export { SearchThread } from './search/search-thread.js';
export { type Breach, LogStanding } from './standing.js';
export { TileReader } from './tile-reader.js';
export { C2spWitness } from './witness/c2sp-witness.js';
export { FolderWitness } from './witness/folder-witness.js';
export { HeadArchive, type HeadMail } from './witness/head-archive.js';
export { stampedDigest, TimeStamps } from './witness/time-stamps.js';
export { type ShownHead, type Testimony, Witness } from './witness/witness.js';
export { WitnessedLogs } from './witness/witnessed-logs.js';
export { Witnesses, type WitnessState } from './witness/witnesses.js';
export { WitnessingController } from './witness/witnessing.controller.js';
