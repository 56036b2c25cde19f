import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { CommandParts } from './command-parts.js';
import { intoFile, toSign } from './request-commands.js';

/** `ekms audit export` and `ekms audit verify`. @param audit the group they go into */
export function auditCommands(audit: Command, { home, print, act }: Pick<CommandParts, 'home' | 'print' | 'act'>): void {
  audit
    .command('export <dir>')
    .description('write checkpoint, tiles and entries into a new folder; anyone can verify it without this appliance')
    .action(async (dir: string) => {
      const { exportLog } = await import('./audit-export.js');
      const size = await exportLog(resolve(dir), act);
      print(`${size} entries in ${dir}; its key is in ${join(home(), 'audit.pub')}, and goes to whoever verifies by another way`);
    });
  audit
    .command('verify')
    .description('say whether a log is whole; exit status 0 only if it is')
    .option('--export <dir>', 'an exported log; without it, this appliance’s')
    .option('--evidence <dir>', 'an evidence pack, unpacked')
    .option('--key <file>', 'the log’s key (audit.pub); never taken from the export')
    .option('--head <file...>', 'checkpoints remembered from before', [])
    .option('--tsa <file>', 'authorities (PEM) whose time stamps of heads are believed')
    .action(async (of: { export?: string; evidence?: string; key?: string; head: string[]; tsa?: string }) => {
      const { verifyLog } = await import('./audit-export.js');
      await verifyLog({ ...of, key: of.key ?? join(home(), 'audit.pub') }, { print, act });
    });
  audit
    .command('rotate-key')
    .description('give the log another key, announced in it and signed by both')
    .action(async () => print(await act('audit.rotate-key', {})));
  audit
    .command('loss')
    .description('where the log was put back: write what two persons sign to have it go on under another name')
    .requiredOption('-o, --output <file>', 'what each of them reads and signs')
    .action(async ({ output }: { output: string }) => {
      const ask = async () => (await act('audit.loss', {})) as { sign: string; acceptance: object }; // LogAcceptances.ask
      const { acceptance } = await intoFile(output, ask, toSign);
      print({ acceptance });
      console.error(
        `two recovery agents of the ceremony read ${output} and sign it: openssl dgst -sha256 -sign KEY.pem -out SIGNATURE ${output}`,
      );
    });
  audit
    .command('accept-rollback <statement>')
    .description('have the log go on under another name; every device enrols anew where acts were lost')
    .requiredOption('--signed <agent=file...>', 'who signed, and the signature')
    .action(async (statement: string, { signed }: { signed: string[] }) => {
      const [, json = ''] = readFileSync(statement, 'utf8').split('\n');
      const approvals = signed.map((one) => {
        const [agent = '', file = ''] = one.split('=');
        return { agent, signature: readFileSync(file).toString('base64') };
      });
      const { origin } = (await act('audit.accept-rollback', { acceptance: JSON.parse(json), approvals })) as { origin: string };
      print(`the log goes on as ${origin}; audit.pub is written anew and goes to whoever verifies`);
    });
}
