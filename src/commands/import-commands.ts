import { readFileSync, statSync } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import type { ImportedKey } from '../custody/index.js';
import { Fault, isFault } from '../foundation/index.js';
import type { CommandParts } from './command-parts.js';
import { ImportReport } from './import-report.js';
import { isAway, patiently } from './patiently.js';

interface ImportOptions {
  passphrases: string;
  dryRun: boolean;
  report?: string;
}

type Line = Omit<Partial<ImportedKey>, 'outcome'> & { outcome: string; words: string };

/** Bytes of a file; the act takes no more. */
const MOST_FILE = 2 ** 20;

/** `ekms import …`: keys of former systems. */
export function importCommands(ekms: Command, { print, ask }: Pick<CommandParts, 'print' | 'ask'>): void {
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
    .option('--report <file>', 'write one line of JSON a key there too; files that it says were taken already are not opened again')
    .action(async (path: string, { passphrases, dryRun, report }: ImportOptions) => {
      const phrases = readPhrases(passphrases);
      // Said at once, not after the patience that one which goes away meanwhile is waited for with.
      await ask('health', {});
      const counts = new Map<string, number>();
      const kept = await ImportReport.open(report);
      // Within a dry run nothing is here yet that an earlier file would bring.
      const seen = new Set<string>();
      const tell = async (name: string, lines: Line[], file?: Buffer) => {
        await kept.tell(
          file,
          lines.map((line) => ({ file: name, ...line })),
          dryRun,
        );
        for (const { outcome, words, code } of lines) {
          counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
          print(`${name}: ${outcome}: ${words}${code ? ` (${code})` : ''}`);
        }
      };
      const one = async (path: string): Promise<boolean> => {
        const name = basename(path);
        let file: Buffer | undefined;
        let lines: Line[];
        try {
          file = readP12(path);
          if (kept.isTaken(file)) return false;
          const keys = await keysOf(file, phrases.get(name) ?? phrases.get('*'), dryRun, ask);
          lines = keys.map((key) => {
            const isTwice = key.outcome === 'importable' && seen.has(key.publicKey);
            if (dryRun) seen.add(key.publicKey);
            return { ...key, ...(isTwice ? { outcome: 'there', words: 'a file before it holds this key' } : {}) };
          });
        } catch (error) {
          // About this file; an appliance that stays away ends the run, which is then begun again.
          if (!isFault(error) || isAway(error)) throw error;
          lines = [{ outcome: 'refused', words: `${error.message} (${error.code})` }];
        }
        await tell(name, lines, file);
        return true;
      };
      let others = 0;
      try {
        await eachOf(
          filesIn(path, () => others++),
          one,
        );
      } finally {
        await kept.close();
      }
      if (others > 0)
        console.error(
          `${others} entries of the folder are no .p12 or .pfx files and were left out; folders within it are to be named themselves`,
        );
      print([...counts].map(([outcome, count]) => `${outcome} ${count}`).join(', ') || 'there is no file to be imported');
      if (counts.has('imported')) console.error('make a backup now (ekms backup create): until then these keys are on this disk only');
      const refusals = counts.get('refused');
      if (refusals) throw new Fault('conflict', 'import-incomplete', `${refusals} could not be taken; what is said of each stands above`);
    });
}

/** Throws `file-unreadable`, `file-too-large`. */
function readP12(path: string): Buffer {
  try {
    if (statSync(path).size <= MOST_FILE) return readFileSync(path);
  } catch (error) {
    throw new Fault('not-found', 'file-unreadable', `it cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
  throw new Fault('too-large', 'file-too-large', `it has more than ${MOST_FILE} bytes`);
}

async function keysOf(bytes: Buffer, given: Phrase | undefined, dryRun: boolean, ask: CommandParts['ask']): Promise<ImportedKey[]> {
  if (!given) throw new Fault('not-found', 'passphrase-missing', 'the list of pass phrases does not name this file');
  const { phrase, owner } = given;
  const what = { file: bytes.toString('base64'), phrase, dryRun, ...(owner ? { owner } : {}) };
  const keys = (await patiently(() => ask('key.import', what))) as ImportedKey[]; // KeyImports.take
  if (keys.length === 0) throw new Fault('not-found', 'key-missing', 'it holds no private key');
  return keys;
}

/** Files that are with the appliance at a time: one is opened while others are written down. */
const AT_ONCE = 4;
/** Files between two words of how far it is. */
const WORDS_EVERY = 500;

/** Does each, some at a time, in a memory that does not grow with them, and says how far it is. @param one false where nothing was to be done */
async function eachOf(files: AsyncIterable<string>, one: (file: string) => Promise<boolean>): Promise<void> {
  const began = Date.now();
  const busy = new Set<Promise<void>>();
  let [done, left] = [0, 0];
  const doing = async (file: string) => {
    if (!(await one(file))) left++;
    else if (++done % WORDS_EVERY === 0) console.error(`${done} files, ${Math.round((done * 1000) / (Date.now() - began))} a second`);
  };
  try {
    for await (const file of files) {
      const begun = doing(file).finally(() => busy.delete(begun));
      busy.add(begun);
      if (busy.size >= AT_ONCE) await Promise.race(busy);
    }
    await Promise.all(busy);
  } finally {
    // What is with the appliance comes back, and is written down, before the run ends.
    await Promise.allSettled(busy);
  }
  if (left > 0) console.error(`${left} files were taken before, as the report says`);
}

/** A folder is read entry by entry, however many there are. @param onOther told of each that is left out */
async function* filesIn(path: string, onOther: () => void): AsyncGenerator<string> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) throw new Fault('not-found', 'file-unreadable', `there is no ${path}`);
  if (!found.isDirectory()) return yield path;
  for await (const entry of await opendir(path))
    if (entry.isFile() && /\.(p12|pfx)$/i.test(entry.name)) yield join(path, entry.name);
    else onOther();
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
