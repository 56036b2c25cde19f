/** Merkle: RFC 9162 trees and their proofs, C2SP tiles, notes and checkpoints. Pure, without Node: pages run the very same code. */
export { Frontier } from './frontier.js';
export { HASH_BYTES, hashChildren, hashLeaf, hashOfNothing, hashOver, type Sha256, sameHash } from './hashing.js';
export {
  type Checkpoint,
  checkpointText,
  cosignedText,
  encodeNoteKey,
  fromBase64,
  isWrong,
  join,
  keyId,
  type NoteKey,
  type NoteSignature,
  openCheckpoint,
  parseCheckpoint,
  parseNote,
  parseNoteKey,
  signatureLine,
  toBase64,
  type VerifySignature,
} from './note.js';
export { consistencyRecipe, inclusionRecipe, proofOf, type Recipe, type Subtree } from './proofs.js';
export { pureSha256 } from './pure-sha256.js';
export { type KeyChain, keysOfLog, noteKeyDigest, onlyKey, openByKeys, successionText } from './succession.js';
export {
  bundlePath,
  decodeBundle,
  encodeBundle,
  parseTileName,
  TILE_HEIGHT,
  TILE_WIDTH,
  type Tile,
  tileName,
  tilePath,
  tilesOf,
} from './tiles.js';
export { type TreeHead, verifyConsistency, verifyInclusion } from './verify.js';
export { verifyByWebCrypto } from './web-crypto.js';
