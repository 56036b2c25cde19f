import { Argument, type Command } from 'commander';
import { REPORTS } from '../audit/index.js';
import type { CommandParts } from './command-parts.js';

/** `ekms audit search` and `ekms audit report`. @param audit the group it goes into */
export function auditSearchCommands(audit: Command, { does }: Pick<CommandParts, 'does'>): void {
  audit
    .command('search')
    .description('entries by what they say, newest first; all that is given must hold')
    .option('--person <who>', 'e-mail address, or an employee’s id')
    .option('--key <id>')
    .option('--device <id>')
    .option('--subject <id>', 'what an act was about')
    .option('--action <name>', 'such as key.deliver')
    .option('--outcome <outcome>', 'done, refused or failed')
    .option('--address <address>', 'network address that was asked from')
    .option('--from <time>', 'not before, such as 2026-03-02T08:00:00Z')
    .option('--to <time>', 'before')
    .option('--before <index>', '`next` of the page before')
    .option('--count <n>', 'entries wanted, at most 500')
    .action((question: Record<string, string>) => does('audit.search')(question));
  audit
    .command('report')
    .description('keys released by day, unusual retrievals, devices not heard of, recoveries')
    .addArgument(new Argument('<name>').choices(REPORTS))
    .option('--from <time>', 'not before; for dormant, since when')
    .option('--to <time>', 'before; now unless said')
    .action((report: string, range: Record<string, string>) => does('audit.report')({ report, ...range }));
}
