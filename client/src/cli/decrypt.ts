import { readFile } from 'node:fs/promises';
import { Fault } from '../../../src/foundation/index.js';
import { cipherOf, type Signature } from '../cms/index.js';
import { CannotDecrypt, collectKeys, type HeldKey, heldKey, openerFor, openWrapped, type RemoteDecryption } from '../keys/index.js';
import { type Layer, parseEntity, type Unwrapped, unwrap } from '../mime/index.js';
import { deviceOf, reason } from '../store/index.js';
import { type Certificate, chainToRoot, nameText, USAGE } from '../x509/index.js';
import { writeOutput } from './output.js';
import { asDevice, openStore, type StoreOptions, type Terminal } from './session.js';

const isForOthers = (error: unknown): boolean => error instanceof CannotDecrypt && error.isForOtherKeys;

export interface DecryptOptions extends StoreOptions {
  output?: string;
}

export async function decrypt(terminal: Terminal, path: string, options: DecryptOptions): Promise<number> {
  const mail = await readMail(path);
  const store = await openStore(terminal, options);
  const state = await store.read();
  const device = deviceOf(state);
  const remotely: RemoteDecryption = async (key, ask) => {
    const answer = await asDevice(store, (client) => client.decrypt(key.id, ask));
    if (answer.receipt) await store.keepReceipt({ key: key.id, act: 'decrypt', ...answer.receipt }, new Date());
    return openWrapped(device.deliveryKey, Buffer.from(answer.wrapped, 'base64'), answer.hash);
  };
  const open = (held: readonly HeldKey[]) => unwrap(mail, openerFor(held, remotely));
  const opened = await open(state.keys.map(heldKey)).catch(async (error: unknown) => {
    if (!isForOthers(error)) throw error;
    // A key may have followed since, or somebody else's mailbox may be open to us: who reads mail need not know that there are keys.
    return asDevice(store, async (client) => {
      const { keys } = await collectKeys(store, client, () => new Date());
      return open(keys).catch(async (again: unknown) => {
        if (!isForOthers(again)) throw again;
        const { openAsReader } = await import('./recovery-keys.js');
        const read = await openAsReader(mail, client, device.deliveryKey);
        if (!read) throw again;
        return read;
      });
    }).catch(async (later: unknown) => {
      // Without the appliance it is still the mail that cannot be opened with what is here.
      const { isProblem } = await import('../sdk/index.js');
      const isSaid = isProblem(later, 'recovery-ended', 'recovery-expired', 'budget-exceeded');
      throw later instanceof CannotDecrypt || isSaid ? later : error;
    });
  });
  return show(terminal, path, opened, device.root, options);
}

/** @param path `-` for stdin */
export function readMail(path: string): Promise<Buffer> {
  return readFile(path === '-' ? '/dev/stdin' : path).catch((error: unknown) => {
    throw new Fault('misconfigured', 'file-unreadable', `${path} cannot be read: ${reason(error)}`);
  });
}

/** Says what was taken off a mail and by whom it was signed, and writes what was inside. */
export async function show(
  terminal: Terminal,
  path: string,
  { content, layers, from }: Unwrapped,
  root: Certificate,
  options: Pick<DecryptOptions, 'output'>,
): Promise<number> {
  if (!layers.some((layer) => layer.kind === 'encrypted'))
    throw new Fault('malformed', 'not-encrypted', `nothing in ${path} is encrypted by S/MIME`);
  for (const layer of layers) tell(terminal, layer, root, from);
  // CBC has no tag: one wrong key in 256 gives gibberish whose padding happens to fit.
  const isUnproven =
    layers.at(-1)?.kind === 'encrypted' && layers.every((layer) => layer.kind !== 'encrypted' || !layer.enveloped.authenticated);
  if (isUnproven && parseEntity(content).fields.length === 0)
    terminal.say('note: the content does not begin like a mail; if it is gibberish, the mail was damaged on the way');
  if (options.output === undefined) terminal.print(content);
  else await writeOutput(options.output, content);
  return 0;
}

function tell(terminal: Terminal, layer: Layer, root: Certificate, from: string | undefined): void {
  if (layer.kind === 'outside')
    terminal.say(
      `${layer.parts} part(s) beside the encrypted one were not encrypted (a list's footer, or somebody's addition) and are left out`,
    );
  if (layer.kind === 'encrypted') {
    terminal.say(`decrypted with ${layer.by}`);
    const { warning } = cipherOf(layer.enveloped);
    if (warning) terminal.say(`warning: ${warning}`);
  }
  if (layer.kind !== 'signed') return;
  if (layer.signatures.length === 0) terminal.say('signature: there is none in the signed part');
  for (const signature of layer.signatures) terminal.say(`signature: ${verdict(signature, layer.certificates, root, from)}`);
}

function verdict(signature: Signature, among: Certificate[], root: Certificate, from: string | undefined): string {
  const { signer } = signature;
  if (!signer) return 'NOT VERIFIED, the certificate of its signer is not in the mail';
  const who = signer.addresses.join(', ') || nameText(signer.subject);
  if (!signature.intact) return `DOES NOT HOLD: this is not what ${who} signed`;
  const address = /<([^<>]+)>\s*$/.exec(from ?? '')?.[1] ?? from;
  const isSender = address === undefined || signer.addresses.some((name) => name.toLowerCase() === address.trim().toLowerCase());
  const sender = isSender ? '' : `; but the mail claims to be from ${address}`;
  const digest = signature.digest === 'sha1' ? '; it stands on SHA-1, which can be forged' : '';
  try {
    chainToRoot({ leaf: signer, among, root, usage: USAGE.emailProtection, at: new Date() });
    return `verified, by ${who}${sender}${digest}`;
  } catch {
    return `intact, by a certificate that says ${who}, issued by ${nameText(signer.issuer)}, which this organisation does not vouch for${sender}${digest}`;
  }
}
