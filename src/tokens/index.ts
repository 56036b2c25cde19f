/** Tokens: the only way to keys. `Token` is what rooms above see; behind it stands a process of its own that decides releases by itself. */
export type { AuthoritySettings } from './authorities.js';
export type { KeyKind, OaepHash, SigningAlgorithm, SigningKeyName, Suite, TransportScheme } from './hsm.js';
export { pinPlace } from './pin-place.js';
export { tokenSocket } from './process/settings-file.js';
export { unseal } from './process/unseal.js';
export {
  type BindingRecord,
  type EnrolmentRecord,
  type KeyMode,
  type KeyRecord,
  type KeyState,
  NEXT_KEY_STATE,
  type PoolRecord,
  READABLE,
  type Sealed,
} from './records.js';
export {
  type AuthorityName,
  type AuthorityUrls,
  type CrlEntry,
  type DeviceEvidence,
  type InfrastructureProfile,
  type Release,
  type SigningKeyInfo,
  Token,
  type TokenFinding,
  type TokenHealth,
} from './token.js';
export { TokenProcess } from './token-client.js';
