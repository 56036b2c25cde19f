import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import { z } from 'zod';
import { Fault, type SqlValue } from '../foundation/index.js';
import type { Snapshot, TableRows } from '../storage/index.js';
import { digestOf, inPages } from './backup-pages.js';

/** Which backup another one builds on: its id, and its digest as its own statement has it. */
export const baseShape = z.strictObject({ id: z.string(), digest: z.string() });
export type BackupBase = z.output<typeof baseShape>;

/** What a backup holds beside the database's rows. */
const manifest = z.strictObject({
  type: z.literal('ekms-backup-content'),
  v: z.literal(1),
  migrations: z.array(z.string()).min(1),
  /** The token process's journal, taken before the rows: of what changed in between, the rows know the newer state. */
  journal: z.string(),
  configuration: z.string(),
  /** In an incremental backup, whose rows are partly in others. */
  base: baseShape.exactOptional(),
});
export type Manifest = z.output<typeof manifest>;

const cell = z.union([z.string(), z.number(), z.null(), z.strictObject({ b: z.string() })]);
const page = z.strictObject({ t: z.string(), c: z.array(z.string()), r: z.array(z.array(cell)) });
const same = z.strictObject({ t: z.string(), s: z.string() });
const end = z.strictObject({ end: z.int() });

const LF = 0x0a;
const DIGEST = 32;
/** Bytes gathered before they are handed on. */
const GATHER = 2 ** 17;
/** Digests on one line. */
const DIGESTS = 1_024;

/** Milliseconds. Where others took longer than `busy` between two readings of rows, the next one waits `rest` more. */
const GIVING_WAY = { busy: 0.3, rest: 3 } as const;

/** A backup is in no hurry: whatever else waits in this process goes first, and while there is such, most of the time is theirs. */
async function* givingWay<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const some of source) {
    yield some;
    const began = performance.now();
    await turn();
    if (performance.now() - began > GIVING_WAY.busy) await pause(GIVING_WAY.rest);
  }
}

/** Of the pages that a backup builds on. */
export interface KnownPages extends BackupBase {
  has(digest: Buffer): boolean;
}

/**
 * Lines of JSON: the manifest, pages of rows, and how many rows there were. With a base, a page that it has is named by its digest alone.
 * @param kept hears the digest of every page with rows
 */
export async function* encodeContent(
  about: Omit<Manifest, 'type' | 'v' | 'migrations' | 'base'>,
  snapshot: Pick<Snapshot, 'migrations' | 'rows'>,
  { base, kept }: { base?: KnownPages | undefined; kept: (digest: Buffer) => void },
): AsyncGenerator<Buffer> {
  const on = base ? { base: { id: base.id, digest: base.digest } } : {};
  yield line({ type: 'ekms-backup-content', v: 1, migrations: snapshot.migrations, ...about, ...on });
  let held: Buffer[] = [];
  let size = 0;
  let rows = 0;
  let same: Buffer[] = [];
  let of = '';
  const named = new Set<string>();
  const put = (value: object) => {
    const bytes = line(value);
    held.push(bytes);
    size += bytes.length;
  };
  const putSame = () => {
    if (same.length > 0) put({ t: of, s: Buffer.concat(same).toString('base64') });
    same = [];
  };
  for await (const { table, columns, rows: some, digest } of inPages(givingWay(snapshot.rows()))) {
    if (table !== of) {
      putSame();
      named.clear();
    }
    of = table;
    rows += some.length;
    if (some.length > 0) kept(digest);
    // An empty page says that the table is empty: it is written always. So is one that is there again, for a reader takes each that is named once.
    const text = digest.toString('latin1');
    if (some.length > 0 && base?.has(digest) && !named.has(text)) {
      named.add(text);
      same.push(digest);
      if (same.length === DIGESTS) putSame();
    } else put({ t: table, c: columns, r: some.map((row) => row.map(encodeCell)) });
    if (size < GATHER) continue;
    yield Buffer.concat(held);
    held = [];
    size = 0;
  }
  putSame();
  yield Buffer.concat([...held, line({ end: rows })]);
}

/** A page of rows, the digests of pages that are in a backup before this one, or how many rows there were. */
type Line = TableRows | { table: string; same: string[] } | { end: number };

