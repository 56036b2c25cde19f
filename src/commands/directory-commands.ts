import type { Command } from 'commander';
import type { ActName } from './acts.js';

/** `ekms directory …` */
export function directoryCommands(ekms: Command, does: (name: ActName) => (args: object) => Promise<void>): void {
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
}
