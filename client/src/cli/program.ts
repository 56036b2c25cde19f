import { Command, CommanderError, Option } from 'commander';
import { Fault } from '../../../src/foundation/index.js';
import type { CannotDecrypt } from '../keys/index.js';
import type { ApiProblem } from '../sdk/index.js';
import type { DecryptOptions } from './decrypt.js';
import type { ListOptions } from './devices.js';
import type { EnrollOptions } from './enroll.js';
import type { ExportOptions } from './export.js';
import type { KeysOptions } from './keys.js';
import type { LogOptions } from './log.js';
import { pdfCommands } from './pdf-commands.js';
import { recoverCommands } from './recover-commands.js';
import type { StoreOptions, Terminal } from './session.js';

/** Exit statuses: scripts rely on them. */
const EXIT = { ok: 0, error: 1, usage: 2, cannotDecrypt: 3 } as const;

/** Runs one command line and resolves with its exit status; whatever goes wrong is words on stderr. */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number> {
  let status: number = EXIT.ok;
  const does = async (work: Promise<number>) => {
    status = await work;
  };
  try {
    await program(terminal, does).parseAsync([...argv], { from: 'user' });
    return status;
  } catch (error) {
    return explain(error, terminal);
  }
}

/** What does the work of a command is loaded when it is asked for: each starts faster by what it does without. */
export function program(terminal: Terminal, does: (work: Promise<number>) => Promise<void>): Command {
  const root = new Command('mesign')
    .description('The reference client of EKMS: your encryption keys on this device. State lives in $MESIGN_HOME (default ~/.mesign).')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.print(text),
      writeErr: (text) => {
        for (const line of text.trimEnd().split('\n')) terminal.say(line);
      },
    });
  const command = (parent: Command, name: string, description: string) =>
    parent
      .command(name)
      .description(description)
      .option('--passphrase-file <file>', 'its first line is the pass phrase that protects $MESIGN_HOME');

  command(root, 'enroll', 'make this machine a device of yours')
    .requiredOption('--server <url>', 'the appliance, https://host:port')
    .requiredOption('--ca <file>', 'its root certificate (ca.pem)')
    .requiredOption('--app <file>', 'the app credential that IT gave out')
    .requiredOption('--email <address>', 'your e-mail address')
    .option('--mailbox <where>', 'maildir:DIR, imap://user@host:port/ or imaps://…: where the challenge mail arrives')
    .option('--imap-password-file <file>', 'its first line is the password of the IMAP account')
    .option('--code <half>', 'instead of --mailbox: what follows "ACME:" in the Subject of the mail')
    .option('--device-id <identifier>', 'where only registered machines may enrol: this one, as the list names it')
    .option('--device-certificate <file>', 'instead of --device-id: the certificate that your device management gave this machine, PEM')
    .option('--device-key <file>', 'the private key of that certificate, PEM')
    .option('--name <text>', 'what your other devices are shown (default: the host name)')
    .action((options: EnrollOptions) => does(import('./enroll.js').then(({ enroll }) => enroll(terminal, options))));
  command(root, 'keys', 'fetch, verify and list your keys')
    .option('--json', 'an array of {id, suite, state, mode, certificates}')
    .action((options: KeysOptions) => does(import('./keys.js').then(({ keys }) => keys(terminal, options))));
  command(root, 'log', 'list every use of your keys, checked against the log that the appliance cannot quietly change')
    .option('--json', 'an array of the entries')
    .option('--all', 'also the entries of looking at the log')
    .option('--new-log', 'IT said that the log was given up and begun anew under another name: take it, and forget the former one')
    .action((options: LogOptions) => does(import('./log.js').then(({ log }) => log(terminal, options))));
  command(root, 'decrypt', 'open a mail, or a .p7m file')
    .argument('<mail>', 'the file; - for stdin')
    .option('-o, --output <file>', 'where the content goes (default: stdout)')
    .action((mail: string, options: DecryptOptions) =>
      does(import('./decrypt.js').then(({ decrypt }) => decrypt(terminal, mail, options))),
    );
  command(root, 'export', 'write a key and its certificates as PKCS#12 for another mail program')
    .requiredOption('--key <id>', 'the key, as "mesign keys" names it')
    .requiredOption('--p12 <file>', 'where it goes')
    .addOption(
      new Option('--profile <name>', 'modern: AES-256; compat: 3DES, for old readers').choices(['modern', 'compat']).default('modern'),
    )
    .option('--p12-passphrase-file <file>', 'its first line protects the PKCS#12 file (default: one is made and shown)')
    .action((options: ExportOptions) => does(import('./export.js').then(({ exportKey }) => exportKey(terminal, options))));

  pdfCommands(root, command, terminal, does);
  recoverCommands(root, command, terminal, does);

  const devices = command(root, 'devices', 'list your devices')
    .option('--json', 'as JSON')
    .action((options: ListOptions) => does(import('./devices.js').then(({ listDevices }) => listDevices(terminal, options))));
  // An option that both have is the parent's, wherever it stands: the two are read as one.
  const sub = (name: string, description: string) => command(devices, name, description);
  sub('pending', 'list devices that wait for your confirmation')
    .option('--json', 'as JSON')
    .action((_, self: Command) =>
      does(import('./devices.js').then(({ listPending }) => listPending(terminal, self.optsWithGlobals<ListOptions>()))),
    );
  sub('confirm <id>', 'confirm a device of yours that is enrolling').action((id: string, _, self: Command) =>
    does(import('./devices.js').then(({ decide }) => decide(terminal, id, true, self.optsWithGlobals<StoreOptions>()))),
  );
  sub('deny <id>', 'deny it').action((id: string, _, self: Command) =>
    does(import('./devices.js').then(({ decide }) => decide(terminal, id, false, self.optsWithGlobals<StoreOptions>()))),
  );
  sub('remove', 'remove this device, and its keys from this machine').action((_, self: Command) =>
    does(import('./devices.js').then(({ removeThis }) => removeThis(terminal, self.optsWithGlobals<StoreOptions>()))),
  );
  return root;
}

