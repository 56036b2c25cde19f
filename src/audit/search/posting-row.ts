/** Entries whose terms lie together: an offset among them fits two bytes, and a million entries are some hundred segments. */
export const SEGMENT = 8_192;
/** Rows of one segment, each with the terms of one bucket: some hundred terms, a kilobyte. */
export const BUCKETS = 512;

export const segmentOf = (index: number): number => Math.floor(index / SEGMENT);
export const bucketOf = (term: number): number => term % BUCKETS;

/** By term, the offsets in the segment of the entries that say it, rising. */
export type PostingRow = Map<number, number[]>;

const TERM = 6;
const COUNT = 2;
const OFFSET = 2;

/** A row as it is kept: for each term its 6 bytes, how many entries say it (2 bytes), and their offsets (2 bytes each); big-endian. */
export function encodeRow(row: PostingRow): Buffer {
  const kept = [...row].filter(([, offsets]) => offsets.length > 0);
  const bytes = Buffer.allocUnsafe(kept.reduce((sum, [, offsets]) => sum + TERM + COUNT + OFFSET * offsets.length, 0));
  let at = 0;
  for (const [term, offsets] of kept) {
    at = bytes.writeUIntBE(term, at, TERM);
    at = bytes.writeUInt16BE(offsets.length, at);
    for (const offset of offsets) at = bytes.writeUInt16BE(offset, at);
  }
  return bytes;
}

export function decodeRow(bytes: Buffer): PostingRow {
  const row: PostingRow = new Map();
  for (let at = 0; at < bytes.length; ) {
    const term = bytes.readUIntBE(at, TERM);
    const offsets = offsetsAt(bytes, at);
    row.set(term, offsets);
    at += TERM + COUNT + OFFSET * offsets.length;
  }
  return row;
}

/** The offsets of one term, without looking at those of others. */
export function offsetsOf(bytes: Buffer, term: number): number[] {
  for (let at = 0; at < bytes.length; at += TERM + COUNT + OFFSET * bytes.readUInt16BE(at + TERM))
    if (bytes.readUIntBE(at, TERM) === term) return offsetsAt(bytes, at);
  return [];
}

function offsetsAt(bytes: Buffer, at: number): number[] {
  const first = at + TERM + COUNT;
  const end = first + OFFSET * bytes.readUInt16BE(at + TERM);
  const offsets: number[] = [];
  for (let from = first; from < end; from += OFFSET) offsets.push(bytes.readUInt16BE(from));
  return offsets;
}
