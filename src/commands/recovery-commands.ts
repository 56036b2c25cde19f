import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';

import type { CommandParts } from './command-parts.js';

/** Recovery of a person's keys, by the agents whom the ceremony named. */
export function recoveryCommands(ekms: Command, { print, act, does }: Pick<CommandParts, 'print' | 'act' | 'does'>): void {
  const recovery = ekms.command('recovery').description('recovery of a person’s keys, approved by several agents with their own keys');
  recovery
    .command('file <address>')
    .description('ask for the keys of the person with this address; writes what the agents sign')
    .requiredOption('--device <id>', 'enrolled device that the keys are sealed to')
    .addOption(new Option('--reason <code>').choices(['departed', 'deceased', 'lost-devices', 'continuity', 'legal']).makeOptionMandatory())
    .option('--reference <text>', 'file number or the like', '')
    .option('--days <n>', 'how long the case stays open', (text) => whole(text), 7)
    .option('--message <digest>', 'one message only: SHA-256, base64url, of its encrypted key')
    .requiredOption('-o, --output <file>', 'what each agent signs')
    .action(
      async (
        address: string,
        { output, ...ask }: { output: string; device: string; reason: string; reference: string; days: number; message?: string },
      ) => {
        const filed = (await act('recovery.file', { address, ...ask })) as { case: string; sign: string; quorum: number; request: object }; // FiledCase
        writeFileSync(output, Buffer.from(filed.sign, 'base64'), { flag: 'wx' });
        print({ case: filed.case, quorum: filed.quorum, request: filed.request });
        console.error(`each agent reads ${output} and signs it: openssl dgst -sha256 -sign KEY.pem -out SIGNATURE ${output}`);
      },
    );
  recovery
    .command('approve <case>')
    .requiredOption('--agent <name>')
    .requiredOption('--signature <file>')
    .action((of: string, { agent, signature }: { agent: string; signature: string }) =>
      does('recovery.approve')({ case: of, agent, signature: readFileSync(signature).toString('base64') }),
    );
  recovery
    .command('release <case>')
    .description('have the token seal the keys to the device of the case: CMS for its delivery key, one file a key')
    .requiredOption('-o, --output <folder>')
    .action(async (of: string, { output }: { output: string }) => {
      const released = (await act('recovery.release', { case: of })) as { key: string; delivery: string }[]; // RecoveryCases.release
      for (const { key, delivery } of released)
        writeFileSync(join(output, `${key}.p7m`), Buffer.from(delivery, 'base64'), { flag: 'wx', mode: 0o600 });
      print(`${released.length} keys are in ${output}, each for that device only`);
    });
  recovery.command('list').action(() => does('recovery.list')({}));
}

function whole(text: string): number {
  if (!/^\d{1,2}$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}