export interface Content {
  manifest: Manifest;
  lines: AsyncGenerator<Line>;
}

/** The manifest, and the lines that follow it. Throws `backup-malformed`. */
export async function decodeContent(content: AsyncIterable<Buffer>): Promise<Content> {
  const all = textLines(content);
  const first = await all.next();
  const known = manifest.safeParse(first.done ? undefined : parse(first.value));
  if (!known.success) throw malformed();
  return { manifest: known.data, lines: decodeLines(all) };
}

/**
 * The rows of the last of these; those before it are what it builds on, oldest first. All have their tables in the same order, so each is read once, side by side.
 * Throws `backup-malformed`, at the latest at the end when rows are missing.
 */
export async function* rowsOf(chain: readonly Content[]): AsyncGenerator<TableRows> {
  const [newest, ...older] = chain.map(({ lines }) => new Lines(lines)).reverse();
  let count = 0;
  for (;;) {
    const next = await newest?.peek();
    if (!newest || !next) throw malformed();
    if ('end' in next) {
      await newest.take();
      if (next.end !== count || (await newest.peek())) throw malformed();
      return;
    }
    const wanted = new Set<string>();
    for await (const line of newest.ofTable(next.table)) {
      if ('rows' in line) {
        count += line.rows.length;
        yield line;
      } else for (const digest of line.same) wanted.add(digest);
    }
    for (const each of older)
      for await (const line of each.ofTable(next.table)) {
        if (!('rows' in line) || wanted.size === 0 || !wanted.delete(digestOf(line).toString('base64'))) continue;
        count += line.rows.length;
        yield line;
      }
    if (wanted.size > 0)
      throw new Fault('malformed', 'backup-malformed', `${wanted.size} pages of the table ${next.table} are in none of these backups`);
  }
}

class Lines {
  #next: Promise<IteratorResult<Line>> | undefined;

  constructor(private readonly lines: AsyncGenerator<Line>) {}

  async peek(): Promise<Line | undefined> {
    this.#next ??= this.lines.next();
    const { done, value } = await this.#next;
    return done ? undefined : value;
  }

  async take(): Promise<void> {
    await this.peek();
    this.#next = undefined;
  }

  /** As long as they are of this table. */
  async *ofTable(table: string): AsyncGenerator<Exclude<Line, { end: number }>> {
    for (;;) {
      const next = await this.peek();
      if (!next || 'end' in next || next.table !== table) return;
      await this.take();
      yield next;
    }
  }
}

async function* decodeLines(all: AsyncGenerator<Buffer>): AsyncGenerator<Line> {
  for await (const text of all) {
    const value = parse(text);
    const some = page.safeParse(value);
    if (some.success) {
      yield { table: some.data.t, columns: some.data.c, rows: some.data.r.map((row) => row.map(decodeCell)) };
      continue;
    }
    const known = z.union([same, end]).safeParse(value);
    if (!known.success) throw malformed();
    yield 'end' in known.data ? known.data : { table: known.data.t, same: digestsOf(known.data.s) };
  }
}

function digestsOf(text: string): string[] {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length % DIGEST !== 0) throw malformed();
  return Array.from({ length: bytes.length / DIGEST }, (_, n) => bytes.subarray(n * DIGEST, (n + 1) * DIGEST).toString('base64'));
}

const line = (value: object): Buffer => Buffer.from(`${JSON.stringify(value)}\n`);
const encodeCell = (value: SqlValue) =>
  value instanceof Uint8Array ? { b: Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64') } : value;
const decodeCell = (value: z.output<typeof cell>): SqlValue =>
  value !== null && typeof value === 'object' ? Buffer.from(value.b, 'base64') : value;
const malformed = (): Fault =>
  new Fault('malformed', 'backup-malformed', 'the content of this backup is not what this version of EKMS writes');

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    throw malformed();
  }
}

async function* textLines(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  for await (const bytes of source) {
    let at = 0;
    for (let to = bytes.indexOf(LF, at); to >= 0; to = bytes.indexOf(LF, at)) {
      yield Buffer.concat([...rest, bytes.subarray(at, to)]);
      rest = [];
      at = to + 1;
    }
    if (at < bytes.length) rest.push(bytes.subarray(at));
  }
  if (rest.length > 0) throw malformed();
}
