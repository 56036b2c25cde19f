import { HASH_BYTES, type Sha256, sameHash } from './hashing.js';
import type { TreeHead } from './verify.js';

/** C2SP signed notes and checkpoints: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint. */

const utf8 = new TextEncoder();
/** Signature types of signed-note that we know: Ed25519; ECDSA P-256; an Ed25519 cosignature with its time (https://c2sp.org/tlog-cosignature). */
const NOTE_KEY_TYPE = { ed25519: 1, 'ecdsa-p256': 2, cosignature: 4 } as const;

export interface NoteKey {
  name: string;
  type: keyof typeof NOTE_KEY_TYPE;
  /** Ed25519: its 32 bytes. ECDSA: SubjectPublicKeyInfo, DER. */
  publicKey: Uint8Array;
}

export interface NoteSignature {
  name: string;
  keyId: Uint8Array;
  signature: Uint8Array;
}

export interface SignedNote {
  /** Ends with a newline. */
  text: string;
  signatures: NoteSignature[];
}

export interface Checkpoint extends TreeHead {
  origin: string;
  /** Lines after the root; none in ours. */
  extensions: string[];
}

/** The four bytes that name a key in a signature line. */
export function keyId(sha256: Sha256, { name, type, publicKey }: NoteKey): Uint8Array {
  if (type === 'ecdsa-p256') return sha256(publicKey).slice(0, 4);
  return sha256(join(utf8.encode(`${name}\n`), Uint8Array.of(NOTE_KEY_TYPE[type]), publicKey)).slice(0, 4);
}

/** `name+hash+key`, as Go's sumdb/note and C2SP write a verifier's key. */
export function encodeNoteKey(sha256: Sha256, key: NoteKey): string {
  return `${key.name}+${hex(keyId(sha256, key))}+${toBase64(join(Uint8Array.of(NOTE_KEY_TYPE[key.type]), key.publicKey))}`;
}

/** Undefined unless it is the one spelling of a key of a type that we know. */
export function parseNoteKey(sha256: Sha256, text: string): NoteKey | undefined {
  const [, name = '', , encoded = ''] = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)$/.exec(text) ?? [];
  const bytes = fromBase64(encoded);
  const type = (Object.keys(NOTE_KEY_TYPE) as NoteKey['type'][]).find((one) => NOTE_KEY_TYPE[one] === bytes?.[0]); // the table's own names
  if (!bytes || !type) return undefined;
  const key = { name, type, publicKey: bytes.slice(1) };
  return encodeNoteKey(sha256, key) === text && (type === 'ecdsa-p256' || key.publicKey.length === 32) ? key : undefined;
}

export const checkpointText = ({ origin, size, root }: Omit<Checkpoint, 'extensions'>): string => `${origin}\n${size}\n${toBase64(root)}\n`;

/** What a witness signs over the text of a checkpoint (https://c2sp.org/tlog-cosignature). No checkpoint reads so: its second line is a size. */
export const cosignedText = (seconds: number | bigint, text: string): string => `cosignature/v1\ntime ${seconds}\n${text}`;

export const signatureLine = ({ name, keyId, signature }: NoteSignature): string => `— ${name} ${toBase64(join(keyId, signature))}\n`;

/** Undefined unless it is a note in its one spelling, with up to 16 signatures. */
export function parseNote(note: string): SignedNote | undefined {
  const split = note.lastIndexOf('\n\n');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: signed-note forbids them
  if (split < 0 || /[\x00-\x09\x0b-\x1f\x7f]/.test(note)) return undefined;
  const lines = note.slice(split + 2).split('\n');
  if (lines.pop() !== '' || lines.length === 0 || lines.length > 16) return undefined;
  const signatures: NoteSignature[] = [];
  for (const line of lines) {
    const [, name = '', encoded = ''] = /^— ([^+\s]+) ([A-Za-z0-9+/]+=*)$/.exec(line) ?? [];
    const bytes = fromBase64(encoded);
    if (!bytes || bytes.length <= 4) return undefined;
    signatures.push({ name, keyId: bytes.slice(0, 4), signature: bytes.slice(4) });
  }
  return { text: note.slice(0, split + 1), signatures };
}

/** Undefined unless the text is a checkpoint in its one spelling. */
export function parseCheckpoint(text: string): Checkpoint | undefined {
  const lines = text.split('\n');
  if (lines.pop() !== '') return undefined;
  const [origin = '', decimal = '', encoded = '', ...extensions] = lines;
  const root = fromBase64(encoded);
  const size = Number(decimal);
  if (origin === '' || !/^(0|[1-9]\d{0,15})$/.test(decimal) || !Number.isSafeInteger(size) || root?.length !== HASH_BYTES) return undefined;
  return extensions.includes('') ? undefined : { origin, size, root, extensions };
}

/** Whether `signature` is that of `key` over `message`. Ed25519, or ECDSA P-256 in DER. By WebCrypto, which Node and browsers have. */
export type VerifySignature = (key: NoteKey, message: Uint8Array, signature: Uint8Array) => Promise<boolean>;

/**
 * The checkpoint that a note holds, if `key` signed it. Signatures by other keys are ignored, as the specification has it.
 * @returns what is wrong, in words, otherwise
 */
export async function openCheckpoint(
  sha256: Sha256,
  verify: VerifySignature,
  note: string,
  key: NoteKey,
): Promise<Checkpoint | { wrong: string }> {
  const signed = parseNote(note);
  if (!signed) return { wrong: 'it is no signed note' };
  const id = keyId(sha256, key);
  const mine = signed.signatures.filter((one) => one.name === key.name && sameHash(one.keyId, id));
  if (mine.length === 0) return { wrong: 'the given key did not sign it' };
  for (const { signature } of mine)
    if (!(await verify(key, utf8.encode(signed.text), signature))) return { wrong: 'its signature does not hold' };
  const checkpoint = parseCheckpoint(signed.text);
  if (!checkpoint) return { wrong: 'it holds no checkpoint' };
  return checkpoint.origin === key.name ? checkpoint : { wrong: `it speaks of another log, ${checkpoint.origin}` };
}

export const isWrong = (outcome: Checkpoint | { wrong: string }): outcome is { wrong: string } => 'wrong' in outcome;

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** RFC 4648 §4, with padding. Without Buffer: this runs in browsers too. */
export const toBase64 = (bytes: Uint8Array): string => btoa(String.fromCharCode(...bytes));

/** Undefined unless it is the one spelling of its bytes. */
export function fromBase64(text: string): Uint8Array | undefined {
  try {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return toBase64(bytes) === text ? bytes : undefined;
  } catch {
    return undefined;
  }
}
