import type { Command } from 'commander';
import type { CommandParts } from './command-parts.js';

/** `ekms audit search`. @param audit the group it goes into */
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
}
