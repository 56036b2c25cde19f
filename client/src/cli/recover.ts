import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { lockOf, rewrite } from '../../../src/codec/pdf/index.js';
import { compat, modern, pkcs12 } from '../../../src/codec/pkcs12/index.js';
import { base64url, Fault, sha256 } from '../../../src/foundation/index.js';
import { type Enveloped, openTransport, type Transport } from '../cms/index.js';
import { acceptRecovered, chainOf, openerFor, type RemoteDecryption } from '../keys/index.js';
import { unwrap } from '../mime/index.js';
import { type Keys, withDocument, withFile, writeDocument } from '../pdf/index.js';
import type { EkmsClient, RecoveryCase } from '../sdk/index.js';
import { deviceOf, firstLine } from '../store/index.js';
import { readMail, show } from './decrypt.js';
import type { ListOptions } from './devices.js';
import { writeOutput } from './output.js';
import { contentKey, heldBy, unasked } from './recovery-keys.js';
import { asDevice, openStore, type StoreOptions, type Terminal } from './session.js';

export interface RecoverExportOptions extends StoreOptions {
  p12: string;
  p12PassphraseFile: string;
  profile: 'modern' | 'compat';
}

export interface RecoverOptions extends StoreOptions {
  output?: string;
}

export async function listRecoveries(terminal: Terminal, options: ListOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const cases = await asDevice(store, (client) => client.recoveries());
  if (options.json) terminal.print(`${JSON.stringify(cases, undefined, 2)}\n`);
  else
    for (const { id, expiresAt, approvals, quorum, message, reading, keys } of cases)
      terminal.print(
        `${id}  ${approvals} of ${quorum} agents  ${reading ? 'reading' : message === null ? `${keys.length} key(s)` : 'one message'}  until ${expiresAt}\n`,
      );
  if (cases.length === 0) terminal.say('there is no recovery case for this device');
  return 0;
}

/** Who can open a mail or a document: serial of the certificate and digest of the encrypted key. */
export async function describeMessage(terminal: Terminal, path: string): Promise<number> {
  const envelopes = await envelopesOf(path);
  if (envelopes.length === 0) throw new Fault('malformed', 'not-encrypted', `nothing in ${path} is encrypted to certificates`);
  const recipients = envelopes
    .flatMap(({ recipients }) => recipients)
    .flatMap(({ id, encryptedKey }) =>
      'serial' in id ? [{ serial: id.serial.toString('hex'), digest: base64url(sha256(encryptedKey)) }] : [],
    );
  terminal.print(`${JSON.stringify(recipients, undefined, 2)}\n`);
  return 0;
}

/** Of a document all, of a mail the outermost. */
async function envelopesOf(path: string): Promise<Enveloped[]> {
  if (isDocument(path))
    return withFile(path, async (file) => {
      const lock = lockOf(file);
      return lock.kind === 'public-key' ? lock.lock.envelopes : [];
    });
  let found: Enveloped | undefined;
  const stop = new Error('found');
  await unwrap(await readMail(path), async (enveloped) => {
    found = enveloped;
    throw stop;
  }).catch((error: unknown) => {
    if (error !== stop) throw error;
  });
  return found ? [found] : [];
}

