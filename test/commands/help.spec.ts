import { expect, test } from '@jest/globals';
import type { Command } from 'commander';
import { program } from '../../src/commands/program.js';

const every = (command: Command): Command[] => [command, ...command.commands.flatMap(every)];
const nameOf = (command: Command): string => (command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name());

test('each command, and each of its options, says what it does', () => {
  const silent = every(program({ root: '/' }, '0')).flatMap((command) => [
    ...(command.description() === '' ? [nameOf(command)] : []),
    ...command.options
      .filter(({ description, argChoices }) => description === '' && !argChoices)
      .map(({ flags }) => `${nameOf(command)} ${flags}`),
  ]);
  expect(silent).toEqual([]);
});
