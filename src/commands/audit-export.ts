import { hash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportFolder, writeExportFile } from '../audit/index.js';
import { successionPath, type Verdict, verifyEvidence, verifyExport } from '../codec/audit-log/index.js';
import {
  bundlePath,
  type NoteKey,
  parseCheckpoint,
  parseNote,
  parseNoteKey,
  type Sha256,
  TILE_WIDTH,
  tilePath,
  verifyByWebCrypto,
} from '../codec/merkle/index.js';
import { authoritiesIn, verifyTimeStamp } from '../codec/timestamp.js';
import { Fault } from '../foundation/index.js';
import { TILES_AT_ONCE } from './audit-acts.js';
import type { CommandParts } from './command-parts.js';

const sha256: Sha256 = (bytes) => hash('sha256', bytes, 'buffer');

/** What to verify, and by what: of an export, an evidence pack, or with neither the log of the appliance itself. */
export interface Verification {
  export?: string;
  evidence?: string;
  key: string;
  head: string[];
  /** PEM: authorities whose time stamps are believed. */
  tsa?: string;
}

/** Prints the verdict, or throws `audit-damaged` after everything was said. */
export async function verifyLog(
  { export: dir, evidence, key, head, tsa }: Verification,
  { print, act }: Pick<CommandParts, 'print' | 'act'>,
): Promise<void> {
  const parts = {
    sha256,
    verify: verifyByWebCrypto,
    key: readKey(key),
    heads: head.map((file) => readFileSync(file, 'utf8')),
    ...(tsa ? { timestamp: judgeBy(tsa) } : {}),
  };
  if (evidence !== undefined) tell(await verifyEvidence(exportFolder(existing(evidence)), parts), print);
  else tell(dir === undefined ? await verifyInPlace(act, parts) : await verifyExport(exportFolder(existing(dir)), parts), print);
}

function judgeBy(file: string): NonNullable<Parameters<typeof verifyExport>[1]['timestamp']> {
  const authorities = authoritiesIn(readFileSync(file, 'utf8'));
  return async (token, text) => verifyTimeStamp(Buffer.from(token), sha256(text), authorities);
}

/** Resolves with the number of entries. */
export async function exportLog(dir: string, act: CommandParts['act']): Promise<number> {
  if (existsSync(dir) && readdirSync(dir).length > 0)
    throw new Fault('conflict', 'export-exists', `${dir} is not empty: an export goes into a folder of its own`);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const head = (await act('audit.head', {})) as {
    checkpoint: string;
    former: { size: number; note: string }[];
    successions: string[];
    pruned: number;
    stamps: { size: number; note: string; token: string }[];
  }; // `audit.head` in audit-acts.ts
  const size = parseCheckpoint(parseNote(head.checkpoint)?.text ?? '')?.size ?? 0;
  writeExportFile(dir, 'checkpoint', head.checkpoint);
  const former = new Map([...head.stamps, ...head.former].map((one) => [one.size, one.note]));
  for (const [at, note] of former) if (at < size) writeExportFile(dir, `checkpoints/${at}`, note);
  for (const [n, note] of head.successions.entries()) writeExportFile(dir, successionPath(n + 1), note);
  for (const { size: at, token } of head.stamps) writeExportFile(dir, `timestamps/${at}`, Buffer.from(token, 'base64'));
  for (let level = 0, there = size; there > 0; level += 1, there = Math.floor(there / TILE_WIDTH))
    for (let from = 0; from * TILE_WIDTH < there; from += TILES_AT_ONCE) {
      const range = { from, count: TILES_AT_ONCE, size };
      const tiles = (await act('audit.tiles', { level, ...range })) as string[];
      const skip = level === 0 ? Math.max(0, Math.min(TILES_AT_ONCE, head.pruned / TILE_WIDTH - from)) : TILES_AT_ONCE;
      const kept = { ...range, from: from + skip, count: TILES_AT_ONCE - skip };
      const bundles = skip < TILES_AT_ONCE ? ((await act('audit.entries', kept)) as string[]) : [];
      for (const [n, bytes] of tiles.entries()) {
        const tile = { level, index: from + n, width: Math.min(TILE_WIDTH, there - (from + n) * TILE_WIDTH) };
        writeExportFile(dir, tilePath(tile), Buffer.from(bytes, 'base64'));
        const bundle = bundles[n - skip];
        if (bundle !== undefined) writeExportFile(dir, bundlePath(tile), Buffer.from(bundle, 'base64'));
      }
    }
  return size;
}

async function verifyInPlace(act: CommandParts['act'], parts: Parameters<typeof verifyExport>[1]): Promise<Verdict> {
  const dir = mkdtempSync(join(tmpdir(), 'ekms-audit-'));
  try {
    await exportLog(dir, act);
    return await verifyExport(exportFolder(dir), parts);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Throws `audit-damaged` after everything was said, so that the exit status tells. */
function tell({ damages, size, pruned, heads, stamps, cannotExclude }: Verdict, print: CommandParts['print']): void {
  for (const { kind, index, words } of damages) print(`BAD   ${kind}${index === undefined ? '' : ` at entry ${index}`}: ${words}`);
  if (damages.length > 0) {
    const first = damages.find(({ index }) => index !== undefined)?.index;
    throw new Fault('conflict', 'audit-damaged', `this log is not whole${first === undefined ? '' : `; the first bad entry is ${first}`}`);
  }
  print(`good  ${size} entries, as the key signed them; ${heads} remembered heads fit`);
  if (pruned !== undefined) print(`      entries before ${pruned} were pruned, as the log says; their hashes are those that were signed`);
  const { there = 0, newest } = stamps ?? {};
  if (newest) print(`      stamped: ${newest.size} entries were so at ${newest.time}, says ${newest.by}; ${there} time stamps hold`);
  else if (there > 0) print(`      ${there} time stamps were not judged: say by --tsa whose are believed`);
  print(`      ${cannotExclude}`);
}

function readKey(file: string): NoteKey {
  let text = '';
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch {
    // Said below.
  }
  const key = parseNoteKey(sha256, text);
  if (!key)
    throw new Fault('misconfigured', 'audit-key-missing', `${file} holds no key of a log: give the appliance’s audit.pub with --key`);
  return key;
}

function existing(dir: string): string {
  if (!existsSync(join(dir, 'checkpoint')))
    throw new Fault('not-found', 'export-missing', `${dir} holds no export: there is no checkpoint`);
  return dir;
}
