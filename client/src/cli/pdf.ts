import {
  type Components,
  type EnvelopeForm,
  parsePermissions,
  permissionBits,
  publicKeySecurity,
  type Readers,
  type Rewritten,
  rewrite,
  type Warning,
} from '../../../src/codec/pdf/index.js';
import { Fault } from '../../../src/foundation/index.js';
import { heldKey, openWrapped, type RemoteDecryption } from '../keys/index.js';
import {
  distinct,
  fetchRecovery,
  findRecipient,
  foreignRecipient,
  type Job,
  jobsOf,
  type Keys,
  ownRecipient,
  type Recipient,
  recoveryRecipient,
  withDocument,
  writeDocument,
} from '../pdf/index.js';
import { deviceOf, firstLine, type State, type Store } from '../store/index.js';
import type { Certificate } from '../x509/index.js';
import { asDevice, openStore, type StoreOptions, type Terminal } from './session.js';

export interface PdfEncryptOptions extends StoreOptions {
  to?: string[];
  certificate?: string[];
  output: string;
  permissions: string;
  content: 'aes256' | 'aes128';
  oaep?: boolean;
  encrypt: Components;
  breakSignatures?: boolean;
  recursive?: boolean;
  passwordFile?: string;
}

export interface PdfDecryptOptions extends StoreOptions {
  output: string;
  recursive?: boolean;
  breakSignatures?: boolean;
  passwordFile?: string;
}

export async function pdfEncrypt(terminal: Terminal, inputs: readonly string[], options: PdfEncryptOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const jobs = jobsOf(inputs, options.output, options.recursive === true);
  const state = await store.read();
  const keys = { ...(await keysOf(store, state)), password: await passwordOf(options) };
  const [own, ...others] = await recipientsOf(store, state, keys, options);
  const form = formOf(terminal, options);
  const permissions = permissionBits(parsePermissions(options.permissions));
  terminal.say(`encrypting to ${[own, ...others].map(({ name }) => name).join(', ')}`);
  return each(terminal, jobs, (job) =>
    withDocument(job.input, keys, async ({ file, mode, opened }) => {
      if (opened) terminal.say(`${job.input} was encrypted; opened with ${opened.by}`);
      const groups = groupsOf(
        own.certificate,
        others.map(({ certificate, isRecovery }) => ({ certificate, permissions: isRecovery ? permissionBits('owner') : permissions })),
      );
      return writeDocument(job.output, mode, (sink) =>
        rewrite(file, sink, {
          security: publicKeySecurity(groups, form, options.encrypt),
          signatures: options.breakSignatures ? 'break' : 'refuse',
          progress: terminal.progress?.(job.input),
        }),
      );
    }),
  );
}

export async function pdfDecrypt(terminal: Terminal, inputs: readonly string[], options: PdfDecryptOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const jobs = jobsOf(inputs, options.output, options.recursive === true);
  const keys = { ...(await keysOf(store)), password: await passwordOf(options) };
  return each(terminal, jobs, (job) =>
    withDocument(job.input, keys, async ({ file, opened }) => {
      if (!opened) throw new Fault('malformed', 'not-encrypted', `${job.input} is not encrypted`);
      terminal.say(`decrypted with ${opened.by}`);
      if (!opened.permissions.isOwner) terminal.say(`its sender allows you: ${opened.permissions.allowed.join(', ') || 'to read it'}`);
      // What was plain only here is for the owner of this machine's account alone.
      return writeDocument(job.output, 0o600, (sink) =>
        rewrite(file, sink, { signatures: 'break', progress: terminal.progress?.(job.input) }),
      );
    }),
  );
}

/**
 * One group for each set of permissions. The sender is the first of each, and by the first group may do everything (a person in two has what the first
 * allows): so whoever sent a document can read later what each reader was allowed, and keep it when its readers change.
 */
export function groupsOf(sender: Certificate, others: readonly { certificate: Certificate; permissions: number }[]): Readers[] {
  const owner = permissionBits('owner');
  const groups = new Map<number, Buffer[]>([[owner, [sender.der]]]);
  for (const { certificate, permissions } of others)
    groups.set(permissions, [...(groups.get(permissions) ?? [sender.der]), certificate.der]);
  return [...groups].map(([permissions, certificates]) => ({ permissions, certificates }));
}

