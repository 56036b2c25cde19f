import { type Command, Option } from 'commander';
import type { PdfDecryptOptions, PdfEncryptOptions } from './pdf.js';
import type { ChangeOptions } from './pdf-readers.js';
import type { Terminal } from './session.js';

type Make = (parent: Command, name: string, description: string) => Command;

/** `mesign pdf …`. */
export function pdfCommands(root: Command, make: Make, terminal: Terminal, does: (work: Promise<number>) => Promise<void>): void {
  const pdf = root.command('pdf').description('documents, encrypted to people with the same keys as their mail');
  const list = (value: string, before: string[] = []) => [...before, value];
  make(pdf, 'encrypt', 'encrypt documents to people; you are always among them')
    .argument('<files...>', 'documents, patterns, and with --recursive folders')
    .option('--to <addresses>', 'e-mail addresses with commas between; may be given again', list)
    .option('--certificate <file>', 'somebody from elsewhere: a certificate, PEM or DER; may be given again', list)
    .requiredOption('-o, --output <path>', 'the encrypted document; of several, a folder')
    .option(
      '--permissions <set>',
      'what the others may do: full, read, print, fill-in, comment, or single ones with commas between',
      'full',
    )
    .addOption(new Option('--content <cipher>', 'cipher of the list of recipients').choices(['aes256', 'aes128']).default('aes256'))
    .option('--oaep', 'RSA-OAEP for the recipients; Acrobat cannot open that')
    .addOption(new Option('--encrypt <what>', 'what is encrypted').choices(['all', 'all-but-metadata', 'attachments']).default('all'))
    .option('--break-signatures', 'also where the document is signed and its signatures will not hold any more')
    .option('--password-file <file>', 'its first line opens documents that are protected by a password')
    .option('--recursive', 'folders with all that is in them')
    .action((files: string[], options: PdfEncryptOptions) =>
      does(import('./pdf.js').then(({ pdfEncrypt }) => pdfEncrypt(terminal, files, options))),
    );
  make(pdf, 'decrypt', 'open documents that are encrypted to you')
    .argument('<files...>', 'documents, patterns, and with --recursive folders')
    .requiredOption('-o, --output <path>', 'the open document; of several, a folder')
    .option('--password-file <file>', 'its first line opens documents that are protected by a password')
    .option('--recursive', 'folders with all that is in them')
    .action((files: string[], options: PdfDecryptOptions) =>
      does(import('./pdf.js').then(({ pdfDecrypt }) => pdfDecrypt(terminal, files, options))),
    );
  make(pdf, 'readers', 'who can open a document, from the document alone')
    .argument('<file>')
    .option('--json', 'as JSON')
    .action((file: string, options: { json?: boolean }) =>
      does(import('./pdf-readers.js').then(({ pdfReaders }) => pdfReaders(terminal, file, options))),
    );
  const recipients = pdf.command('recipients').description('change who can open an encrypted document');
  for (const act of ['add', 'remove'] as const)
    make(recipients, act, `${act} recipients; the result is a new document`)
      .argument('<file>')
      .argument('<addresses...>')
      .option('--stay <addresses>', 'its other readers, who stay: a document does not say who they are', list)
      .option('--permissions <set>', 'what those who are added may do (default: full); readers keep what they were allowed')
      .option('--break-signatures', 'also where the document is signed')
      .requiredOption('-o, --output <file>', 'the new document')
      .action((file: string, addresses: string[], { stay, ...options }: ChangeOptions & { stay?: string[] }) =>
        does(
          import('./pdf-readers.js').then(({ pdfChangeRecipients }) =>
            pdfChangeRecipients(terminal, file, addresses, act, { ...options, ...(stay ? { to: stay } : {}) }),
          ),
        ),
      );
  make(pdf, 'watch', 'encrypt what is dropped into a folder, until it is stopped')
    .argument('<folder>')
    .option('--to <addresses>', 'e-mail addresses with commas between; may be given again', list)
    .option('--certificate <file>', 'somebody from elsewhere: a certificate, PEM or DER; may be given again', list)
    .requiredOption('-o, --output <folder>', 'where the encrypted documents go; what was dropped in stays')
    .option('--permissions <set>', 'what the others may do', 'full')
    .option('--once', 'what is there now, and no more')
    .action((folder: string, options: PdfEncryptOptions & { once?: boolean }) =>
      does(import('./pdf-watch.js').then(({ pdfWatch }) => pdfWatch(terminal, folder, { ...options, content: 'aes256', encrypt: 'all' }))),
    );
}
