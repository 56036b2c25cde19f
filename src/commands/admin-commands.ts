import { Argument, type Command, Option } from 'commander';
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
  admin.command('list').action(() => does('admin.list')({}));
  admin
    .command('role <id>')
    .description('gives the one role, or takes it away')
    .addArgument(new Argument('<role>').choices([...ROLES, 'none']))
    .action((id: string, role: string) => does('admin.role')({ id, role: role === 'none' ? null : role }));
  admin.command('remove <id>').action((id: string) => does('admin.remove')({ id }));
  admin
    .command('renew <id>')
    .description('a link for an administrator who lost their passkeys')
    .action((id: string) => does('admin.renew')({ id }));
}
