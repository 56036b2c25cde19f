import 'reflect-metadata';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import type { Command } from 'commander';
import { program as mesign } from '../../client/src/cli/program.js';
import type { Terminal } from '../../client/src/cli/session.js';
import { program as ekms } from '../../src/commands/program.js';

const root = resolve('.');
const programs: Record<string, Command> = { ekms: ekms({ root }, '0'), mesign: mesign({} as Terminal, async () => {}) };
/** Of a checkout's ./ekms alone: they are scripts. */
const SCRIPTS = ['test', 'demo'];
const markdown = (folder: string) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name));
/** Decisions and changes tell of their time; these are of today. */
const DOCUMENTS = ['.', 'docs', 'docs/operations', 'docs/formats'].flatMap(markdown);

/** Command lines: whatever stands in backticks or in a block of code and begins with a program of ours. */
function commandLines(text: string): string[] {
  const blocks = [...text.matchAll(/```\w*\n([\s\S]*?)```/g)].flatMap(([, block = '']) => block.replaceAll('\\\n', ' ').split('\n'));
  const spans = [...text.replaceAll(/```[\s\S]*?```/g, '').matchAll(/`([^`]+)`/g)].map(([, span = '']) => span.replaceAll('\n', ' '));
  return [...blocks, ...spans].flatMap((line) => line.split(/&&|[|;#]\s/)).map((line) => line.trim().replace(/^(sudo |\$ )*(\.\/)?/, ''));
}

/** What is wrong with a command line, as far as names of commands and options go; undefined where nothing is. */
function wrongWith(line: string): string | undefined {
  const [name = '', ...words] = line.split(/[\s[\]()…]+/);
  let command = programs[name];
  if (!command || (name === 'ekms' && SCRIPTS.includes(words[0] ?? ''))) return undefined;
  let parsing = true;
  for (const word of words.map((each) => each.replace(/[,.:;]+$/, ''))) {
    if (word === '--') return undefined;
    const [flag = ''] = word.split('=');
    if (/^--?[a-z]/.test(flag)) {
      parsing = false;
      const known = [...command.options, ...(command.parent?.options ?? [])].flatMap(({ long, short }) => [long, short]);
      if (!known.includes(flag) && !['--help', '--version'].includes(flag)) return `${command.name()} has no ${flag}`;
    } else if (parsing && command.commands.length > 0 && /^[a-z][a-z0-9-]*$/.test(word)) {
      const next: Command | undefined = command.commands.find((each) => each.name() === word || each.aliases().includes(word));
      if (!next) return `${command.name()} has no ${word}`;
      command = next;
    } else parsing = false;
  }
  return undefined;
}

describe('each command that a document names is there, with its options', () => {
  test.each(DOCUMENTS)('%s', (document) => {
    const lines = commandLines(readFileSync(join(root, document), 'utf8'));
    expect(lines.flatMap((line) => (wrongWith(line) ? [`${line}: ${wrongWith(line)}`] : []))).toEqual([]);
  });

  test('and one that is not there is found', () => {
    const written = '`ekms pool drain`\n```sh\n./ekms init --domian corp.example\n```';
    expect(commandLines(written).flatMap((line) => wrongWith(line) ?? [])).toEqual(['init has no --domian', 'pool has no drain']);
    expect(wrongWith('ekms pool fill --count 3')).toBeUndefined();
  });
});
