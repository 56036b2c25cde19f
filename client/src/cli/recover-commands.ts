import { type Command, Option } from 'commander';
import type { ListOptions } from './devices.js';
import type { RecoverExportOptions, RecoverOptions } from './recover.js';
import type { StoreOptions, Terminal } from './session.js';

type Make = (parent: Command, name: string, description: string) => Command;

/** `mesign recover …`, for the device that a recovery case names. */
export function recoverCommands(root: Command, make: Make, terminal: Terminal, does: (work: Promise<number>) => Promise<void>): void {
  const recover = root.command('recover').description('open what the recovery agents of your organisation had sealed to this device');
  make(recover, 'list', 'recovery cases for this device, and how many agents have approved them')
    .option('--json', 'as JSON')
    .action((options: ListOptions) => does(import('./recover.js').then(({ listRecoveries }) => listRecoveries(terminal, options))));
  make(recover, 'message', 'what a case about this one mail or PDF is filed with (ekms recovery file --message)')
    .argument('<mail>', 'the file; - for stdin')
    .action((mail: string, _options: StoreOptions) =>
      does(import('./recover.js').then(({ describeMessage }) => describeMessage(terminal, mail))),
    );
  make(recover, 'export', 'write every key of a case as PKCS#12, a file a key; done again, it goes on where it was cut off')
    .argument('<case>', 'its id')
    .requiredOption('--p12 <folder>', 'where the files go')
    .requiredOption('--p12-passphrase-file <file>', 'its first line protects each file')
    .addOption(
      new Option('--profile <name>', 'modern: AES-256; compat: 3DES, for old readers').choices(['modern', 'compat']).default('modern'),
    )
    .action((of: string, options: RecoverExportOptions) =>
      does(import('./recover.js').then(({ exportRecovered }) => exportRecovered(terminal, of, options))),
    );
  make(recover, 'open', 'open a mail or a PDF with what a case recovers; no key is kept, and each use is in the log')
    .argument('<case>', 'its id')
    .argument('<mail>', 'the file; - for stdin')
    .option('-o, --output <file>', 'where the content goes (default: stdout; a PDF needs one)')
    .action((of: string, mail: string, options: RecoverOptions) =>
      does(import('./recover.js').then(({ openRecovered }) => openRecovered(terminal, of, mail, options))),
    );
}
