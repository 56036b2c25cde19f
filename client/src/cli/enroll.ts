import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fault, parseAddress } from '../../../src/foundation/index.js';
import { type EnrolmentAsk, enrol, pinnedRoot } from '../enrol/index.js';
import { collectKeys } from '../keys/index.js';
import { ImapMailbox, Maildir } from '../mailbox/index.js';
import { readAppCredential } from '../sdk/index.js';
import { firstLine, reason, type Store } from '../store/index.js';
import { tellKeys } from './keys.js';
import { asDevice, openStore, type StoreOptions, type Terminal } from './session.js';

export interface EnrollOptions extends StoreOptions {
  server: string;
  ca: string;
  app: string;
  email: string;
  mailbox?: string;
  imapPasswordFile?: string;
  code?: string;
  name?: string;
  deviceId?: string;
  deviceCertificate?: string;
  deviceKey?: string;
}

/** How long a first key may be pending. */
const PENDING_MS = 60_000;

export async function enroll(terminal: Terminal, options: EnrollOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const address = parseAddress(options.email).shown;
  const app = readAppCredential(await readText(options.app, '--app'));
  const root = pinnedRoot(await readText(options.ca, '--ca'), app);
  const half = await halfFrom(options, root.pem);
  const registration = await registrationFrom(options);
  const server = options.server.replace(/\/$/, '');
  const device = await enrol(
    { server, root, app, address, name: options.name ?? hostname().slice(0, 64), half, ...(registration && { registration }) },
    store,
    terminal.say,
    () => new Date(),
  );
  terminal.say(`device ${device.device} is enrolled for ${device.address}; it is kept in ${store.home}`);
  if (options.passphraseFile === undefined)
    terminal.say(
      `warning: no pass phrase was given, so your keys are encrypted under the key file ${store.home}/key, and whoever can read this folder can read your mail. Enrol with --passphrase-file to change that.`,
    );
  return firstKeys(terminal, store);
}

async function firstKeys(terminal: Terminal, store: Store): Promise<number> {
  const until = Date.now() + PENDING_MS;
  return asDevice(store, async (client) => {
    for (let isFirst = true; ; isFirst = false) {
      const collected = await collectKeys(store, client, () => new Date());
      const isWaiting = collected.keys.length + collected.refused.length + collected.withheld.length === 0;
      if (!isWaiting || Date.now() >= until) {
        if (isWaiting) terminal.say('the appliance is still making your first key: run "mesign keys" later');
        return tellKeys(terminal, collected);
      }
      if (isFirst) terminal.say('the appliance is making your first key; waiting for it …');
      await sleep(Math.min(Math.max(collected.retryAfter ?? 2, 1), 10) * 1000);
    }
  });
}

async function halfFrom(options: EnrollOptions, root: string): Promise<EnrolmentAsk['half']> {
  const { mailbox, code } = options;
  if ((mailbox === undefined) === (code === undefined)) throw new Fault('malformed', 'usage', 'give either --mailbox or --code');
  if (code !== undefined) {
    const half = code.trim().replace(/^ACME:\s*/i, '');
    if (!/^[A-Za-z0-9_-]{22}$/.test(half))
      throw new Fault('malformed', 'usage', '--code is what follows "ACME:" in the Subject of the mail: 22 letters, digits, - and _');
    return { code: half };
  }
  if (mailbox?.startsWith('maildir:')) return { mailbox: async () => new Maildir(mailbox.slice('maildir:'.length)) };
  const url = mailbox && URL.canParse(mailbox) ? new URL(mailbox) : undefined;
  if (!url || !['imap:', 'imaps:'].includes(url.protocol) || !url.username || url.password)
    throw new Fault(
      'malformed',
      'usage',
      '--mailbox is maildir:DIR, imap://user@host:port/ or imaps://user@host:port/ (its password in --imap-password-file)',
    );
  if (options.imapPasswordFile === undefined) throw new Fault('malformed', 'usage', 'an IMAP mailbox needs --imap-password-file');
  const password = await firstLine(options.imapPasswordFile, 'IMAP password');
  return { mailbox: () => ImapMailbox.open({ url, password, root }) };
}

async function registrationFrom({ deviceId, deviceCertificate, deviceKey }: EnrollOptions): Promise<EnrolmentAsk['registration']> {
  if (deviceId !== undefined && (deviceCertificate ?? deviceKey) !== undefined)
    throw new Fault('malformed', 'usage', 'give either --device-id or --device-certificate with --device-key');
  if (deviceId !== undefined) return { identifier: deviceId };
  if (deviceCertificate === undefined && deviceKey === undefined) return undefined;
  if (deviceCertificate === undefined || deviceKey === undefined)
    throw new Fault('malformed', 'usage', '--device-certificate and --device-key go together');
  const [certificatePem, keyPem] = [await readText(deviceCertificate, '--device-certificate'), await readText(deviceKey, '--device-key')];
  try {
    const certificate = new X509Certificate(certificatePem);
    const key = createPrivateKey(keyPem);
    if (certificate.checkPrivateKey(key)) return { certificate: certificate.raw, key };
  } catch {
    // Said below, without what OpenSSL says of the files.
  }
  throw new Fault(
    'misconfigured',
    'file-unreadable',
    `${deviceCertificate} must hold a certificate and ${deviceKey} its private key, both PEM`,
  );
}

async function readText(path: string, option: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw new Fault('misconfigured', 'file-unreadable', `the ${option} file ${path} cannot be read: ${reason(error)}`);
  });
}
