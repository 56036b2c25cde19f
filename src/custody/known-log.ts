import { hash } from 'node:crypto';
import { type ExportSource, verifyExport } from '../codec/audit-log/index.js';
import {
  bundlePath,
  type Checkpoint,
  decodeBundle,
  Frontier,
  HASH_BYTES,
  hashLeaf,
  isWrong,
  type NoteKey,
  openCheckpoint,
  parseCheckpoint,
  parseNote,
  type Sha256,
  sameHash,
  TILE_WIDTH,
  type TreeHead,
  tilePath,
  verifyByWebCrypto,
} from '../codec/merkle/index.js';
import { Fault, type Storage } from '../foundation/index.js';
import { auditNoteKey, type CustodyPackage } from '../tokens/index.js';

const sha256: Sha256 = (bytes) => hash('sha256', bytes, 'buffer');
const utf8 = new TextDecoder();
/** Leaves read at a time. */
const PAGE = 4_096;

/** An entry after the backup, as far as a restore does something about it. */
export interface TailEntry {
  action: string;
  outcome: string;
  reason?: string;
  subject?: string;
  employee?: string;
  device?: string;
  key?: string;
  facts?: Record<string, string | number | boolean>;
}

/** What is known of an appliance's log from outside of its backup. */
export interface KnownLog {
  /** Remembered heads, signed by this appliance's token, smallest first. */
  heads: readonly Checkpoint[];
  /** Entries after the backup, in their order. */
  tail: readonly TailEntry[];
  /** There is a remembered head as new as the backup, and the tail reaches it: all that happened up to it is known. */
  isComplete: boolean;
  /** Entries that were signed after the backup. */
  lost: number;
}

/**
 * Reads remembered heads and an export of the log (docs/formats/audit-export.md), before anything is made of a backup. Throws `head-foreign`, `tail-damaged`.
 * @param entries of the log in the backup
 * @param given.isCopy the tail is what follows the log by itself, not what somebody took when all had come to its end: never complete
 */
export async function readKnownLog(
  given: { heads: readonly string[]; tail?: ExportSource | undefined; isCopy?: boolean },
  { keys }: Pick<CustodyPackage, 'keys'>,
  entries: number,
): Promise<KnownLog> {
  const heads: Checkpoint[] = [];
  for (const note of given.heads) heads.push((await openHead(note, keys)).head);
  heads.sort((a, b) => a.size - b.size);
  const newest = heads.at(-1);
  if (!given.tail) return { heads, tail: [], isComplete: false, lost: Math.max(0, (newest?.size ?? 0) - entries) };
  const note = utf8.decode((await given.tail.read('checkpoint')) ?? new Uint8Array());
  const end = parseCheckpoint(parseNote(note)?.text ?? '');
  // Any of the log's keys: a later one that took over since the backup, the export leads to by itself.
  const [key] = end ? keysOf(end.origin, keys) : [];
  if (!end || !key) throw foreign('it is no signed checkpoint');
  // A copy that follows the log is seconds behind it: a head that is newer was signed all the same, and says only that more is lost.
  const within = given.isCopy
    ? given.heads.filter((one) => (parseCheckpoint(parseNote(one)?.text ?? '')?.size ?? 0) <= end.size)
    : given.heads;
  const { damages } = await verifyExport(given.tail, { sha256, verify: verifyByWebCrypto, key, heads: [...within] });
  const [first] = damages;
  if (first?.kind === 'checkpoint') throw foreign(first.words);
  if (first) throw new Fault('conflict', 'tail-damaged', `the exported log is not whole: ${first.words}`);
  const tail: TailEntry[] = [];
  const tree = new Frontier(sha256);
  const known = [...heads, end];
  for (let at = 0; at < end.size; at += TILE_WIDTH) {
    const place = { level: 0, index: at / TILE_WIDTH, width: Math.min(TILE_WIDTH, end.size - at) };
    // verifyExport found each entry to be one that was signed, and for pruned ones their hashes.
    const bundle = await given.tail.read(bundlePath(place));
    const there = bundle && decodeBundle(bundle).entries;
    const leaves = there?.map((bytes) => hashLeaf(sha256, bytes)) ?? hashesOf((await given.tail.read(tilePath(place))) ?? new Uint8Array());
    for (const [n, leaf] of leaves.entries()) {
      if (tree.size >= entries && there?.[n]) tail.push(JSON.parse(utf8.decode(there[n])) as TailEntry);
      tree.append(leaf);
      // So that backup and export are of one history, also where the export goes on after the backup.
      if (tree.size === entries) known.push({ ...end, size: entries, root: tree.root() });
    }
  }
  return {
    heads: known.sort((a, b) => a.size - b.size),
    tail,
    isComplete: !given.isCopy && newest !== undefined && newest.size >= entries,
    lost: Math.max(0, end.size - entries, (newest?.size ?? 0) - entries),
  };
}

