import { type Command, Option } from 'commander';
import type { ActName } from './acts.js';

/** `ekms mailbox …` */
export function mailboxCommands(ekms: Command, does: (name: ActName) => (args: object) => Promise<void>): void {
  const mailbox = ekms.command('mailbox').description('mailboxes that several people read, each on devices of their own');
  mailbox
    .command('create <address>')
    .description('a shared mailbox with keys of its own; nobody enrols a device by its address')
    .addOption(
      new Option('--mode <mode>', 'remote: its keys stay here, and who leaves the group has nothing left').choices(['deliver', 'remote']),
    )
    .action((address: string, { mode }: { mode?: string }) => does('mailbox.create')({ address, ...(mode === undefined ? {} : { mode }) }));
  mailbox
    .command('add <mailbox> <who>')
    .description('this person reads the mailbox, all that ever came included')
    .action((address: string, who: string) => does('mailbox.add')({ mailbox: address, who }));
  mailbox
    .command('remove <mailbox> <who>')
    .description('this person reads it no more, from the next request on')
    .action((address: string, who: string) => does('mailbox.remove')({ mailbox: address, who }));
  mailbox
    .command('members <mailbox>')
    .description('who reads it and who did')
    .action((address: string) => does('mailbox.members')({ mailbox: address }));
}