/** Opens a mail or a document with a key, or with the content key of just this one, that the token seals to this device for an approved case. */
export async function openRecovered(terminal: Terminal, of: string, path: string, options: RecoverOptions): Promise<number> {
  const mail = isDocument(path) ? undefined : await readMail(path);
  if (!mail && options.output === undefined) throw new Fault('malformed', 'usage', 'say where the opened document goes: -o FILE');
  const store = await openStore(terminal, options);
  const { deliveryKey, root } = deviceOf(await store.read());
  return asDevice(store, async (client) => {
    const found = await theCase(client, of);
    const recovered: RemoteDecryption = async (key, ask) => {
      if (found.message !== null || found.reading) return contentKey(client, { of, key: key.id, ask, deliveryKey });
      const { delivery } = await client.openRecovery(of, key.id);
      if (delivery === null) throw unasked();
      const certificates = found.keys.find(({ id }) => id === key.id)?.certificates ?? [];
      const privateKey = acceptRecovered(Buffer.from(delivery, 'base64'), certificates, deliveryKey);
      return openTransport(privateKey, TRANSPORT[ask.scheme], ask.encryptedKey) ?? Buffer.alloc(ask.length);
    };
    if (!mail) return openDocument(terminal, path, { held: heldBy(found), remotely: recovered }, options.output ?? '');
    const opened = await unwrap(mail, openerFor(heldBy(found), recovered));
    return show(terminal, path, opened, root, options);
  });
}

async function openDocument(terminal: Terminal, path: string, keys: Keys, output: string): Promise<number> {
  return withDocument(path, keys, async ({ file, opened }) => {
    if (!opened) throw new Fault('malformed', 'not-encrypted', `${path} is not encrypted`);
    const { pages } = writeDocument(output, 0o600, (sink) => rewrite(file, sink, { signatures: 'break' }));
    terminal.say(`${path} -> ${output} (${pages} page${pages === 1 ? '' : 's'})`);
    return 0;
  });
}

/** A PDF begins somewhere in its first kilobyte (ISO 32000-2 §7.5.2, as readers take it). */
function isDocument(path: string): boolean {
  // What comes through a pipe can be read once only.
  if (path === '-' || !statSync(path, { throwIfNoEntry: false })?.isFile()) return false;
  try {
    const descriptor = openSync(path, 'r');
    try {
      const start = Buffer.alloc(1024);
      return start.subarray(0, readSync(descriptor, start)).includes('%PDF-');
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return false; // who reads it says why
  }
}

/** A person's keys on their way out, for another mail program or another appliance; each is an entry of the log. */
export async function exportRecovered(terminal: Terminal, of: string, options: RecoverExportOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const phrase = await firstLine(options.p12PassphraseFile, 'PKCS#12 pass phrase');
  const { deliveryKey, root } = deviceOf(await store.read());
  await mkdir(options.p12, { recursive: true, mode: 0o700 });
  return asDevice(store, async (client) => {
    const found = await theCase(client, of);
    if (found.message !== null || found.reading)
      throw new Fault('conflict', 'recovery-foreign', 'this case is for reading messages: it gives no key that could be exported');
    for (const { id, certificates } of found.keys) {
      const path = join(options.p12, `${id}.p12`);
      if (existsSync(path)) continue;
      const { delivery } = await client.openRecovery(of, id);
      if (delivery === null) throw unasked();
      const privateKey = acceptRecovered(Buffer.from(delivery, 'base64'), certificates, deliveryKey);
      const { leaves, authorities: between } = chainOf(certificates);
      const authorities = [...between.filter(({ der }) => !der.equals(root.der)), root];
      const name = leaves[0]?.addresses[0] ?? id;
      const protection = options.profile === 'modern' ? modern(phrase) : compat(phrase);
      await writeOutput(path, pkcs12({ name, privateKey, leaves, authorities }, protection));
      terminal.say(`${id}: ${path}`);
    }
    return 0;
  });
}

async function theCase(client: EkmsClient, of: string): Promise<RecoveryCase> {
  const found = (await client.recoveries()).find(({ id }) => id === of);
  if (!found) throw new Fault('not-found', 'recovery-unknown', 'there is no recovery case of this id for this device, or its time is over');
  return found;
}

const oaep = (hash: string): Transport => ({ scheme: 'oaep', hash, mgfHash: hash, label: Buffer.alloc(0) });
/** As the appliance's interface names them (keys/opener.ts). */
const TRANSPORT = { 'rsa-pkcs1': { scheme: 'pkcs1' }, 'rsa-oaep-sha1': oaep('sha1'), 'rsa-oaep-sha256': oaep('sha256') } as const;
