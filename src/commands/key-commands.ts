import { Argument, type Command, Option } from 'commander';
import type { KeyState } from '../tokens/index.js';
import type { ActName } from './acts.js';
import type { KindName } from './key-acts.js';

/** What becomes of people's encryption keys. */
export function keyCommands(ekms: Command, does: (name: ActName) => (args: object) => Promise<void>): void {
  const key = ekms.command('key').description('people’s encryption keys');
  key
    .command('replace <address>')
    .description('a new key takes over; the old one stays for reading')
    .addOption(new Option('--because <reason>').choices(['superseded', 'compromised']).default('superseded'))
    .action((address: string, { because }: { because: string }) => does('key.replace')({ address, because }));
  key
    .command('set-state <id>')
    .description('change a key’s state; destroyed takes two persons and cannot be undone')
    .addArgument(new Argument('<state>').choices(['active', 'suspended', 'deactivated', 'compromised', 'destroyed'] satisfies KeyState[]))
    .addOption(
      new Option('--reason <code>', 'why')
        .choices(['superseded', 'compromised', 'departed', 'retention', 'request', 'legal', 'mistake', 'other'])
        .default('other'),
    )
    .action((id: string, state: string, { reason }: { reason: string }) => does('key.change')({ id, state, reason }));
  key
    .command('list <who>')
    .description('keys of a person (address or employee id), with dates, reasons, certificates and holds')
    .action((who: string) => does('key.list')({ who }));
  key
    .command('hold <who>')
    .description('legal hold: no key of this person is destroyed, the later ones included')
    .requiredOption('--reference <text>', 'file number or the like')
    .action((who: string, { reference }: { reference: string }) => does('hold.place')({ who, reference }));
  key
    .command('release-hold <id>')
    .description('lift a legal hold')
    .action((id: string) => does('hold.lift')({ id }));
  key
    .command('renew <who>')
    .description('a new key takes over; the old one stays for reading and its certificate runs out by itself')
    .action((who: string) => does('key.renew')({ who }));
  key
    .command('kind')
    .description('of which kind these people’s keys are from now on; who has another gets a new key, the old one stays for reading')
    .addArgument(new Argument('<kind>').choices(['rsa-2048', 'rsa-3072', 'rsa-4096', 'sm2'] satisfies KindName[]))
    .argument('[people...]', 'addresses or employee ids')
    .option('--group <name>', 'a group of documents.groups in ekms.yaml')
    .option('--everybody', 'everybody who is here now', false)
    .action((kind: string, people: string[], { group, everybody }: { group?: string; everybody: boolean }) =>
      does('key.kind')({ kind, people, everybody, ...(group === undefined ? {} : { group }) }),
    );
  key
    .command('retention')
    .description('years after their end for which keys are kept, and which would be destroyed now; those on hold are not')
    .option('--adopt <years>', 'destroy keys so many years after their end; 0: none by itself', Number)
    .action(({ adopt }: { adopt?: number }) =>
      adopt === undefined ? does('retention.show')({}) : does('retention.adopt')({ years: adopt }),
    );
  key
    .command('due')
    .description('how many certificates and keys are due to be followed by others')
    .action(() => does('key.due')({}));
}
