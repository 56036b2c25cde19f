import {
  lockOf,
  namedReaders,
  type PublicKeyLock,
  parsePermissions,
  permissionBits,
  publicKeySecurity,
  rewrite,
} from '../../../src/codec/pdf/index.js';
import { Fault, isFault } from '../../../src/foundation/index.js';
import { isNamedBy } from '../cms/index.js';
import { CannotDecrypt, heldKey, idText, openOneOf } from '../keys/index.js';
import {
  distinct,
  fetchRecovery,
  findRecipient,
  type Keys,
  organisation,
  ownRecipient,
  type Recipient,
  withDocument,
  withFile,
  writeDocument,
} from '../pdf/index.js';
import type { EkmsClient } from '../sdk/index.js';
import { deviceOf } from '../store/index.js';
import { readCertificate } from '../x509/index.js';
import { groupsOf, keysOf } from './pdf.js';
import { asDevice, openStore, type StoreOptions, type Terminal } from './session.js';

/** Who can open a document, from the document alone. */
export async function pdfReaders(terminal: Terminal, path: string, options: StoreOptions & { json?: boolean }): Promise<number> {
  const { json } = options;
  const lock = await withFile(path, async (file) => lockOf(file));
  if (lock.kind !== 'public-key') {
    if (json) terminal.print('[]\n');
    terminal.say(
      lock.kind === 'none' ? 'it is not encrypted: everybody can read it' : 'it is protected by a password: whoever knows that can open it',
    );
    return 0;
  }
  const found: object[] = [];
  const known = await knownReaders(terminal, options);
  for (const { id, ...reader } of namedReaders(lock.lock)) {
    const who = known.find(({ certificate }) => isNamedBy(id, certificate))?.name ?? null;
    if (json) found.push({ ...reader, who });
    else terminal.print(`${idText(id)}${who === null ? '' : ` (${who})`}\n`);
  }
  if (json) terminal.print(`${JSON.stringify(found)}\n`);
  return 0;
}

/** Whom this device knows by their certificates; nobody where there is no device, or it does not open without its pass phrase. */
async function knownReaders(terminal: Terminal, options: StoreOptions): Promise<Recipient[]> {
  try {
    const state = await (await openStore(terminal, options)).read();
    const mine = state.keys.map(heldKey).flatMap(({ leaves }) => leaves.map((certificate) => ({ name: 'you', certificate })));
    return [...mine, ...(state.recovery?.certificates ?? []).map((pem) => organisation(readCertificate(pem)))];
  } catch (error) {
    if (!isFault(error)) throw error;
    return [];
  }
}

export interface ChangeOptions extends StoreOptions {
  output: string;
  /** Everybody who is to open it from now on, but you. */
  to?: string[];
  /** Of who is added, and of whom it cannot be read what they were allowed. */
  permissions?: string;
  breakSignatures?: boolean;
}

/**
 * A new document, under a new key, for those who could open the former one and who is added, without who is removed; each may do what they might before. A document names its readers by serial numbers only,
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
  const find = (client: EkmsClient, names: readonly string[]) => Promise.all(names.map((name) => findRecipient(client, root, name, now)));
  const [recovery, named, known] = await asDevice(store, (client) =>
    Promise.all([
      fetchRecovery(store, client, now),
      find(client, addresses),
      find(
        client,
        (options.to ?? []).flatMap((list) => list.split(',')).map((name) => name.trim()),
      ),
    ]),
  );
  const formerAndCurrent = ((await store.read()).recovery?.certificates ?? []).map((pem) => readCertificate(pem));
  return withDocument(path, keys, async ({ file, mode, opened }) => {
    const lock = opened?.lock;
    if (!opened || !lock)
      throw new Fault('malformed', 'not-encrypted', `${path} is not encrypted to anybody: "mesign pdf encrypt" does that`);
    if (!opened.permissions.isOwner)
      throw new Fault('forbidden', 'permission-missing', 'its sender did not allow you to change who can open it');
    const own = ownRecipient(keys.held, address);
    const mine = keys.held.flatMap(({ leaves }) => leaves);
    const gone = act === 'remove' ? named : [];
    const all = [...(recovery ? [recovery] : []), ...known, ...(act === 'add' ? named : [])];
    const readers = lock.envelopes.flatMap(({ recipients }) => recipients);
    // Somebody who could read it and of whom there is no certificate at hand would be left out silently.
    const strangers = readers.filter(
      ({ id }) =>
        'keyIdentifier' in id ||
        ![...mine, ...formerAndCurrent, ...known.map(({ certificate }) => certificate), ...gone.map(({ certificate }) => certificate)].some(
          (one) => one.issuer.equals(id.issuer) && one.serial.equals(id.serial),
        ),
    );
    if (strangers.length > 0)
      throw new Fault(
        'conflict',
        'readers-unknown',
        `${strangers.length} of its readers are not among those named: a document names readers by serial number only (mesign pdf readers), so name everybody who stays with --stay`,
      );
    const allowed = await permissionsOfSets(lock, keys);
    const given = options.permissions === undefined ? undefined : permissionBits(parsePermissions(options.permissions));
    const stay = distinct(
      own,
      all.filter(({ certificate }) => !gone.some((other) => other.certificate.der.equals(certificate.der))),
    );
    const others = stay.slice(1).map(({ name, certificate, isRecovery }) => {
      const set = lock.envelopes.findIndex(({ recipients }) => recipients.some(({ id }) => isNamedBy(id, certificate)));
      const permissions =
        isRecovery || (set < 0 && given === undefined) ? permissionBits('owner') : set < 0 ? given : (allowed[set] ?? given);
      // What others were allowed must not become more by leaving it out.
      if (permissions === undefined)
        throw new Fault(
          'conflict',
          'permissions-unreadable',
          `what ${name} was allowed can be read by its sender and by ${name} alone: say with --permissions what they may do from now on`,
        );
      return { certificate, permissions };
    });
    const security = publicKeySecurity(groupsOf(own.certificate, others), { transport: 'pkcs1', cipher: 'aes-256-cbc' }, 'all');
    writeDocument(options.output, mode, (sink) =>
      rewrite(file, sink, { security, signatures: options.breakSignatures ? 'break' : 'refuse', progress: terminal.progress?.(path) }),
    );
    terminal.say(
      `${options.output} can be opened by ${stay.map(({ name }) => name).join(', ')}; copies of the former document still by whom it named`,
    );
    return 0;
  });
}

/** What each set of recipients may do; undefined for one that these keys do not open. */
async function permissionsOfSets({ envelopes, filters }: PublicKeyLock, { held, remotely }: Keys): Promise<(number | undefined)[]> {
  const found: (number | undefined)[] = [];
  for (const envelope of envelopes)
    try {
      const { content } = await openOneOf([envelope], held, remotely, 'document');
      found.push(filters(content).permissions);
      content.fill(0);
    } catch (error) {
      if (!(error instanceof CannotDecrypt)) throw error;
      found.push(undefined);
    }
  return found;
}
