import { lockOf, namedReaders, permissionBits, publicKeySecurity, rewrite } from '../../../src/codec/pdf/index.js';
import { Fault } from '../../../src/foundation/index.js';
import { distinct, findRecipient, ownRecipient, type Recipient, withDocument, withFile, writeDocument } from '../pdf/index.js';
import { deviceOf } from '../store/index.js';
import { nameText } from '../x509/index.js';
import { keysOf } from './pdf.js';
import { asDevice, openStore, type StoreOptions, type Terminal } from './session.js';

/** Who can open a document, from the document alone. */
export async function pdfReaders(terminal: Terminal, path: string, { json }: { json?: boolean }): Promise<number> {
  const lock = await withFile(path, async (file) => lockOf(file));
  if (lock.kind !== 'public-key') {
    if (json) terminal.print('[]\n');
    terminal.say(
      lock.kind === 'none' ? 'it is not encrypted: everybody can read it' : 'it is protected by a password: whoever knows that can open it',
    );
    return 0;
  }
  const readers = namedReaders(lock.lock);
  if (json) terminal.print(`${JSON.stringify(readers)}\n`);
  else
    for (const { serial, issuer, keyIdentifier } of readers)
      terminal.print(
        issuer === null ? `key identifier ${keyIdentifier}\n` : `serial ${serial} of issuer ${nameText(Buffer.from(issuer, 'base64'))}\n`,
      );
  return 0;
}

export interface ChangeOptions extends StoreOptions {
  output: string;
  /** Everybody who is to open it from now on, but you. */
  to?: string[];
  breakSignatures?: boolean;
}

/**
 * A new document, under a new key, for those who could open the former one and `added`, without `removed`. A document names its readers by serial numbers only,
 * so who stays is found by the addresses of `to`.
 */
export async function pdfChangeRecipients(
  terminal: Terminal,
  path: string,
  addresses: readonly string[],
  act: 'add' | 'remove',
  options: ChangeOptions,
): Promise<number> {
  const store = await openStore(terminal, options);
  const keys = await keysOf(store);
  const { address, root } = deviceOf(await store.read());
  const now = new Date();
  const find = (names: readonly string[]) =>
    names.length === 0 ? [] : asDevice(store, (client) => Promise.all(names.map((name) => findRecipient(client, root, name, now))));
  const named = await find(addresses);
  const known = await find((options.to ?? []).flatMap((list) => list.split(',')).map((name) => name.trim()));
  return withDocument(path, keys, async ({ file, mode, opened }) => {
    if (!opened) throw new Fault('malformed', 'not-encrypted', `${path} is not encrypted: "mesign pdf encrypt" does that`);
    if (!opened.permissions.isOwner)
      throw new Fault('forbidden', 'permission-missing', 'its sender did not allow you to change who can open it');
    const own = ownRecipient(keys.held, address);
    const mine = keys.held.flatMap(({ leaves }) => leaves);
    const gone = act === 'remove' ? named : [];
    const all = [own, ...known, ...(act === 'add' ? named : [])];
    const readers = opened.lock.envelopes.flatMap(({ recipients }) => recipients);
    // Somebody who could read it and of whom there is no certificate at hand would be left out silently.
    const strangers = readers.filter(
      ({ id }) =>
        'keyIdentifier' in id ||
        ![...mine, ...known.map(({ certificate }) => certificate), ...gone.map(({ certificate }) => certificate)].some(
          (one) => one.issuer.equals(id.issuer) && one.serial.equals(id.serial),
        ),
    );
    if (strangers.length > 0)
      throw new Fault(
        'conflict',
        'readers-unknown',
        `${strangers.length} of its readers are not among those named: a document names readers by serial number only (mesign pdf readers), so name everybody who stays with --stay`,
      );
    const stay = distinct(all.filter(({ certificate }) => !gone.some((other: Recipient) => other.certificate.der.equals(certificate.der))));
    const security = publicKeySecurity(
      [{ certificates: stay.map(({ certificate }) => certificate.der), permissions: permissionBits('owner') }],
      { transport: 'pkcs1', cipher: 'aes-256-cbc' },
      'all',
    );
    writeDocument(options.output, mode, (sink) =>
      rewrite(file, sink, { security, signatures: options.breakSignatures ? 'break' : 'refuse', progress: terminal.progress?.(path) }),
    );
    terminal.say(
      `${options.output} can be opened by ${stay.map(({ name }) => name).join(', ')}; copies of the former document still by whom it named`,
    );
    return 0;
  });
}
