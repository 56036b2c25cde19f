import type { Source } from './ports.js';
import type { Value } from './values.js';

/** An object as it stands in the file; of a stream, `data` is where its bytes are, encrypted where the document is. */
export interface Stored {
  number: number;
  generation: number;
  value: Value;
  data?: { at: number; length: number };
  /** It stood in an object stream: its strings are not encrypted one by one. */
  isPacked: boolean;
}

/** Content of a stream, piece by piece. */
export interface Content {
  length: number;
  pieces: Iterable<Buffer>;
}

/** What opens an encrypted document; see security/opening.ts. */
export interface Decryption {
  /** Strings and streams that did not decrypt well: damaged, or changed on the way. */
  readonly damagedParts: number;
  /** Decrypts the strings of an object in place. */
  openStrings(object: Stored): void;
  /** The content of a structural stream. */
  openWhole(object: Stored, bytes: Buffer): Buffer;
  openStream(object: Stored & { data: { at: number; length: number } }, source: Source): Content;
}
