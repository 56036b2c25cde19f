import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { ActName } from './acts.js';

/** Writes a result into a file of its owner's alone. The file comes first: what cannot be written down must not come into being. */
export async function intoFile<T>(output: string, make: () => Promise<T>, bytesOf: (made: T) => Uint8Array = asJson): Promise<T> {
  const file = openSync(output, 'wx', 0o600);
  try {
    const made = await make();
    writeFileSync(file, bytesOf(made));
    return made;
  } catch (error) {
    rmSync(output);
    throw error;
  } finally {
    closeSync(file);
  }
}

/** What agents sign, word for word. */
export const toSign = ({ sign }: { sign: string }): Uint8Array => Buffer.from(sign, 'base64');

const asJson = (value: unknown): Uint8Array => Buffer.from(`${JSON.stringify(value, null, 2)}\n`);

/** `ekms request`: what was asked for and takes others. */
export function requestCommands(
  ekms: Command,
  does: (name: ActName) => (args: object) => Promise<void>,
  act: (name: ActName, args: object) => Promise<unknown>,
): void {
  const request = ekms
    .command('request')
    .description('requests that take other people’s approval; they give it at the administration pages');
  request
    .command('list')
    .description('all of them, with their states')
    .action(() => does('request.list')({}));
  request
    .command('show <id>')
    .description('what is asked for, by whom, and who has approved')
    .action((id: string) => does('request.show')({ id }));
  request
    .command('perform <id>')
    .description('has done what you asked for, once it is approved')
    .option('-o, --output <file>', 'where the result goes; it may be a secret')
    .action(async (id: string, { output }: { output?: string }) => {
      if (output === undefined) await does('request.perform')({ id });
      else await intoFile(output, () => act('request.perform', { id }));
    });
  request
    .command('withdraw <id>')
    .description('take a request back')
    .action((id: string) => does('request.deny')({ id }));
}
