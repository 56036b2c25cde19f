import { hash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { exportFolder, writeExportFile } from '../audit/index.js';
import { type Verdict, verifyEvidence, verifyExport } from '../codec/audit-log/index.js';
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
import { Fault } from '../foundation/index.js';
import { TILES_AT_ONCE } from './audit-acts.js';
import type { CommandParts } from './command-parts.js';

const sha256: Sha256 = (bytes) => hash('sha256', bytes, 'buffer');

/** `ekms audit export` and `ekms audit verify`. @param audit the group they go into */
export function auditCommands(audit: Command, { home, print, act }: Pick<CommandParts, 'home' | 'print' | 'act'>): void {
  audit
    .command('export <dir>')
    .description('write checkpoint, tiles and entries into a new folder; anyone can verify it without this appliance')
    .action(async (dir: string) => {
      const size = await exportLog(resolve(dir), act);
      print(`${size} entries in ${dir}; its key is in ${join(home(), 'audit.pub')}, and goes to whoever verifies by another way`);
    });
  audit
    .command('verify')
    .description('say whether a log is whole; exit status 0 only if it is')
    .option('--export <dir>', 'an exported log; without it, this appliance’s')
    .option('--evidence <dir>', 'an evidence pack, unpacked')
    .option('--key <file>', 'the log’s key (audit.pub); never taken from the export')
    .option('--head <file...>', 'checkpoints remembered from before', [])
    .action(async ({ export: dir, evidence, key, head }: { export?: string; evidence?: string; key?: string; head: string[] }) => {
      const parts = {
        sha256,
        verify: verifyByWebCrypto,
        key: readKey(key ?? join(home(), 'audit.pub')),
        heads: head.map((file) => readFileSync(file, 'utf8')),
      };
      if (evidence !== undefined) tell(await verifyEvidence(exportFolder(existing(resolve(evidence))), parts), print);
      else
        tell(dir === undefined ? await verifyInPlace(act, parts) : await verifyExport(exportFolder(existing(resolve(dir))), parts), print);
    });
  audit
    .command('loss')
    .description('where the log was put back: write what two persons sign to have it go on under another name')
    .requiredOption('-o, --output <file>', 'what each of them reads and signs')
    .action(async ({ output }: { output: string }) => {
      const { sign, acceptance } = (await act('audit.loss', {})) as { sign: string; acceptance: object }; // LogAcceptances.ask
      writeFileSync(output, Buffer.from(sign, 'base64'), { flag: 'wx' });
      print({ acceptance });
      console.error(
        `two recovery agents of the ceremony read ${output} and sign it: openssl dgst -sha256 -sign KEY.pem -out SIGNATURE ${output}`,
      );
    });
  audit
    .command('accept-rollback <statement>')
    .description('have the log go on under another name; every device enrols anew where acts were lost')
    .requiredOption('--signed <agent=file...>', 'who signed, and the signature')
    .action(async (statement: string, { signed }: { signed: string[] }) => {
      const [, json = ''] = readFileSync(statement, 'utf8').split('\n');
      const approvals = signed.map((one) => {
        const [agent = '', file = ''] = one.split('=');
        return { agent, signature: readFileSync(file).toString('base64') };
      });
      const { origin } = (await act('audit.accept-rollback', { acceptance: JSON.parse(json), approvals })) as { origin: string };
      print(`the log goes on as ${origin}; audit.pub is written anew and goes to whoever verifies`);
    });
}

/** Resolves with the number of entries. */
export async function exportLog(dir: string, act: CommandParts['act']): Promise<number> {
  if (existsSync(dir) && readdirSync(dir).length > 0)
    throw new Fault('conflict', 'export-exists', `${dir} is not empty: an export goes into a folder of its own`);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const head = (await act('audit.head', {})) as { checkpoint: string; former: { size: number; note: string }[]; pruned: number }; // `audit.head` in audit-acts.ts
  const size = parseCheckpoint(parseNote(head.checkpoint)?.text ?? '')?.size ?? 0;
  writeExportFile(dir, 'checkpoint', head.checkpoint);
  for (const { size: at, note } of head.former) if (at < size) writeExportFile(dir, `checkpoints/${at}`, note);
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
function tell({ damages, size, pruned, heads, cannotExclude }: Verdict, print: CommandParts['print']): void {
  for (const { kind, index, words } of damages) print(`BAD   ${kind}${index === undefined ? '' : ` at entry ${index}`}: ${words}`);
  if (damages.length > 0) {
    const first = damages.find(({ index }) => index !== undefined)?.index;
    throw new Fault('conflict', 'audit-damaged', `this log is not whole${first === undefined ? '' : `; the first bad entry is ${first}`}`);
  }
  print(`good  ${size} entries, as the key signed them; ${heads} remembered heads fit`);
  if (pruned !== undefined) print(`      entries before ${pruned} were pruned, as the log says; their hashes are those that were signed`);
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
