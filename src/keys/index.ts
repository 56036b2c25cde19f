/** Keys: from the ready pool to an employee, and from the vault to that employee's devices. */

export { KeyStore, type StoredKey } from './key-store.js';
export { type DeliveredKey, KeyCertificates, KeyVault, type RemoteDecryption } from './key-vault.js';
export { KeysController } from './keys.controller.js';
export { decryptionRequest, receipt } from './keys-shapes.js';
export { endKeksBefore, requireLivingKek } from './living-keks.js';
export { type PoolRow, type PoolSettings, pairOf, ReadyPool } from './ready-pool.js';
export { type GivenCertificate, type GivenKey, type LifeElsewhere, OnePlace, SecondPlace, type TakenKey } from './second-place.js';
