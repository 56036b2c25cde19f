import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ImportedKey } from '../../src/custody/index.js';
import { isFault } from '../../src/foundation/index.js';

/** An appliance, of this process or not. */
interface Importer {
  act(name: 'key.import', args: object): Promise<unknown>;
}

/** Of the samples of python3-cryptography-vectors and of RFC 9579; the last is for files that have none. */
const PHRASES = ['cryptography', 'password', '1234', ''] as const;

export const p12sIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(p12|pfx)$/i.test(name))
    .sort()
    .map((name) => join(folder, name));

/**
 * What becomes of each file when it is imported for `owner`: `imported`, `there`, or the code of what was refused; a file of certificates alone is
 * `key-missing`, as the command has it. Rejects with whatever is no Fault.
 */
export async function takeSamples(house: Importer, files: readonly string[], owner: string): Promise<Map<string, string>> {
  const told = new Map<string, string>();
  for (const path of files) told.set(basename(path), await one(house, readFileSync(path), owner, phrasesFor(basename(path))));
  return told;
}

/** The likely one first: each that is wrong costs the file's rounds of derivation. */
function phrasesFor(name: string): string[] {
  const likely = /no-p(wd|assword)/.test(name)
    ? ''
    : /^rfc9579/.test(name)
      ? '1234'
      : /pwd|EE\.|Cert\./.test(name)
        ? 'password'
        : 'cryptography';
  return [likely, ...PHRASES.filter((phrase) => phrase !== likely)];
}

async function one(house: Importer, bytes: Buffer, owner: string, phrases: readonly string[]): Promise<string> {
  const ask = { file: bytes.toString('base64'), owner, dryRun: false };
  let code = '';
  for (const phrase of phrases)
    try {
      const [key] = (await house.act('key.import', { ...ask, phrase })) as ImportedKey[];
      return key ? (key.code ?? key.outcome) : 'key-missing';
    } catch (error) {
      if (!isFault(error)) throw error;
      code = error.code;
    }
  return code;
}
