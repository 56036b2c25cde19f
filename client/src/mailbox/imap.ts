import { getCACertificates, rootCertificates } from 'node:tls';
import { ImapFlow } from 'imapflow';
import { Fault } from '../../../src/foundation/index.js';
import { MAX_MAIL, MAX_MAILS, Mailbox } from './mailbox.js';

export interface ImapAccount {
  /** `imap://user@host:port/` (STARTTLS; in clear on loopback only) or `imaps://…`; the path names the folder, INBOX without. */
  url: URL;
  password: string;
  /** Trusted besides the system's authorities: the mail server of an intranet often lives under the same root. */
  root: string;
}

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?)$/;

/** A mailbox over IMAP4rev1 (RFC 3501), opened for reading only: nothing is marked as seen. */
export class ImapMailbox extends Mailbox {
  readonly #client: ImapFlow;
  readonly #shown = new Set<number>();

  private constructor(client: ImapFlow) {
    super();
    this.#client = client;
  }

  static async open(account: ImapAccount): Promise<ImapMailbox> {
    const { url, password, root } = account;
    const secure = url.protocol === 'imaps:';
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const client = new ImapFlow({
      host,
      port: Number(url.port) || (secure ? 993 : 143),
      secure,
      ...(!secure && { doSTARTTLS: !LOOPBACK.test(url.hostname) }),
      auth: { user: decodeURIComponent(url.username), pass: password },
      tls: { ca: [...rootCertificates, ...getCACertificates('system'), root] },
      logger: false,
      connectionTimeout: 15_000,
    });
    // What breaks between two calls makes the next one fail; without a listener it would end the process.
    client.on('error', () => undefined);
    const folder = decodeURIComponent(url.pathname.slice(1)) || 'INBOX';
    try {
      await client.connect();
      await client.mailboxOpen(folder, { readOnly: true });
    } catch (error) {
      client.close();
      throw unreachable(url, error);
    }
    return new ImapMailbox(client);
  }

  override async unseen(): Promise<Buffer[]> {
    try {
      // NOOP lets the server tell of new mail (RFC 3501 §6.1.2).
      await this.#client.noop();
      const since = new Date(Date.now() - 86_400_000 * 2);
      const found = (await this.#client.search({ since, header: { subject: 'ACME:' }, smaller: MAX_MAIL }, { uid: true })) || [];
      const fresh = found.filter((uid) => !this.#shown.has(uid)).slice(-MAX_MAILS);
      const mails: Buffer[] = [];
      for (const uid of fresh.toReversed()) {
        const mail = await this.#client.fetchOne(String(uid), { source: true }, { uid: true });
        this.#shown.add(uid);
        // `false` stands for a mail that is gone since.
        const { source } = mail || {};
        if (source) mails.push(source);
      }
      return mails;
    } catch {
      throw new Fault('unavailable', 'mailbox-lost', 'the connection to the mailbox broke: try again');
    }
  }

  override async close(): Promise<void> {
    await this.#client.logout().catch(() => this.#client.close());
  }
}

function unreachable(url: URL, error: unknown): Fault {
  const { authenticationFailed, code } = error as { authenticationFailed?: boolean; code?: string };
  const why = authenticationFailed
    ? 'user or password was refused'
    : `it cannot be opened${code ? ` (${code})` : ''}; check host, port, TLS and folder`;
  return new Fault('unavailable', 'mailbox-unreachable', `mailbox ${url.protocol}//${url.host}: ${why}`);
}
