import { Argument, type Command } from 'commander';
import type { ReportName } from '../audit/index.js';
import type { CommandParts } from './command-parts.js';
import { intoFile } from './request-commands.js';

/** `ekms audit search`, `report`, `evidence`, `prune` and `erase-person`. @param audit the group they go into */
export function auditSearchCommands(audit: Command, { does, act, print }: Pick<CommandParts, 'does' | 'act' | 'print'>): void {
  criteria(audit.command('search').description('entries by what they say, newest first; all that is given must hold'))
    .option('--before <index>', '`next` of the page before')
    .option('--count <n>', 'entries wanted, at most 500')
    .action((question: Record<string, string>) => does('audit.search')(question));
  audit
    .command('report')
    .description('keys released by day, unusual retrievals, devices not heard of, recoveries')
    .addArgument(new Argument('<name>').choices(['releases', 'unusual', 'dormant', 'recoveries'] satisfies ReportName[]))
    .option('--from <time>', 'not before; for dormant, since when')
    .option('--to <time>', 'before; now unless said')
    .action((report: string, range: Record<string, string>) => does('audit.report')({ report, ...range }));
  audit
    .command('prune')
    .description('let go of entries that are older than retention.auditYears; takes two persons; hashes stay')
    .action(() => does('audit.prune')({}));
  audit
    .command('erase-person <who>')
    .description('delete what the log knows of a person by name, address and network; takes two persons and cannot be undone')
    .action((person: string) => does('audit.erase-person')({ person }));
  criteria(
    audit
      .command('evidence')
      .description('a ZIP of entries with what proves them, which anyone who has the log’s key can verify; takes two persons')
      .requiredOption('-o, --output <file>', 'new file, a ZIP')
      .option('--request <id>', 'what you asked for, once it is approved'),
  ).action(async ({ output, request, ...question }: { output: string; request?: string } & Record<string, string>) => {
    const make = () => (request === undefined ? act('audit.evidence', question) : act('request.perform', { id: request }));
    await intoFile(output, make, (made) => Buffer.from((made as { zip: string }).zip, 'base64')); // `audit.evidence` in audit-acts.ts
    print(`${output}: the log’s key goes to whoever verifies it by another way`);
  });
}

const criteria = (command: Command): Command =>
  command
    .option('--person <who>', 'e-mail address, or an employee’s id')
    .option('--key <id>', 'id of an encryption key')
    .option('--device <id>', 'id of a device')
    .option('--subject <id>', 'what an act was about')
    .option('--action <name>', 'such as key.deliver')
    .option('--outcome <outcome>', 'done, refused or failed')
    .option('--address <address>', 'network address that was asked from')
    .option('--from <time>', 'not before, such as 2026-03-02T08:00:00Z')
    .option('--to <time>', 'before');
