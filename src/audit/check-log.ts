import { base64url, canonicalJson, type Json, type Reader, sameBytes } from '../foundation/index.js';
import { AuditReader, type StoredEntry, type StoredValue } from './audit-reader.js';
import { type EntryBody, leafHash, personalDigest } from './entry.js';
import { prunedUntil } from './pruning.js';

export interface LogCheck {
  /** Entries looked at: all there were when the check began. */
  size: number;
  /** Keys that the log names. */
  keys: number;
  /** Nothing wrong: empty. The first hundred, in words for an operator. */
  problems: string[];
}

const PAGE = 1_000;
const SHOWN = 100;

/**
 * Reads the whole log: no gap from 0 to the last entry, which is not before the tree's end, each leaf the hash of its body, each body canonical and as its search columns say, time
 * never going back, each key's counter and chain without a hole, personal values fitting their digests. A log that grows meanwhile is
 * judged up to where it stood. What this cannot see: a log that was rewritten consistently, or cut with its tree and counters.
 */
export async function checkLog(reader: Reader): Promise<LogCheck> {
  const log = new AuditReader(reader);
  const problems = new Problems();
  const tree = await reader.one<{ size: number }>('SELECT size FROM audit_tree WHERE id = 1');
  const ends = await log.ends();
  const size = (ends.last ?? -1) + 1;
  if (!tree) problems.say('the row of the log’s tree is missing');
  else if (tree.size > size) problems.say(`the tree covers ${tree.size} entries, the last one has index ${ends.last ?? 'none'}`);
  // An entry that is kept says that those before were pruned: whoever only deletes rows has none.
  const pruned = await prunedUntil(reader);
  if ((ends.first ?? 0) !== pruned) problems.say(`the first entry has index ${ends.first}, and those before ${pruned} were pruned`);
  const chains: Chains = new Map();
  let last = { index: pruned - 1, time: 0 };
  let said = 0;
  for (;;) {
    const rows = (await log.stored(last.index + 1, PAGE)).filter(({ idx }) => idx < size);
    const [first, end] = [rows[0], rows.at(-1)];
    if (!first || !end) break;
    for (const row of rows) {
      last = judge(row, last, chains, problems, pruned > 0);
      if (row.action === 'audit.prune') said = Math.max(said, Number(parse(row.body)?.facts?.['until'] ?? 0));
    }
    judgeValues(rows, await log.values(first.idx, end.idx), problems);
  }
  if (said !== pruned) problems.say(`entries before ${pruned} were pruned, and the log says ${said}`);
  await judgeCounters(reader, size, chains, problems, pruned > 0);
  return { size, keys: chains.size, problems: problems.list };
}

/** What the log says of each key: number of uses, leaf of the last. */
type Chains = Map<string, { uses: number; leaf: Buffer }>;

class Problems {
  readonly list: string[] = [];
  say(problem: string): void {
    if (this.list.length < SHOWN) this.list.push(problem);
    else if (this.list.length === SHOWN) this.list.push('and more');
  }
}

function judge(
  row: StoredEntry,
  last: { index: number; time: number },
  chains: Chains,
  problems: Problems,
  isPruned: boolean,
): { index: number; time: number } {
  const wrong = (what: string) => problems.say(`entry ${row.idx}: ${what}`);
  if (row.idx !== last.index + 1) wrong(`the one before has index ${last.index}`);
  if (!sameBytes(row.leaf, leafHash(row.body))) wrong('its leaf is not the hash of its body');
  const body = parse(row.body);
  if (!body) wrong('its body is not canonical JSON');
  else {
    if (body.index !== String(row.idx)) wrong(`its body says index ${body.index}`);
    const time = Date.parse(body.time);
    if (time < last.time) wrong('its time is before that of the one before');
    const columns = { time: row.time, action: row.action, outcome: row.outcome, key: row.key, device: row.device, employee: row.employee };
    const { action, outcome, key = null, device = null, employee = null } = body;
    if (JSON.stringify(columns) !== JSON.stringify({ time, action, outcome, key, device, employee }))
      wrong('its search columns say something else than its body');
    if (body.key !== undefined && body.use !== undefined) {
      // The first use that is kept may be any.
      const first = isPruned
        ? { uses: Number(body.use) - 1, leaf: body.previous === undefined ? undefined : Buffer.from(body.previous, 'base64url') }
        : { uses: 0, leaf: undefined };
      const chain = chains.get(body.key) ?? first;
      if (body.use !== String(chain.uses + 1)) wrong(`use ${body.use} of key ${body.key} follows use ${chain.uses}`);
      if (body.previous !== (chain.leaf && base64url(chain.leaf))) wrong(`it does not name the previous use of key ${body.key}`);
      chains.set(body.key, { uses: Number(body.use), leaf: row.leaf });
    }
  }
  return { index: row.idx, time: Math.max(last.time, row.time) };
}

function parse(body: string): EntryBody | undefined {
  try {
    const value = JSON.parse(body) as Json;
    return canonicalJson(value) === body ? (value as unknown as EntryBody) : undefined; // we wrote it; each member is compared by its reader
  } catch {
    return undefined;
  }
}

function judgeValues(rows: StoredEntry[], values: StoredValue[], problems: Problems): void {
  const bodies = new Map(rows.map((row) => [row.idx, parse(row.body)]));
  for (const { idx, name, salt, value } of values)
    if (bodies.get(idx)?.personal?.[name] !== personalDigest({ salt, value }))
      problems.say(`entry ${idx}: the value kept for "${name}" is not the one it names`);
}

async function judgeCounters(reader: Reader, size: number, chains: Chains, problems: Problems, isPruned: boolean): Promise<void> {
  let after = '';
  let seen = 0;
  for (;;) {
    const rows = await reader.all<{ key: string; uses: number; last_leaf: Buffer }>(
      'SELECT key, uses, last_leaf FROM key_uses WHERE key > ? ORDER BY key LIMIT ?',
      [after, PAGE],
    );
    for (const { key, uses, last_leaf } of rows) {
      const chain = chains.get(key);
      if (chain) seen += 1;
      if (!chain && isPruned) continue; // all of its uses may be among those
      if (chain?.uses === uses && sameBytes(chain.leaf, last_leaf)) continue;
      const since = await reader.one('SELECT idx FROM audit_entries WHERE idx >= ? AND key = ? LIMIT 1', [size, key]);
      if (!since) problems.say(`key ${key}: its counter says ${uses} uses, the log ${chain?.uses ?? 0}`);
    }
    const end = rows.at(-1);
    if (!end) break;
    after = end.key;
  }
  if (seen < chains.size) problems.say(`${chains.size - seen} keys that the log names have no counter`);
}