const hashesOf = (tile: Uint8Array): Uint8Array[] =>
  Array.from({ length: tile.length / HASH_BYTES }, (_, n) => tile.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES));

/** Whether the log that came out of a backup is the one that was signed, as far as both reach. Throws `head-forked`. */
export async function holdAgainst(storage: Pick<Storage, 'all'>, heads: readonly TreeHead[]): Promise<void> {
  const tree = new Frontier(sha256);
  const due = heads.toSorted((a, b) => a.size - b.size);
  for await (const leaf of leavesOf(storage)) {
    if (due.length === 0) return;
    tree.append(leaf);
    while (due[0]?.size === tree.size)
      if (!sameHash(due.shift()?.root ?? new Uint8Array(), tree.root()))
        throw new Fault(
          'conflict',
          'head-forked',
          `the log in this backup is not the one whose ${tree.size} entries were signed: backup or remembered head belong to another history`,
        );
  }
}

/** Of pruned entries out of the tiles, which stay. */
async function* leavesOf(storage: Pick<Storage, 'all'>): AsyncGenerator<Buffer> {
  for (let at = 0; ; ) {
    const rows = await storage.all<{ idx: number; leaf: Buffer }>(
      'SELECT idx, leaf FROM audit_entries WHERE idx >= ? ORDER BY idx LIMIT ?',
      [at, PAGE],
    );
    const [first] = rows;
    if (!first) return;
    for (; at < first.idx; at += TILE_WIDTH) {
      const [tile] = await storage.all<{ hashes: Buffer }>('SELECT hashes FROM audit_tiles WHERE level = 0 AND n = ?', [at / TILE_WIDTH]);
      if (tile?.hashes.length !== TILE_WIDTH * HASH_BYTES)
        throw new Fault('conflict', 'log-broken', `the log lacks its entries from ${at} on`);
      for (let n = 0; n < TILE_WIDTH; n++) yield tile.hashes.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES);
    }
    for (const { leaf } of rows) yield leaf;
    at += rows.length;
  }
}

const foreign = (wrong: string): Fault =>
  new Fault('conflict', 'head-foreign', `a remembered head was not signed by the appliance of this backup: ${wrong}`);

/** By whichever of the log's keys that the custodians of this backup hold. */
async function openHead(note: string, keys: CustodyPackage['keys']): Promise<{ head: Checkpoint; key: NoteKey }> {
  const origin = parseCheckpoint(parseNote(note)?.text ?? '')?.origin;
  let wrong = 'it is no signed checkpoint';
  for (const key of origin === undefined ? [] : keysOf(origin, keys)) {
    const opened = await openCheckpoint(sha256, verifyByWebCrypto, note, key);
    if (!isWrong(opened)) return { head: opened, key };
    wrong = opened.wrong;
  }
  throw foreign(wrong);
}

function keysOf(origin: string, keys: CustodyPackage['keys']): NoteKey[] {
  const audit = keys.flatMap(({ label, kind, publicKey }) =>
    /^ekms\/sign\/audit(\/\d+)?$/.test(label) && publicKey
      ? [auditNoteKey(origin, { algorithm: kind === 'ed25519' ? 'ed25519' : 'ecdsa-p256-sha256', publicKey })]
      : [],
  );
  if (audit.length === 0)
    throw new Fault('malformed', 'custody-package-malformed', 'the custody package of this backup names no audit key');
  return audit;
}
