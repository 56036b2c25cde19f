import type { Reader } from '../../foundation/index.js';
import { AuditReader } from '../audit-reader.js';
import { bucketOf, decodeRow, encodeRow, type PostingRow, SEGMENT, segmentOf } from './posting-row.js';
import { type IndexState, indexState } from './postings.js';
import { termsOf } from './terms.js';

/** Entries taken in at once: what a busy appliance writes in a second or two. */
const STEP = 2_048;

/** The next entries' terms, as the rows that hold them are to be. */
export interface Gathered {
  /** As it stood before anything was read: what is gathered holds for that alone. */
  after: IndexState;
  /** The first entry that is not in these. */
  to: number;
  rows: { segment: number; bucket: number; found: Uint8Array }[];
}

/** All that costs time in indexing, and it only reads: so a thread of its own can do it. Undefined where nothing is left to take in. */
export async function gather(reader: Reader): Promise<Gathered | undefined> {
  const after = await indexState(reader);
  const entries = await new AuditReader(reader).page(after.next, STEP);
  const [first, last] = [entries[0], entries.at(-1)];
  if (!first || !last) return undefined;
  const segments = [...new Set([segmentOf(first.index), segmentOf(last.index)])];
  const kept = new Map<string, Buffer>();
  for (const segment of segments)
    for (const { bucket, found } of await reader.all<{ bucket: number; found: Buffer }>(
      'SELECT bucket, found FROM audit_postings WHERE segment = ?',
      [segment],
    ))
      kept.set(`${segment} ${bucket}`, found);
  const touched = new Map<string, { segment: number; bucket: number; row: PostingRow }>();
  for (const entry of entries)
    for (const term of termsOf(entry)) {
      const [segment, bucket] = [segmentOf(entry.index), bucketOf(term)];
      const place = `${segment} ${bucket}`;
      const one = touched.get(place) ?? { segment, bucket, row: decodeRow(kept.get(place) ?? Buffer.alloc(0)) };
      touched.set(place, one);
      const offsets = one.row.get(term);
      if (offsets) offsets.push(entry.index % SEGMENT);
      else one.row.set(term, [entry.index % SEGMENT]);
    }
  return {
    after,
    to: last.index + 1,
    rows: [...touched.values()].map(({ segment, bucket, row }) => ({ segment, bucket, found: encodeRow(row) })),
  };
}
