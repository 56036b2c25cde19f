import type { Command } from 'commander';
import type { ActName } from './acts.js';

/** `ekms budget …` */
export function budgetCommands(ekms: Command, does: (name: ActName) => (args: object) => Promise<void>): void {
  const budget = ekms.command('budget').description('devices and people that asked for far more than usual');
  budget
    .command('frozen')
    .description('who is frozen, by which budget, since when')
    .action(() => does('budget.frozen')({}));
  budget
    .command('unfreeze-device <id>')
    .description('let a device go on')
    .action((id: string) => does('budget.unfreeze-device')({ id }));
  budget
    .command('unfreeze-person <id>')
    .description('let a person’s devices go on; the id is that of "budget frozen"')
    .action((id: string) => does('budget.unfreeze-person')({ id }));
}
