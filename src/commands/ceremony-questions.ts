import { createInterface } from 'node:readline/promises';
import { Fault, isFault } from '../foundation/index.js';
import { parseAgent, parseCustodian } from './ceremony.js';

/** What `ekms ceremony` is told, by options or by answers. */
export interface CeremonyOptions {
  custodian: string[];
  threshold: number;
  shares?: string;
  recoveryAgent: string[];
  recoveryQuorum: number;
  present: string[];
  domain: string[];
  publicName?: string;
  organisation?: string;
}

/**
 * The guided form: the same options, asked one after the other. An answer that cannot be used is asked for again, and nothing is made before all was read
 * back and agreed to. Throws `ceremony-not-held` where it was not, or where the terminal went away.
 * @param isConfigured whether the home has an `ekms.yaml`, which then names domain and public name
 */
export async function askCeremony(
  given: CeremonyOptions,
  isConfigured: boolean,
  { input, output }: { input: NodeJS.ReadableStream; output: NodeJS.WritableStream } = { input: process.stdin, output: process.stderr },
): Promise<CeremonyOptions> {
  const lines = createInterface({ input, output });
  const left = new AbortController();
  lines.once('close', () => left.abort());
  const say = (line: string) => void output.write(`${line}\n`);
  const question = async (words: string): Promise<string> => {
    try {
      return (await lines.question(words, { signal: left.signal })).trim();
    } catch {
      throw notHeld();
    }
  };
  /** Until an answer is taken. */
  async function until<T>(words: string, otherwise: string, read: (answer: string) => T): Promise<T> {
    for (;;)
      try {
        return read((await question(words)) || otherwise);
      } catch (error) {
        if (!isFault(error) || error.code === 'ceremony-not-held') throw error;
        say(`  ${error.message}`);
      }
  }
  const number = (words: string, otherwise: number, least: number, most: number) =>
    until(`${words} [${otherwise}] `, String(otherwise), (answer) => {
      if (/^\d{1,2}$/.test(answer) && Number(answer) >= least && Number(answer) <= most) return Number(answer);
      throw new Fault('malformed', 'answer-malformed', `say a number from ${least} to ${most}`);
    });
  /** Somebody with a key, each name and each key once. */
  async function people(kind: string, count: number, to: string, paper: string, parse: (text: string) => unknown): Promise<string[]> {
    const all: string[] = [];
    const isTaken = (part: (text: string) => string, text: string) =>
      part(text) !== 'paper' && all.some((other) => part(other) === part(text));
    for (let n = 1; n <= count; n++) {
      const name = await until(`${kind} ${n}: name? `, '', (answer) => {
        if (!/^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,79}$/u.test(answer))
          throw new Fault('malformed', 'answer-malformed', 'a name has letters, digits, blanks, dots and hyphens');
        if (isTaken(nameIn, `${answer}=`)) throw new Fault('malformed', 'answer-malformed', `${answer} has been named already`);
        return answer;
      });
      all.push(
        await until(`  ${name}: ${to}? `, paper, (answer) => {
          const text = `${name}=${answer}`;
          parse(text);
          if (isTaken(keyIn, text)) throw new Fault('malformed', 'answer-malformed', 'that is the key of somebody named already');
          return text;
        }),
      );
    }
    return all;
  }
  const some = (words: string) =>
    until(words, '', (answer) => {
      if (answer === '') throw new Fault('malformed', 'answer-malformed', 'this one is needed');
      return answer;
    });
  try {
    say('Control-C ends it; nothing is made before you have agreed to all of it.');
    const domain = !isConfigured && given.domain.length === 0 ? [await some('Mail domain whose people may enrol? ')] : given.domain;
    const name =
      given.publicName ??
      (isConfigured
        ? undefined
        : await some('Name under which devices and browsers reach it, such as ekms.corp.example (cannot be changed later)? '));
    const count = await number('How many custodians?', 3, 2, 16);
    const threshold = await number('How many of them are needed for a restore?', 2, 2, count);
    const custodian = await people(
      'Custodian',
      count,
      'age recipient, certificate file, or nothing for a printed share',
      'paper',
      parseCustodian,
    );
    const shares = given.shares ?? (await some('Folder for the shares, on another medium? '));
    say('Recovery agents open a person’s mail without them, several together. Without any, that can never be done on this appliance.');
    const agents = await number('How many recovery agents?', 0, 0, 16);
    const recoveryAgent =
      agents > 0 ? await people('Recovery agent', Math.max(agents, 2), 'file with their public key', '', parseAgent) : [];
    const recoveryQuorum =
      agents > 0 ? await number('How many of them must approve a recovery?', 2, 2, recoveryAgent.length) : given.recoveryQuorum;
    const present = (await question('Who else is present (comma between names)? '))
      .split(',')
      .map((each) => each.trim())
      .filter(Boolean);
    say(`\n  ${threshold} of these custodians bring the keys back: ${custodian.map(readBack).join('; ')}`);
    say(`  shares and minutes go into ${shares}`);
    say(
      agents > 0
        ? `  ${recoveryQuorum} of these approve a recovery: ${recoveryAgent.map(readBack).join('; ')}`
        : '  nobody can ever approve a recovery',
    );
    if (domain.length > 0) say(`  mail domain ${domain.join(', ')}`);
    if (name !== undefined) say(`  reached as ${name}`);
    if (!/^y(es)?$/i.test(await question('\nMake it so? [y/N] '))) throw notHeld();
    return {
      ...given,
      ...{ custodian, threshold, shares, domain, present, recoveryAgent, recoveryQuorum },
      ...(name === undefined ? {} : { publicName: name }),
    };
  } finally {
    lines.close();
  }
}

const nameIn = (text: string): string => text.slice(0, text.indexOf('='));
const keyIn = (text: string): string => text.slice(text.indexOf('=') + 1);
const readBack = (text: string): string => `${nameIn(text)} (${keyIn(text) === 'paper' ? 'printed' : keyIn(text)})`;
const notHeld = (): Fault => new Fault('conflict', 'ceremony-not-held', 'no ceremony was held and nothing was made');
