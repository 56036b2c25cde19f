import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import { z } from 'zod';
import { Fault, type SqlValue } from '../foundation/index.js';
import type { Snapshot, TableRows } from '../storage/index.js';

/** What a backup holds beside the database's rows. */
const manifest = z.strictObject({
  type: z.literal('ekms-backup-content'),
  v: z.literal(1),
  migrations: z.array(z.string()).min(1),
  /** The token process's journal, taken before the rows: of what changed in between, the rows know the newer state. */
  journal: z.string(),
  configuration: z.string(),
});
export type Manifest = z.output<typeof manifest>;

const cell = z.union([z.string(), z.number(), z.null(), z.strictObject({ b: z.string() })]);
const page = z.strictObject({ t: z.string(), c: z.array(z.string()), r: z.array(z.array(cell)) });
const end = z.strictObject({ end: z.int() });

const LF = 0x0a;
/** Bytes gathered before they are handed on. */
const GATHER = 2 ** 17;

/** Milliseconds. Where others took longer than `busy` between two pages, the next page waits `rest` more. */
const GIVING_WAY = { busy: 0.3, rest: 3 } as const;

/** A backup is in no hurry: whatever else waits in this process goes first, and while there is such, most of the time is theirs. */
async function giveWay(): Promise<void> {
  const began = performance.now();
  await turn();
  if (performance.now() - began > GIVING_WAY.busy) await pause(GIVING_WAY.rest);
}

/** Lines of JSON: the manifest, pages of rows, and how many rows there were. */
export async function* encodeContent(about: Omit<Manifest, 'type' | 'v' | 'migrations'>, snapshot: Snapshot): AsyncGenerator<Buffer> {
  yield line({ type: 'ekms-backup-content', v: 1, migrations: snapshot.migrations, ...about });
  let held: Buffer[] = [];
  let size = 0;
  let rows = 0;
  for await (const { table, columns, rows: some } of snapshot.rows()) {
    rows += some.length;
    const bytes = line({ t: table, c: columns, r: some.map((row) => row.map(encodeCell)) });
    held.push(bytes);
    size += bytes.length;
    await giveWay();
    if (size < GATHER) continue;
    yield Buffer.concat(held);
    held = [];
    size = 0;
  }
  yield Buffer.concat([...held, line({ end: rows })]);
}

/** The manifest, and the rows that follow it. Throws `backup-malformed`, at the latest at the end when rows are missing. */
export async function decodeContent(content: AsyncIterable<Buffer>): Promise<{ manifest: Manifest; rows: AsyncGenerator<TableRows> }> {
  const all = lines(content);
  const first = await all.next();
  const known = manifest.safeParse(first.done ? undefined : parse(first.value));
  if (!known.success) throw malformed();
  return { manifest: known.data, rows: rowsOf(all) };
}

async function* rowsOf(all: AsyncGenerator<Buffer>): AsyncGenerator<TableRows> {
  let count = 0;
  let whole = false;
  for await (const text of all) {
    const value = parse(text);
    const last = end.safeParse(value);
    if (whole || (last.success && last.data.end !== count)) throw malformed();
    if (last.success) {
      whole = true;
      continue;
    }
    const some = page.safeParse(value);
    if (!some.success) throw malformed();
    count += some.data.r.length;
    yield { table: some.data.t, columns: some.data.c, rows: some.data.r.map((row) => row.map(decodeCell)) };
  }
  if (!whole) throw malformed();
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

async function* lines(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
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
