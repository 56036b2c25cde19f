import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { getCACertificates } from 'node:tls';
import SMTPConnection from 'nodemailer/lib/smtp-connection';
import { Fault } from '../foundation/index.js';
import { DELIVERY_DEADLINE, DeliveryFailure, type Envelope, MailTransport } from './mail-transport.js';

export interface SmtpSettings {
  host: string;
  port: number;
  /** `starttls`: plain at first, and nothing but STARTTLS goes out before TLS stands. `tls`: TLS from the first byte. `none`: said on purpose. */
  tls: 'starttls' | 'tls' | 'none';
  user?: string;
  /** Its first line is the password; read at each delivery, so that a new one counts without a restart. */
  passwordFile?: string;
  /** PEM certificates to end in, instead of Node's and the system's. */
  ca?: string;
  /** Milliseconds for one delivery; shorter in tests. */
  deadline?: number;
}

/** nodemailer's error; `originalCode` is what Node said, a certificate's fault for example. */
type Failure = Error & { code?: string; originalCode?: string; permanent?: boolean; responseCode?: number };

/**
 * One connection per mail, by nodemailer's SMTP client alone: its pool may send again by itself what got lost after the final dot, and
 * whether a mail was handed over is exactly what we must know.
 */
export class SmtpTransport extends MailTransport {
  readonly #ca: string[];

  constructor(private readonly settings: SmtpSettings) {
    super();
    if (settings.user !== undefined && settings.tls === 'none')
      throw new Fault('misconfigured', 'mail-password-in-clear', 'mail.user with mail.tls: none would send the password in clear');
    if ((settings.user === undefined) !== (settings.passwordFile === undefined))
      throw new Fault('misconfigured', 'mail-password-missing', 'mail.user and mail.passwordFile go together');
    this.#ca = settings.ca ? [settings.ca] : [...new Set([...getCACertificates('default'), ...getCACertificates('system')])];
  }

  override async deliver(envelope: Envelope, bytes: Buffer): Promise<void> {
    const { host, port, tls, user } = this.settings;
    const password = await this.#password();
    const connection = new SMTPConnection({
      host,
      port,
      secure: tls === 'tls',
      requireTLS: tls === 'starttls',
      ignoreTLS: tls === 'none',
      tls: { ca: this.#ca, minVersion: 'TLSv1.2' },
      socketCloseTimeout: 0,
    });
    const message = Readable.from([bytes]);
    let handedOver = false;
    message.once('end', () => {
      handedOver = true;
    });
    let deadline: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const timedOut = (): void => reject(Object.assign(new Error('no outcome in time'), { code: 'ETIMEDOUT' }));
        deadline = setTimeout(timedOut, this.settings.deadline ?? DELIVERY_DEADLINE);
        connection.on('error', reject);
        connection.on('end', () => reject(Object.assign(new Error('the connection ended'), { code: 'ECONNECTION' })));
        const send = (): void =>
          connection.send({ from: envelope.from, to: envelope.to, size: bytes.length }, message, (error) =>
            error ? reject(error) : resolve(),
          );
        connection.connect((error) => {
          if (error) reject(error);
          else if (user === undefined) send();
          else connection.login({ credentials: { user, pass: password } }, (refused) => (refused ? reject(refused) : send()));
        });
      });
      connection.quit();
    } catch (error) {
      connection.close();
      throw outcome(error as Failure, handedOver); // every rejection above is an Error by nodemailer or of our own
    } finally {
      clearTimeout(deadline);
    }
  }

  async #password(): Promise<string> {
    if (this.settings.passwordFile === undefined) return '';
    try {
      return (await readFile(this.settings.passwordFile, 'utf8')).split(/\r?\n/, 1)[0] ?? '';
    } catch (error) {
      throw new DeliveryFailure('temporary', 'smtp-auth', { cause: error });
    }
  }
}

/** What failed about the connection, TLS or log-in can be mended while the mail waits; only an answer about this very mail is final. */
function outcome(error: Failure, handedOver: boolean): DeliveryFailure {
  const aboutTheMail = error.code === 'EENVELOPE' || error.code === 'EMESSAGE';
  // RFC 5321 §4.2.5: until the reply to the final dot comes, the client does not know who holds the mail.
  if (handedOver && !(aboutTheMail && error.responseCode)) return new DeliveryFailure('unknown', 'outcome-unknown', { cause: error });
  if (aboutTheMail && (error.permanent ?? true)) return new DeliveryFailure('permanent', 'smtp-refused', { cause: error });
  if (aboutTheMail) return new DeliveryFailure('temporary', 'smtp-busy', { cause: error });
  if (error.code === 'ETLS' || /CERT|TLS|SSL/.test(error.originalCode ?? ''))
    return new DeliveryFailure('temporary', 'smtp-tls', { cause: error });
  if (error.code === 'EAUTH' || error.code === 'ENOAUTH') return new DeliveryFailure('temporary', 'smtp-auth', { cause: error });
  if (error.code === 'ETIMEDOUT') return new DeliveryFailure('temporary', 'smtp-timeout', { cause: error });
  return new DeliveryFailure('temporary', 'smtp-unreachable', { cause: error });
}
