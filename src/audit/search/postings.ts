import { setImmediate as turn } from 'node:timers/promises';
import type { Reader, Unit } from '../../foundation/index.js';
import { bucketOf, decodeRow, encodeRow, offsetsOf, SEGMENT, segmentOf } from './posting-row.js';

/** What was looked at, [from, to), and which entries in it may meet all conditions, in the order of the walk. */
export interface Stretch {
  from: number;
  to: number;
  indices: number[];
}

/** Segments asked for by one statement: a million entries. */
const TOGETHER = 128;
/** Of the first one, for what is sought is mostly found soon; then so many times as many. */
const FIRST = 8;
/** A statement for each number of segments that a walk asks for at once, prepared once. */
const SIZES = [FIRST, FIRST * FIRST, TOGETHER];

/** Which entries say what: one row for each segment of the log and bucket of terms. Written by `SearchIndex`, behind the log. */
export class Postings {
  constructor(private readonly reader: Reader) {}

  /**
   * Entries in [bottom, top) that say at least one term of each condition, some segments at a time, the first ones few: whoever has found enough
   * leaves off. A term is a digest, so each entry is to be looked at.
   */
  walk(
    conditions: readonly (readonly number[])[],
    range: { bottom: number; top: number },
    order: 'newest first' | 'oldest first' = 'newest first',
  ): AsyncGenerator<Stretch> {
    return this.#walk(conditions, range, order, FIRST);
  }

  /** All that a walk would come by, newest first, in as few statements as there can be. */
  async all(conditions: readonly (readonly number[])[], range: { bottom: number; top: number }): Promise<number[]> {
    const found: number[] = [];
    for await (const { indices } of this.#walk(conditions, range, 'newest first', TOGETHER)) found.push(...indices);
    return found;
  }

  async *#walk(
    conditions: readonly (readonly number[])[],
    { bottom, top }: { bottom: number; top: number },
    order: 'newest first' | 'oldest first',
    atFirst: number,
  ): AsyncGenerator<Stretch> {
    const isNewest = order === 'newest first';
    const [first, last] = [segmentOf(bottom), segmentOf(top - 1)];
    let many = atFirst;
    for (let done = 0; done <= last - first && top > bottom; ) {
      const count = Math.min(many, last - first + 1 - done);
      const low = isNewest ? last - done - count + 1 : first + done;
      const segments = Array.from({ length: count }, (_, n) => low + n);
      const found = (await this.#meeting(conditions, segments)).filter((index) => index >= bottom && index < top).sort((a, b) => a - b);
      yield {
        from: Math.max(bottom, low * SEGMENT),
        to: Math.min(top, (low + count) * SEGMENT),
        indices: isNewest ? found.reverse() : found,
      };
      done += count;
      many = Math.min(many * FIRST, TOGETHER);
      await turn(); // SQLite answers without one
    }
  }

  async #meeting(conditions: readonly (readonly number[])[], segments: readonly number[]): Promise<number[]> {
    let meeting: Set<number> | undefined;
    for (const any of conditions) {
      const found = new Set<number>();
      for (const indices of await Promise.all(any.map((term) => this.#saying(term, segments))))
        for (const index of indices) if (meeting?.has(index) ?? true) found.add(index);
      if (found.size === 0) return [];
      meeting = found;
    }
    return [...(meeting ?? [])];
  }

  async #saying(term: number, segments: readonly number[]): Promise<number[]> {
    const places = SIZES.find((size) => size >= segments.length) ?? TOGETHER;
    const some = Array.from({ length: places }, (_, n) => segments[n] ?? -1); // -1 is no segment
    const rows = await this.reader.all<{ segment: number; found: Buffer }>(
      `SELECT segment, found FROM audit_postings WHERE bucket = ? AND segment IN (${some.map(() => '?').join(', ')})`,
      [bucketOf(term), ...some],
    );
    return rows.flatMap(({ segment, found }) => offsetsOf(found, term).map((offset) => segment * SEGMENT + offset));
  }
}

/** How far the index has come, and how often terms were taken out of it: what was gathered before that may hold them still. */
export interface IndexState {
  /** Index of the first entry that is not in it. */
  next: number;
  forgotten: number;
}

export const indexState = async (reader: Reader): Promise<IndexState> =>
  (await reader.one<IndexState & { id: number }>('SELECT next, forgotten FROM audit_indexed WHERE id = 1')) ?? { next: 0, forgotten: 0 };

/** Takes terms of entries out of the index, within the unit that takes away what they were made of. */
export async function forgetTerms(unit: Unit, gone: readonly { index: number; terms: readonly number[] }[]): Promise<void> {
  await unit.run(
    'INSERT INTO audit_indexed (id, next, forgotten) VALUES (1, 0, 1) ON CONFLICT (id) DO UPDATE SET forgotten = audit_indexed.forgotten + 1',
  );
  const places = new Map<string, { segment: number; bucket: number; pairs: { term: number; offset: number }[] }>();
  for (const { index, terms } of gone)
    for (const term of terms) {
      const [segment, bucket] = [segmentOf(index), bucketOf(term)];
      const place = places.get(`${segment} ${bucket}`) ?? { segment, bucket, pairs: [] };
      place.pairs.push({ term, offset: index % SEGMENT });
      places.set(`${segment} ${bucket}`, place);
    }
  for (const { segment, bucket, pairs } of places.values()) {
    const row = await unit.one<{ found: Buffer }>('SELECT found FROM audit_postings WHERE segment = ? AND bucket = ?', [segment, bucket]);
    if (!row) continue;
    const kept = decodeRow(row.found);
    for (const { term, offset } of pairs)
      kept.set(
        term,
        (kept.get(term) ?? []).filter((one) => one !== offset),
      );
    await unit.run('UPDATE audit_postings SET found = ? WHERE segment = ? AND bucket = ?', [encodeRow(kept), segment, bucket]);
  }
}
