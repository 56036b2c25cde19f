import { accessSync, constants, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { CommandParts } from './command-parts.js';
import { intoFile, toSign } from './request-commands.js';

interface FileOptions {
  device: string;
  reason: string;
  reference: string;
  days: number;
  from?: number;
  to?: number;
  message?: string;
  quietUntil?: number;
  reading?: boolean;
  output: string;
}

/** Recovery of a person's keys, by the recovery agents; and who those are. */
export function recoveryCommands(ekms: Command, { print, act, does }: Pick<CommandParts, 'print' | 'act' | 'does'>): void {
  const recovery = ekms
    .command('recovery')
    .description('recovery of a person’s keys, approved by several agents with their own keys or passkeys');
  recovery
    .command('file <who>')
    .description('ask for the keys of the person with this address or employee id; writes what the agents sign')
    .requiredOption('--device <id>', 'enrolled device that the keys are sealed to')
    .addOption(new Option('--reason <code>').choices(['departed', 'deceased', 'lost-devices', 'continuity', 'legal']).makeOptionMandatory())
    .option('--reference <text>', 'file number or the like', '')
    .option('--days <n>', 'how long the case stays open', whole, 7)
    .option('--from <date>', 'only keys with a certificate that was valid on or after this day (YYYY-MM-DD)', day)
    .option('--to <date>', 'only keys with a certificate that was valid before the end of this day', day)
    .option('--message <file>', 'one mail only: the file that "mesign recover message MAIL" prints')
    .option('--reading', 'the device’s person reads this mailbox until the case ends, one message at a time, up to 366 days')
    .option('--quiet-until <date>', 'the person is told on this day, not at once; the agents sign this too', day)
    .requiredOption('-o, --output <file>', 'what each agent signs')
    .action(async (who: string, { output, from, to, message, ...ask }: FileOptions) => {
      const period = from === undefined && to === undefined ? {} : { period: { from: from ?? 0, to: (to ?? Date.now()) + DAY } };
      const one = message === undefined ? {} : { message: JSON.parse(readFileSync(message, 'utf8')) as unknown };
      const file = async () =>
        (await act('recovery.file', { address: who, ...ask, ...period, ...one })) as {
          case: string;
          sign: string;
          quorum: number;
          request: object;
        }; // FiledCase
      const { case: id, quorum, request } = await intoFile(output, file, toSign);
      print({ case: id, quorum, request });
      console.error(howToSign(output));
    });
  const documents = recovery
    .command('documents')
    .description('the organisation as a reader of every document, its key in the token and its use by recovery cases only');
  documents
    .command('on <address>')
    .description('make its key and certificate, for an address of the organisation that is nobody’s')
    .action((address: string) => does('documents.recovery-on')({ address }));
  documents
    .command('off')
    .description('no document is encrypted to it any more; cases still open what was')
    .action(() => does('documents.recovery-off')({}));
  documents
    .command('show')
    .description('whether it is on, and its certificate')
    .action(() => does('documents.recovery')({}));
  recovery
    .command('approve <case>')
    .description('bring an agent’s signature by a key of their own; with a passkey they approve at the administration pages')
    .requiredOption('--agent <name>', 'whose signature it is')
    .requiredOption('--signature <file>', 'what openssl wrote when that agent signed')
    .action((of: string, given: { agent: string; signature: string }) => does('recovery.approve')({ case: of, by: signatureOf(given) }));
  recovery
    .command('release <case>')
    .description('have the token seal the keys to the device of the case: CMS for its delivery key, one file a key')
    .requiredOption('-o, --output <folder>', 'where they go; made if it is not there')
    .action(async (of: string, { output }: { output: string }) => {
      // Before the token seals anything, and the person is told of it: there is somewhere to put it.
      mkdirSync(output, { recursive: true, mode: 0o700 });
      accessSync(output, constants.W_OK);
      const released = (await act('recovery.release', { case: of })) as { key: string; delivery: string }[]; // RecoveryCases.release
      for (const { key, delivery } of released)
        writeFileSync(join(output, `${key}.p7m`), Buffer.from(delivery, 'base64'), { flag: 'wx', mode: 0o600 });
      print(`${released.length} keys are in ${output}, each for that device only`);
    });
  recovery
    .command('end <case>')
    .description('take a case back: nothing is sealed for it any more')
    .action((of: string) => does('recovery.end')({ case: of }));
  recovery
    .command('list')
    .description('agents, cases and what waits for signatures')
    .action(() => does('recovery.list')({}));
  const agents = recovery.command('agents').description('who approves recoveries');
  agents
    .command('file')
    .description('draw up another list of agents, which a quorum of those in force must sign')
    .requiredOption(
      '--agent <who...>',
      'NAME=PUBLIC-KEY-FILE (PEM), or NAME=passkey:ADDRESS for the passkeys of an administrator; each name may have several',
    )
    .requiredOption('--quorum <n>', 'how many of them must agree', whole)
    .requiredOption('-o, --output <file>', 'what each agent in force signs')
    .action(async ({ agent, quorum, output }: { agent: string[]; quorum: number; output: string }) => {
      const file = async () =>
        (await act('agents.file', { quorum, agents: await Promise.all(agent.map(namedAgent)) })) as {
          appointment: string;
          sign: string;
          quorum: number;
        }; // FiledAppointment
      const { appointment, ...filed } = await intoFile(output, file, toSign);
      print({ list: appointment, quorum: filed.quorum });
      console.error(howToSign(output));
    });
  agents
    .command('approve <list>')
    .description('bring an agent’s signature over a list of agents; with the last that is needed it is in force')
    .requiredOption('--agent <name>', 'whose signature it is')
    .requiredOption('--signature <file>', 'what openssl wrote when that agent signed')
    .action((list: string, given: { agent: string; signature: string }) => does('agents.approve')({ list, by: signatureOf(given) }));
}

const DAY = 86_400_000;

export const howToSign = (file: string) =>
  `each agent reads ${file} and signs it: openssl dgst -sha256 -sign KEY.pem -out SIGNATURE ${file}\nor, with a passkey, approves it at the administration pages`;
export const signatureOf = ({ agent, signature }: { agent: string; signature: string }) => ({
  agent,
  signature: readFileSync(signature).toString('base64'),
});

async function namedAgent(text: string): Promise<object> {
  const [, name = '', address = ''] = /^([^=]+)=passkey:(.+)$/s.exec(text) ?? [];
  if (name !== '') return { name, administrator: address };
  const { parseAgent } = await import('./ceremony.js');
  return parseAgent(text);
}

function whole(text: string): number {
  if (!/^\d{1,3}$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}

/** Milliseconds since 1970 at the beginning of a day, UTC. */
function day(text: string): number {
  const time = /^\d{4}-\d\d-\d\d$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  if (Number.isNaN(time)) throw new InvalidArgumentError('It is not a day (YYYY-MM-DD).');
  return time;
}
