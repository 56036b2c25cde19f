/** The employee's keys on this device: fetched, verified, used (docs/formats/delivery.md). */
export { type Collected, collectKeys } from './collect.js';
export { acceptKey, acceptRecovered, type Receiver } from './delivery.js';
export { chainOf, type HeldKey, heldKey } from './held-key.js';
export { CannotDecrypt, idText, openerFor, openOneOf, openWrapped, type RemoteDecryption } from './opener.js';
