import { createPrivateKey, createPublicKey } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { FiledAcceptance, FiledTransfer, ImportedKey, Incoming, TransferCard, TransferHead, TransferLine } from '../custody/index.js';
import { base64url, Fault, isFault, parsedJson, sha256 } from '../foundation/index.js';
import type { CommandParts } from './command-parts.js';
import { readOwners } from './import-commands.js';
import { isAway, patiently } from './patiently.js';
import { howToSign, signatureOf } from './recovery-commands.js';
import { intoFile, toSign } from './request-commands.js';

interface FileOptions {
  to: string;
  person?: string[];
  everybody?: boolean;
  reason: string;
  reference: string;
  days: number;
  output: string;
}

/** `ekms transfer …`: keys to another appliance, or out of all of them. */
export function transferCommands(ekms: Command, { print, act, ask, does }: Pick<CommandParts, 'print' | 'act' | 'ask' | 'does'>): void {
  const transfer = ekms
    .command('transfer')
    .description('people’s keys to another appliance, or to a key of your own, approved by the recovery agents');
  transfer
    .command('key')
    .description('on the receiving appliance: make a key in its token for others to seal keys to')
    .requiredOption('-o, --output <file>', 'new file for the key’s card')
    .action(async ({ output }: { output: string }) => {
      const card = await intoFile(output, async () => (await act('transfer.key', {})) as TransferCard); // TransferKeys.make
      print(`${output}\nSHA-256 of the key: ${base64url(sha256(Buffer.from(card.publicKey, 'base64')))}`);
      console.error('take the file to the sending appliance, and that line by another way: its agents sign it');
    });
  transfer
    .command('file')
    .description('ask for keys to leave; writes what the agents sign')
    .requiredOption('--to <file>', 'what "ekms transfer key" wrote on the receiving appliance, or an RSA public key (PEM) of your own')
    .addOption(new Option('--person <who...>', 'address or employee id').conflicts('everybody'))
    .option('--everybody', 'the keys of all people')
    .addOption(new Option('--reason <code>').choices(['migration', 'handover', 'archive', 'legal']).makeOptionMandatory())
    .option('--reference <text>', 'file number or the like', '')
    .option('--days <n>', 'how long it stays open', days, 7)
    .requiredOption('-o, --output <file>', 'what each agent signs')
    .action(async ({ to, person, everybody, output, ...ask }: FileOptions) => {
      if (!person && !everybody) throw new Fault('malformed', 'transfer-malformed', 'say --person WHO or --everybody');
      const recipient = (await recipientIn(to)).toString('base64');
      const file = async () => (await act('transfer.file', { ...ask, recipient, ...(person ? { people: person } : {}) })) as FiledTransfer; // KeyTransfers.file
      const filed = await intoFile(output, file, toSign);
      print({ transfer: filed.transfer, quorum: filed.quorum, request: filed.request });
      console.error(howToSign(output));
    });
  transfer
    .command('approve <transfer>')
    .description(
      'bring an agent’s signature by a key of their own, over keys that leave or that come in; with a passkey they approve at the administration pages',
    )
    .requiredOption('--agent <name>', 'whose signature it is')
    .requiredOption('--signature <file>', 'what openssl wrote when that agent signed')
    .action((of: string, given: { agent: string; signature: string }) =>
      does('transfer.approve')({ transfer: of, by: signatureOf(given) }),
    );
  transfer
    .command('end <transfer>')
    .description('take a transfer back: no key leaves or comes in by it any more')
    .action((of: string) => does('transfer.end')({ transfer: of }));
  transfer
    .command('list')
    .description('transfers, newest first, and who approved them')
    .action(() => does('transfer.list')({}));
  transfer
    .command('send <transfer>')
    .description('have the token seal the keys and write them into a file; the same command goes on with one that was cut off')
    .requiredOption('-o, --output <file>', 'the package; the same one goes on where it was cut off')
    .action(async (of: string, { output }: { output: string }) => {
      const head = (await act('transfer.head', { transfer: of })) as TransferHead; // KeyTransfers.head
      const { writeTransfer } = await import('./transfer-file.js');
      const { keys, problems } = await writeTransfer(output, head, {
        page: async (after) => (await act('transfer.page', { transfer: of, ...(after ? { after } : {}) })) as TransferLine[], // KeyTransfers.page
        close: async (digest) => (await act('transfer.close', { transfer: of, ...digest })) as string,
        say: progress,
      });
      print(`${keys} keys are in ${output}, for that recipient only`);
      if (problems.length > 0)
        throw new Fault('conflict', 'transfer-incomplete', `${problems.length} keys the token would not give:\n${problems.join('\n')}`);
    });
  transfer
    .command('take <file>')
    .description(
      'on the receiving appliance: take the keys in, marked as imported; done again, it leaves what is here and takes what is not',
    )
    .requiredOption('--from <ca>', 'the sending appliance’s root certificate (its ca.pem)')
    .option('--owners <file>', 'CSV, a line a person: ADDRESS OR EMPLOYEE ID THERE,ADDRESS OR EMPLOYEE ID HERE')
    .option('--dry-run', 'say what would be done, and do nothing', false)
    .option('--report <file>', 'write one line of JSON a key there too')
    .option('-o, --output <file>', 'where what each agent here signs goes, until enough of them have')
    .action(async (file: string, { from, owners, dryRun, report, output }: TakeOptions) => {
      const { keysOf, rootIn, verifyTransfer } = await import('./transfer-file.js');
      await ask('health', {}); // as an import does
      const root = rootIn(readFileSync(from));
      const { keys, file: sum } = await verifyTransfer(file, root);
      const named = owners === undefined ? new Map<string, string>() : readOwners(owners);
      const acceptance = dryRun ? undefined : await accepted({ path: resolve(file), file: sum, root, owners: [...named] }, output, act);
      const counts = new Map<string, number>();
      let done = 0;
      for await (const { text, line } of keysOf(file)) {
        const said = await takeOne(
          line,
          acceptance === undefined ? await preview(line, named) : ['transfer.take', { acceptance, line: text }],
          ask,
        );
        counts.set(said.outcome, (counts.get(said.outcome) ?? 0) + 1);
        if (report !== undefined) appendFileSync(report, `${JSON.stringify({ from: line.key, ...said })}\n`, { mode: 0o600 });
        if (said.outcome === 'refused') print(`${line.key}: refused: ${said.words} (${said.code})`);
        progress(`${++done} of ${keys}`);
      }
      print([...counts].map(([outcome, count]) => `${outcome} ${count}`).join(', ') || 'there is no key in it');
      if (counts.has('imported')) console.error('make a backup now (ekms backup create)');
      const refusals = counts.get('refused');
      if (refusals) throw new Fault('conflict', 'import-incomplete', `${refusals} could not be taken; what is said of each stands above`);
    });
  transfer
    .command('open <file>')
    .description('where your own private key is: write the keys of a transfer to it as PKCS#12, one file a key. Needs no appliance')
    .requiredOption('--from <ca>', 'the sending appliance’s root certificate (its ca.pem)')
    .requiredOption('--key <file>', 'your RSA private key (PEM)')
    .requiredOption('--p12 <folder>', 'where the files go')
    .requiredOption('--p12-passphrase-file <file>', 'its first line is the pass phrase of all of them')
    .addOption(new Option('--profile <name>', 'compat: 3DES, for old readers').choices(['modern', 'compat']).default('modern'))
    .action(async (file: string, how: OpenOptions) => {
      const { keysOf, verifyTransfer } = await import('./transfer-file.js');
      const { toPkcs12 } = await import('./open-transfer.js');
      const { authorities } = await verifyTransfer(file, readFileSync(how.from));
      const key = createPrivateKey(readFileSync(how.key));
      const [phrase = ''] = readFileSync(how.p12PassphraseFile, 'utf8').split(/\r?\n/);
      if (phrase === '') throw new Fault('malformed', 'passphrase-missing', 'the pass phrase file’s first line is empty');
      mkdirSync(how.p12, { recursive: true, mode: 0o700 });
      let [written, kept] = [0, 0];
      for await (const { line } of keysOf(file)) {
        if ('problem' in line) kept++;
        else if (!existsSync(join(how.p12, `${line.key}.p12`)))
          await toPkcs12(line, { key, authorities, folder: how.p12, phrase, profile: how.profile });
        if (!('problem' in line)) progress(`${++written} keys`);
      }
      print(`${written} keys are in ${how.p12}${kept > 0 ? `; ${kept} the sending token would not give` : ''}`);
      console.error('these files open people’s mail: guard them, and delete them when they are where they should be');
    });
}

