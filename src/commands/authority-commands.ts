import { Argument, type Command } from 'commander';
import type { AuthorityName } from '../tokens/index.js';
import type { CommandParts } from './command-parts.js';

export function authorityCommands(ekms: Command, { does }: CommandParts): void {
  const authorities = ekms.command('ca').description('the certificate authorities of this appliance');
  authorities
    .command('list')
    .description('every generation of each, which of them serves, and how many certificates of it still count')
    .action(() => does('ca.list')({}));
  authorities
    .command('rotate')
    .description(
      'make the next generation of an authority, with a key, a name and a revocation list of its own, and put it into service at once',
    )
    .addArgument(new Argument('<name>').choices(['people', 'devices', 'infrastructure', 'root'] satisfies AuthorityName[]))
    .action((name: string) => does('ca.rotate')({ name }));
  authorities
    .command('retire <id>')
    .description('end a former generation: nothing that it signed counts here any more, and its key is destroyed')
    .option('--revoke', 'revoke what it signed and still counts, and itself', false)
    .action((id: string, { revoke }: { revoke: boolean }) => does('ca.retire')({ id, revoke }));
}
