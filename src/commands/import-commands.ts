import { appendFileSync, readFileSync, statSync } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import type { ImportedKey } from '../custody/index.js';
import { Fault, isFault } from '../foundation/index.js';
import type { CommandParts } from './command-parts.js';

interface ImportOptions {
  passphrases: string;
  dryRun: boolean;
  report?: string;
}

type Line = Pick<ImportedKey, 'words'> & { file: string; outcome: string } & Partial<ImportedKey>;

/** Bytes of a file; the act takes no more. */
const MOST_FILE = 2 ** 20;

/** `ekms import …`: keys of former systems. */
export function importCommands(ekms: Command, { print, act }: Pick<CommandParts, 'print' | 'act'>): void {
  ekms
    .command('import')
    .description('take former keys of people from outside, for reading old mail')
    .command('p12 <path>')
    .description('a PKCS#12 file, or a folder of them (.p12, .pfx); done again, it leaves what is here and takes what is not')
    .requiredOption(
      '--passphrases <file>',
      'CSV, a line a file: FILE NAME,PASS PHRASE[,OWNER]; "*" is every file that is not named; the owner is an address or employee id',
    )
    .option('--dry-run', 'say what would be done, and do nothing', false)
    .option('--report <file>', 'write one line of JSON a key there too')
    .action(async (path: string, { passphrases, dryRun, report }: ImportOptions) => {
      const phrases = readPhrases(passphrases);
      const counts = new Map<string, number>();
      const seen = new Set<string>();
      const tell = (line: Line) => {
        counts.set(line.outcome, (counts.get(line.outcome) ?? 0) + 1);
        if (report !== undefined) appendFileSync(report, `${JSON.stringify(line)}\n`, { mode: 0o600 });
        print(`${line.file}: ${line.outcome}: ${line.words}${line.code ? ` (${line.code})` : ''}`);
      };
      for await (const file of filesIn(path)) {
        const name = basename(file);
        const refused = (code: string, words: string) => tell({ file: name, outcome: 'refused', words: `${words} (${code})` });
        try {
          const keys = await keysOf(file, phrases.get(name) ?? phrases.get('*'), dryRun, act);
          for (const key of keys) {
            // Within a dry run nothing is here yet that an earlier file would bring.
            const isTwice = key.outcome === 'importable' && seen.has(key.publicKey);
            seen.add(key.publicKey);
            tell({ file: name, ...key, ...(isTwice ? { outcome: 'there', words: 'a file before it holds this key' } : {}) });
          }
        } catch (error) {
          // About this file; an appliance that is away ends the run, which is then begun again.
          if (!isFault(error) || error.kind === 'unavailable') throw error;
          refused(error.code, error.message);
        }
      }
      print([...counts].map(([outcome, count]) => `${outcome} ${count}`).join(', ') || 'there is no file to be imported');
      if (counts.has('imported')) console.error('make a backup now (ekms backup create): until then these keys are on this disk only');
      const refusals = counts.get('refused');
      if (refusals) throw new Fault('conflict', 'import-incomplete', `${refusals} could not be taken; what is said of each stands above`);
    });
}

async function keysOf(file: string, given: Phrase | undefined, dryRun: boolean, act: CommandParts['act']): Promise<ImportedKey[]> {
  if (!given) throw new Fault('not-found', 'passphrase-missing', 'the list of pass phrases does not name this file');
  if (statSync(file).size > MOST_FILE) throw new Fault('too-large', 'file-too-large', `it has more than ${MOST_FILE} bytes`);
  const ask = { file: readFileSync(file).toString('base64'), phrase: given.phrase, dryRun, ...(given.owner ? { owner: given.owner } : {}) };
  const keys = (await act('key.import', ask)) as ImportedKey[]; // KeyImports.take
  if (keys.length === 0) throw new Fault('not-found', 'key-missing', 'it holds no private key');
  return keys;
}

/** A folder is read entry by entry, however many there are. */
async function* filesIn(path: string): AsyncGenerator<string> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) throw new Fault('not-found', 'file-unreadable', `there is no ${path}`);
  if (!found.isDirectory()) return yield path;
  for await (const entry of await opendir(path)) if (entry.isFile() && /\.(p12|pfx)$/i.test(entry.name)) yield join(path, entry.name);
}

interface Phrase {
  phrase: string;
  owner?: string;
}

/** By file name. */
function readPhrases(path: string): Map<string, Phrase> {
  const phrases = new Map<string, Phrase>();
  for (const [index, line] of readFileSync(path, 'utf8').split(/\r?\n/).entries()) {
    if (line === '') continue;
    const [name, phrase, owner, ...more] = fieldsOf(line);
    if (!name || phrase === undefined || more.length > 0)
      throw new Fault('malformed', 'passphrases-malformed', `line ${index + 1} of ${path} is not FILE NAME,PASS PHRASE[,OWNER]`);
    phrases.set(name, { phrase, ...(owner ? { owner } : {}) });
  }
  return phrases;
}

/** CSV of two columns: who somebody is elsewhere, and here. */
export function readOwners(path: string): Map<string, string> {
  const owners = new Map<string, string>();
  for (const [index, line] of readFileSync(path, 'utf8').split(/\r?\n/).entries()) {
    if (line === '') continue;
    const [there, here, ...more] = fieldsOf(line);
    if (!there || !here || more.length > 0)
      throw new Fault('malformed', 'owners-malformed', `line ${index + 1} of ${path} is not THERE,HERE`);
    owners.set(there, here);
  }
  return owners;
}

/** RFC 4180: a field in quotes may hold commas and doubled quotes. */
function fieldsOf(line: string): string[] {
  const found = [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^",]*))(?=,|$)/g)];
  if (found.map(([whole]) => whole).join('') !== line) return [];
  return found.map(([, quoted, bare]) => quoted?.replaceAll('""', '"') ?? bare ?? '');
}
