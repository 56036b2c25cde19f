/** What a device keeps, encrypted at rest (docs/formats/mesign-store.md). */
export { type Device, deviceOf } from './device.js';
export { firstLine, reason, writeWhole } from './files.js';
export type { KeptKey, State } from './state.js';
export { type KeptReceipt, type KnownLog, Store } from './store.js';
