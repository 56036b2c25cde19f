import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { Fault } from '../foundation/index.js';
import type { CommandParts } from './command-parts.js';

/** Machines that one question to the appliance names. */
const AT_ONCE = 500;

/** `ekms device register …` and what belongs to it. */
export function registrationCommands(device: Command, { act, does, print }: Pick<CommandParts, 'act' | 'does' | 'print'>): void {
  device
    .command('register <identifier> <address>')
    .description('name a machine that this person may enrol')
    .action((identifier: string, address: string) => does('device.register')({ entries: [{ identifier, address }] }));
  device
    .command('register-list <file>')
    .description('the same for each line "identifier,address" of a file')
    .action(async (file: string) => {
      const entries = readRegistrationList(file);
      for (let from = 0; from < entries.length; from += AT_ONCE) {
        await act('device.register', { entries: entries.slice(from, from + AT_ONCE) });
        print({ registered: Math.min(entries.length, from + AT_ONCE), of: entries.length });
      }
    });
  device
    .command('unregister <identifier>')
    .description('take a machine from the list')
    .option('--devices', 'also end the device that enrolled by it', false)
    .action((identifier: string, { devices }: { devices: boolean }) => does('device.unregister')({ identifier, devices }));
  device
    .command('registered')
    .description('the list, with the device that came in by each')
    .action(() => does('device.registered')({}));
}

/** Two values a line; a first line "identifier,address" and empty lines are passed over. Names every line that does not fit. */
export function readRegistrationList(file: string): { identifier: string; address: string }[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Fault('misconfigured', 'list-unreadable', `${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
  const lines = text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .map((line, at) => ({ at: at + 1, values: line.split(',').map((value) => value.trim()) }));
  const filled = lines.filter(({ at, values }) => values.join('') !== '' && !(at === 1 && values.join() === 'identifier,address'));
  const wrong = filled.filter(({ values: [identifier, address, ...more] }) => !identifier || !address?.includes('@') || more.length > 0);
  if (wrong.length > 0 || filled.length === 0)
    throw new Fault(
      'malformed',
      'list-malformed',
      filled.length === 0
        ? `${file} names no machine`
        : `${file}: each line is "identifier,address"; these are not: ${wrong
            .slice(0, 10)
            .map(({ at }) => at)
            .join(', ')}`,
    );
  return filled.map(({ values: [identifier = '', address = ''] }) => ({ identifier, address }));
}
