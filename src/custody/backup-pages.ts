import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { SqlValue } from '../foundation/index.js';
import type { TableRows } from '../storage/index.js';

/** Bytes of rows in a page, on average. What a changed row costs an incremental backup; a digest of 32 bytes is kept for each. */
const USUAL = 16_384;
/** And at most, unless one row has more. */
const MOST = 4 * USUAL;
/** The first bytes that are hashed: other ones when the form of a page changes. */
const FORM = 'ekms-backup-page-1';

/** Rows of one table, and the SHA-256 over all that they say. */
export interface Page extends TableRows {
  digest: Buffer;
}

/**
 * Cuts a table's rows into pages where the rows themselves say so, so that a row which comes, goes or changes moves no other page's border: the pages around it are
 * found again. Every table has a page at least.
 */
export async function* inPages(source: AsyncIterable<TableRows>): AsyncGenerator<Page> {
  const open = new OpenPage();
  let table: string | undefined;
  let columns: string[] = [];
  let cut = 0;
  for await (const some of source) {
    if (some.table !== table) {
      if (table !== undefined && (open.rows.length > 0 || cut === 0)) yield open.close(table, columns);
      ({ table, columns } = some);
      cut = 0;
    }
    for (const row of some.rows) {
      if (!open.take(row)) continue;
      yield open.close(table, columns);
      cut++;
    }
  }
  if (table !== undefined && (open.rows.length > 0 || cut === 0)) yield open.close(table, columns);
}

/** Of a page that came out of a backup. */
export function digestOf({ table, columns, rows }: TableRows): Buffer {
  const open = new OpenPage();
  for (const row of rows) open.take(row);
  return open.close(table, columns).digest;
}

/** The rows of a page one after the other: a tag for each value, lengths before what has one, so that no two pages are written alike. */
class OpenPage {
  rows: SqlValue[][] = [];
  #bytes = Buffer.allocUnsafe(2 * MOST);
  #length = 0;

  /** True where the page ends with this row. */
  take(row: SqlValue[]): boolean {
    const begin = this.#length;
    this.rows.push(row);
    for (const value of row) this.#put(value);
    const length = this.#length - begin;
    return this.#length >= MOST || crc32(this.#bytes.subarray(begin, this.#length)) < (2 ** 32 / USUAL) * length;
  }

  close(table: string, columns: string[]): Page {
    const digest = createHash('sha256')
      .update(`${JSON.stringify([FORM, table, columns, this.rows.length])}\n`)
      .update(this.#bytes.subarray(0, this.#length))
      .digest();
    const { rows } = this;
    this.rows = [];
    this.#length = 0;
    return { table, columns, rows, digest };
  }

  #put(value: SqlValue): void {
    if (value === null) {
      this.#room(1)[this.#length++] = 0;
    } else if (typeof value === 'number') {
      const bytes = this.#room(9);
      bytes[this.#length] = 1;
      bytes.writeDoubleBE(value, this.#length + 1);
      this.#length += 9;
    } else {
      const isText = typeof value === 'string';
      const length = isText ? Buffer.byteLength(value) : value.length;
      const bytes = this.#room(5 + length);
      bytes[this.#length] = isText ? 2 : 3;
      bytes.writeUInt32BE(length, this.#length + 1);
      if (isText) bytes.write(value, this.#length + 5);
      else bytes.set(value, this.#length + 5);
      this.#length += 5 + length;
    }
  }

  #room(more: number): Buffer {
    if (this.#length + more > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(2 * (this.#length + more));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    return this.#bytes;
  }
}