/** By its name: the rooms that these come from are loaded only by commands that need them. */
const isNamed = <E extends Error>(error: unknown, name: E['name']): error is E => error instanceof Error && error.name === name;

function explain(error: unknown, terminal: Terminal): number {
  // Commander has said its words already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  if (isNamed<CannotDecrypt>(error, 'CannotDecrypt')) {
    // Whom a mail names, and what is here: a line each.
    for (const line of `cannot decrypt: ${error.message}`.split('\n')) terminal.say(line);
    return EXIT.cannotDecrypt;
  }
  if (isNamed<ApiProblem>(error, 'ApiProblem')) {
    const later = error.retryAfter === undefined ? '' : ` Try again in ${error.retryAfter} s.`;
    terminal.say(`the appliance refused: ${error.message} (${error.code})${later}`);
    return EXIT.error;
  }
  if (error instanceof Fault) {
    terminal.say(error.message);
    if (error.code === 'usage') return EXIT.usage;
    return UNREADABLE.has(error.code) ? EXIT.cannotDecrypt : EXIT.error;
  }
  const { message, name } = error instanceof Error ? error : { message: '', name: 'error' };
  terminal.say(`this is a defect of mesign, please report it: ${name}${message && `: ${message}`}`);
  return EXIT.error;
}

/** Mails and documents that nobody could open. */
const UNREADABLE = new Set([
  'asn1-malformed',
  'cms-malformed',
  'cms-not-enveloped',
  'mime-malformed',
  'mime-ambiguous',
  'mime-too-deep',
  'not-encrypted',
  'algorithm-unsupported',
  'pdf-not',
  'pdf-damaged',
  'pdf-truncated',
  'pdf-excessive',
  'pdf-unsupported',
]);