interface TakeOptions {
  from: string;
  owners?: string;
  dryRun: boolean;
  report?: string;
  output?: string;
}

interface OpenOptions {
  from: string;
  key: string;
  p12: string;
  p12PassphraseFile: string;
  profile: 'modern' | 'compat';
}

type Said = Pick<ImportedKey, 'outcome' | 'words'> & { code?: string };

/** What the agents here accepted just this by; asks them where they have not yet. Rejects with `transfer-not-accepted`. */
async function accepted(
  { path, root, ...what }: { path: string; root: Buffer } & Omit<Incoming, 'root'>,
  output: string | undefined,
  act: CommandParts['act'],
): Promise<string> {
  const sender = base64url(sha256(root));
  const filed = (await act('transfer.accept', { ...what, sender, path, root: root.toString('base64') })) as FiledAcceptance; // AcceptedTransfers.file
  if (filed.approvals >= filed.quorum) return filed.acceptance;
  if (output !== undefined) writeFileSync(output, Buffer.from(filed.sign, 'base64'));
  const how = output === undefined ? 'with -o FILE this command writes what they sign' : howToSign(output);
  throw new Fault(
    'forbidden',
    'transfer-not-accepted',
    `whose these keys become takes ${filed.quorum} recovery agents here to accept, ${filed.approvals} have: file ${what.file}, its sender’s root ${sender} (SHA-256, base64url)
${how}
their signatures come by: ekms transfer approve ${filed.acceptance} --agent NAME --signature FILE
once they have, give this command again`,
  );
}

