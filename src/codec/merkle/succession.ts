import type { Sha256 } from './hashing.js';
import { sameHash } from './hashing.js';
import {
  type Checkpoint,
  checkpointText,
  encodeNoteKey,
  isWrong,
  keyId,
  type NoteKey,
  openCheckpoint,
  parseNote,
  parseNoteKey,
  type VerifySignature,
} from './note.js';

const FORMER = 'ekms-former ';
const SUCCESSOR = 'ekms-successor ';

/** A key of a log, and for which sizes of it its signature counts. */
export interface KeyInForce {
  key: NoteKey;
  from: number;
  until: number;
}

/** Of one log, oldest first; the first is the oldest that is known. */
export type KeyChain = [KeyInForce, ...KeyInForce[]];
/** A key that stands alone. */
export const onlyKey = (key: NoteKey): KeyChain => [{ key, from: 0, until: Number.POSITIVE_INFINITY }];

/**
 * The text that both keys sign when one of a log takes over from another: a checkpoint with two extension lines (docs/formats/audit-log.md). Up to this size
 * the former key's signature counts, from it on the successor's.
 */
export function successionText(sha256: Sha256, head: Omit<Checkpoint, 'extensions'>, former: NoteKey, successor: NoteKey): string {
  return `${checkpointText(head)}${FORMER}${encodeNoteKey(sha256, former)}\n${SUCCESSOR}${encodeNoteKey(sha256, successor)}\n`;
}

interface Succession {
  former: NoteKey;
  successor: NoteKey;
  size: number;
}

/** What such a note says; undefined unless both keys that it names signed it. */
async function readSuccession(sha256: Sha256, verify: VerifySignature, note: string): Promise<Succession | undefined> {
  const lines = parseNote(note)?.text.split('\n') ?? [];
  const named = (what: string) => parseNoteKey(sha256, lines.find((line) => line.startsWith(what))?.slice(what.length) ?? '');
  const former = named(FORMER);
  const successor = named(SUCCESSOR);
  if (!former || !successor) return undefined;
  for (const key of [former, successor]) {
    const opened = await openCheckpoint(sha256, verify, note, key);
    if (isWrong(opened) || parseNote(note)?.text !== successionText(sha256, opened, former, successor)) return undefined;
    if (key === successor) return { former, successor, size: opened.size };
  }
  return undefined;
}

/**
 * The keys of a log, oldest first, as one that is trusted leads to the others: each succession is signed by both of its keys, so it holds whichever of
 * them is known. Of two successors of one key the first counts. Notes that no trusted key signed say nothing.
 * @param notes in the order in which they came
 */
export async function keysOfLog(sha256: Sha256, verify: VerifySignature, trusted: NoteKey, notes: readonly string[]): Promise<KeyChain> {
  const known = (await Promise.all(notes.map((note) => readSuccession(sha256, verify, note)))).filter((one) => one !== undefined);
  const chain = onlyKey(trusted);
  const isOf = (a: NoteKey, b: NoteKey) => encodeNoteKey(sha256, a) === encodeNoteKey(sha256, b);
  const isNew = (key: NoteKey) => !chain.some((one) => isOf(one.key, key));
  for (;;) {
    const last = chain.at(-1) ?? chain[0];
    const next = known.find(({ former, successor, size }) => isOf(former, last.key) && size >= last.from && isNew(successor));
    if (!next) break;
    last.until = next.size;
    chain.push({ key: next.successor, from: next.size, until: Number.POSITIVE_INFINITY });
  }
  for (;;) {
    const [first] = chain;
    const before = known.find(({ former, successor, size }) => isOf(successor, first.key) && size <= first.until && isNew(former));
    if (!before) return chain;
    first.from = before.size;
    chain.unshift({ key: before.former, from: 0, until: before.size });
  }
}

/** The checkpoint that a note holds, if the key in force at its size signed it. @returns what is wrong, in words, otherwise */
export async function openByKeys(
  sha256: Sha256,
  verify: VerifySignature,
  note: string,
  keys: KeyChain,
): Promise<Checkpoint | { wrong: string }> {
  const ids = parseNote(note)?.signatures ?? [];
  const signers = keys.filter(({ key }) => ids.some((one) => one.name === key.name && sameHash(one.keyId, keyId(sha256, key))));
  let outcome: Checkpoint | { wrong: string } = { wrong: 'the given key did not sign it, nor one that took over from it in the log' };
  for (const { key, from, until } of signers.length > 0 ? signers : keys.slice(0, 1)) {
    outcome = await openCheckpoint(sha256, verify, note, key);
    if (isWrong(outcome)) return outcome;
    if (outcome.size >= from && outcome.size <= until) return outcome;
    outcome = { wrong: `it is signed by a key that was not in force at ${outcome.size} entries` };
  }
  return outcome;
}

/** How an entry of the log names a key that is to take over: SHA-256 of its encoded form, base64url. */
export function noteKeyDigest(sha256: Sha256, key: NoteKey): string {
  const bytes = sha256(new TextEncoder().encode(encodeNoteKey(sha256, key)));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}
