import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import { ROLES } from '../foundation/index.js';
import type { ActName } from './acts.js';

/** `ekms admin`: administrators and how they come in. */
export function adminCommands(ekms: Command, does: (name: ActName) => (args: object) => Promise<void>): void {
  const admin = ekms.command('admin').description('administrators');
  admin
    .command('invite')
    .description('a link that works once, for minutes, and makes an administrator of whoever follows it')
    .option('--name <name>', 'the person; else they say')
    .option('--email <address>', 'where announcements go; else they say')
    .addOption(new Option('--role <role>', 'during bootstrap only; security-officer unless said').choices(ROLES))
    .action(({ name, email, role }: { name?: string; email?: string; role?: string }) =>
      does('admin.invite')({ ...(name ? { name } : {}), ...(email ? { address: email } : {}), ...(role ? { role } : {}) }),
    );
  admin
    .command('list')
    .description('who they are, with role and id')
    .action(() => does('admin.list')({}));
  admin
    .command('role <id>')
    .description('gives the one role, or takes it away')
    .addArgument(new Argument('<role>').choices([...ROLES, 'none']))
    .action((id: string, role: string) => does('admin.role')({ id, role: role === 'none' ? null : role }));
  admin
    .command('remove <id>')
    .description('an administrator leaves; their sessions end')
    .action((id: string) => does('admin.remove')({ id }));
  admin
    .command('renew <id>')
    .description('a link for an administrator who lost their passkeys')
    .action((id: string) => does('admin.renew')({ id }));

  const glass = admin
    .command('break-glass')
    .description('new security officers when too few can sign in: told to everybody, after a wait in which any administrator can stop it');
  glass
    .command('begin')
    .description('everybody is told, and the wait begins')
    .requiredOption('--officer <name and address...>', 'such as "Anna <anna@corp.example>"; one or two')
    .action(({ officer }: { officer: string[] }) => does('break-glass.begin')({ officers: officer.map(named) }));
  glass
    .command('show')
    .description('whether one is under way, for whom, and when it opens')
    .action(() => does('break-glass.show')({}));
  glass
    .command('cancel')
    .description('stop it')
    .action(() => does('break-glass.cancel')({}));
  glass
    .command('open')
    .description('after the wait: a link for each officer, for 15 minutes')
    .action(() => does('break-glass.open')({}));
}

function named(text: string): { name: string; address: string } {
  const [, name = '', address = ''] = /^\s*([^<>]+?)\s*<([^<>\s]+)>\s*$/.exec(text) ?? [];
  if (!address) throw new InvalidArgumentError(`"${text}" is not like "Anna <anna@corp.example>".`);
  return { name, address };
}