const passwordOf = async ({ passwordFile }: { passwordFile?: string }): Promise<string | undefined> =>
  passwordFile === undefined ? undefined : firstLine(passwordFile, 'password');

export async function keysOf(store: Store, known?: State): Promise<Keys> {
  const state = known ?? (await store.read());
  const remotely: RemoteDecryption = async (key, ask) => {
    const answer = await asDevice(store, (client) => client.decrypt(key.id, ask));
    if (answer.receipt) await store.keepReceipt({ key: key.id, act: 'decrypt', ...answer.receipt }, new Date());
    return openWrapped(deviceOf(state).deliveryKey, Buffer.from(answer.wrapped, 'base64'), answer.hash);
  };
  return { held: state.keys.map(heldKey), remotely };
}

async function recipientsOf(
  store: Store,
  state: State,
  keys: Keys,
  options: { to?: string[]; certificate?: string[] },
): Promise<[Recipient, ...Recipient[]]> {
  const { address, root } = deviceOf(state);
  const now = new Date();
  const addresses = (options.to ?? [])
    .flatMap((list) => list.split(','))
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const files = (options.certificate ?? []).map((path) => foreignRecipient(path, now));
  if (addresses.length + files.length === 0)
    throw new Fault('malformed', 'usage', 'name who may open the document: --to ADDRESS,…, or --certificate FILE');
  const own = ownRecipient(keys.held, address);
  // Without an address there is no need for the appliance, and what it last said counts.
  const [recovery, found] =
    addresses.length === 0
      ? [recoveryRecipient(state.recovery), []]
      : await asDevice(store, (client) =>
          Promise.all([fetchRecovery(store, client, now), Promise.all(addresses.map((name) => findRecipient(client, root, name, now)))]),
        );
  return distinct(own, [...(recovery ? [recovery] : []), ...found, ...files]);
}

function formOf(terminal: Terminal, { content, oaep }: { content: 'aes256' | 'aes128'; oaep?: boolean }): EnvelopeForm {
  if (oaep) terminal.say('warning: Acrobat and most other programs cannot open RSA-OAEP; mesign, pyHanko and PDFBox can');
  if (content === 'aes128')
    terminal.say('note: the list of recipients is under AES-128, as Acrobat XI writes it; the document itself is under AES-256');
  return { transport: oaep ? 'oaep' : 'pkcs1', cipher: content === 'aes128' ? 'aes-128-cbc' : 'aes-256-cbc' };
}

const WORDS: Readonly<Record<Warning, string>> = {
  repaired: 'its cross-references were damaged; what is in the file was found by looking through it',
  'signatures-broken': 'its signatures no longer hold',
  'certification-broken': 'it was certified, and the certification no longer holds',
  'usage-rights-broken': 'its usage rights for Adobe Reader no longer hold',
  'pdf-a': 'it says that it is PDF/A, which an encrypted file cannot be',
  'damaged-parts': 'parts of it did not decrypt well: it was damaged, or changed on the way',
};

/** Does one after another; each that fails says why, and the others go on. With one alone its own fault counts, for its exit status. */
async function each(terminal: Terminal, jobs: readonly Job[], work: (job: Job) => Promise<Rewritten>): Promise<number> {
  let failed = 0;
  for (const job of jobs) {
    try {
      const { pages, warnings } = await work(job);
      for (const warning of warnings) terminal.say(`warning: ${job.input}: ${WORDS[warning]}`);
      terminal.say(`${job.input} -> ${job.output} (${pages} page${pages === 1 ? '' : 's'})`);
    } catch (error) {
      if (jobs.length === 1) throw error;
      failed++;
      terminal.say(`FAILED ${job.input}: ${error instanceof Error ? error.message : 'a defect'}`);
    }
  }
  if (jobs.length > 1) terminal.say(`${jobs.length - failed} of ${jobs.length} done`);
  return failed === 0 ? 0 : 1;
}
