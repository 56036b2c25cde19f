/**
 * Storage: one database, one writer, migrations only. `openStorage` is the way in; whatever else a room needs it says in SQL through
 * `Storage` of foundation. No other transaction may be opened beside the writer's (docs/adr/0002).
 *
 * On a hot path ask one table at a time, or by scalar subselects, and sort here: SQLite plans a JOIN or an ORDER BY anew each time its
 * parameters are bound (https://sqlite.org/c3ref/prepare.html, "recompiled"), which takes three times as long as running it.
 */

export { holdAlone } from './home-lock.js';
export { fulfil, type Intent, type IntentKind, intend, openIntents } from './intents.js';
export { Nodes } from './nodes.js';
export { type DatabaseState, databaseState, openReader, openStorage, type StorageSettings, withFreshSchema } from './open-storage.js';
export { replaceFile } from './replace-file.js';
export { FILLED, fillDatabase, openSnapshot, type Snapshot, type TableRows } from './snapshot.js';
export type { SqlStorage } from './sql-storage.js';
export { syncFolder } from './sync-folder.js';