type Asked = [name: 'transfer.take' | 'transfer.preview', args: object];

async function preview(line: TransferLine, owners: ReadonlyMap<string, string>): Promise<Asked> {
  const { ownerOf } = await import('../custody/index.js');
  const owner = 'problem' in line ? undefined : ownerOf(line, owners);
  return ['transfer.preview', { key: line, ...(owner ? { owner } : {}) }];
}

async function takeOne(line: TransferLine, [name, args]: Asked, ask: CommandParts['ask']): Promise<Said> {
  if ('problem' in line) return { outcome: 'refused', code: line.problem, words: 'the sending token did not give it' };
  try {
    return (await patiently(() => ask(name, args))) as ImportedKey; // KeyImports.receive
  } catch (error) {
    // About this key; an appliance that stays away ends the run, which is then begun again.
    if (!isFault(error) || isAway(error)) throw error;
    return { outcome: 'refused', code: error.code, words: error.message };
  }
}

/** SPKI, DER. */
async function recipientIn(path: string): Promise<Buffer> {
  const bytes = readFileSync(path);
  try {
    if (bytes.includes('-----BEGIN')) return createPublicKey(bytes).export({ format: 'der', type: 'spki' });
  } catch {
    throw new Fault('malformed', 'recipient-malformed', `${path} holds no public key`);
  }
  const { transferCard } = await import('../custody/index.js');
  return Buffer.from(parsedJson(transferCard, bytes).publicKey, 'base64');
}

/** On one line that changes, where somebody looks. */
const progress = (words: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`\r${words} `);
};

function days(text: string): number {
  if (!/^\d{1,2}$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}
