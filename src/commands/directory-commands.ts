import type { Command } from 'commander';
import type { ActName } from './acts.js';

/** `ekms directory …`, and what the directory's stories need of `ekms employee …` */
export function directoryCommands(ekms: Command, employee: Command, does: (name: ActName) => (args: object) => Promise<void>): void {
  const directory = ekms.command('directory').description('people as your own directory has them');
  directory
    .command('sync')
    .description('look at the directory now')
    .option('--dry-run', 'say what would be done, and do nothing', false)
    .option('--confirm <digest>', 'what a dry run printed: do it, though it takes something from unusually many people')
    .action(({ dryRun, confirm }: { dryRun: boolean; confirm?: string }) => {
      if (dryRun) return does('directory.preview')({});
      return confirm === undefined ? does('directory.sync')({}) : does('directory.confirm')({ digest: confirm });
    });
  employee
    .command('owners <address>')
    .description('who owns this address, and who did')
    .action((address: string) => does('employee.owners')({ address }));
  employee
    .command('join <address>')
    .description('its owner and a former one are the same person: the address, and all that comes by it, goes to the former one')
    .requiredOption('--former <employee>', 'the former owner’s id, as "ekms employee owners" shows it')
    .action((address: string, { former }: { former: string }) => does('employee.join')({ address, former }));
}
