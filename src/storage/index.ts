/**
 * Storage: one database, one writer, migrations only. `openStorage` is the way in; whatever else a room needs it says in SQL through
 * `Storage` of foundation. No other transaction may be opened beside the writer's (docs/adr/0002).
 */

export { fulfil, type Intent, type IntentKind, intend, openIntents } from './intents.js';
export { openStorage, type StorageSettings } from './open-storage.js';
export type { SqlStorage } from './sql-storage.js';
