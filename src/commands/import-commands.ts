import { appendFileSync, createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import type { ImportedKey } from '../custody/index.js';
import { Fault, isFault } from '../foundation/index.js';
import type { CommandParts } from './command-parts.js';
import { isAway, patiently } from './patiently.js';

interface ImportOptions {
  passphrases: string;
  dryRun: boolean;
  report?: string;
}

type Line = Pick<ImportedKey, 'words'> & { file: string; outcome: string } & Partial<ImportedKey>;

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
    .option('--report <file>', 'write one line of JSON a key there too; files that it names as taken already are not opened again')
    .action(async (path: string, { passphrases, dryRun, report }: ImportOptions) => {
      const phrases = readPhrases(passphrases);
      // Said at once, not after the patience that one which goes away meanwhile is waited for with.
      await ask('health', {});
      const counts = new Map<string, number>();
      const taken = report === undefined ? new Set<string>() : await takenBefore(report);
      // Within a dry run nothing is here yet that an earlier file would bring.
      const seen = new Set<string>();
      const tell = (line: Line) => {
        counts.set(line.outcome, (counts.get(line.outcome) ?? 0) + 1);
        if (report !== undefined) appendFileSync(report, `${JSON.stringify(line)}\n`, { mode: 0o600 });
        print(`${line.file}: ${line.outcome}: ${line.words}${line.code ? ` (${line.code})` : ''}`);
      };
      const one = async (file: string) => {
        const name = basename(file);
        try {
          for (const key of await patiently(() => keysOf(file, phrases.get(name) ?? phrases.get('*'), dryRun, ask))) {
            const isTwice = key.outcome === 'importable' && seen.has(key.publicKey);
            if (dryRun) seen.add(key.publicKey);
            tell({ file: name, ...key, ...(isTwice ? { outcome: 'there', words: 'a file before it holds this key' } : {}) });
          }
        } catch (error) {
          // About this file; an appliance that stays away ends the run, which is then begun again.
          if (!isFault(error) || isAway(error)) throw error;
          tell({ file: name, outcome: 'refused', words: `${error.message} (${error.code})` });
        }
      };
      let others = 0;
      await eachOf(
        filesIn(path, () => others++),
        one,
        (name) => taken.has(name),
      );
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

async function keysOf(file: string, given: Phrase | undefined, dryRun: boolean, ask: CommandParts['ask']): Promise<ImportedKey[]> {
  if (!given) throw new Fault('not-found', 'passphrase-missing', 'the list of pass phrases does not name this file');
  if (statSync(file).size > MOST_FILE) throw new Fault('too-large', 'file-too-large', `it has more than ${MOST_FILE} bytes`);
  const what = {
    file: readFileSync(file).toString('base64'),
    phrase: given.phrase,
    dryRun,
    ...(given.owner ? { owner: given.owner } : {}),
  };
  const keys = (await ask('key.import', what)) as ImportedKey[]; // KeyImports.take
  if (keys.length === 0) throw new Fault('not-found', 'key-missing', 'it holds no private key');
  return keys;
}

/** Files that are with the appliance at a time: one is opened while others are written down. */
const AT_ONCE = 4;
/** Files between two words of how far it is. */
const WORDS_EVERY = 500;

/** Does each, some at a time, in a memory that does not grow with them, and says how far it is. */
async function eachOf(
  files: AsyncIterable<string>,
  one: (file: string) => Promise<void>,
  isDone: (name: string) => boolean,
): Promise<void> {
  const began = Date.now();
  const busy = new Set<Promise<void>>();
  let [done, left] = [0, 0];
  for await (const file of files) {
    if (isDone(basename(file))) {
      left++;
      continue;
    }
    const doing = one(file).finally(() => busy.delete(doing));
    busy.add(doing);
    if (busy.size >= AT_ONCE) await Promise.race(busy);
    if (++done % WORDS_EVERY === 0) console.error(`${done} files, ${Math.round((done * 1000) / (Date.now() - began))} a second`);
  }
  await Promise.all(busy);
  if (left > 0) console.error(`${left} files were taken before, as the report says`);
}

/** Names of files whose every key the report of an earlier run says is here. A line that was cut off counts for nothing. */
async function takenBefore(report: string): Promise<Set<string>> {
  const taken = new Set<string>();
  if (!existsSync(report)) return taken;
  const unsure = new Set<string>();
  for await (const text of createInterface({ input: createReadStream(report) })) {
    try {
      const { file, outcome } = JSON.parse(text) as Line; // whoever may write it may leave files out anyway
      if (outcome === 'imported' || outcome === 'there') taken.add(file);
      else unsure.add(file);
    } catch {
      // the end of a run that was killed
    }
  }
  for (const file of unsure) taken.delete(file);
  return taken;
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
