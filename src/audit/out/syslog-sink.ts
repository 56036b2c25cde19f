import { isIP } from 'node:net';
import { connect, type SecureContextOptions } from 'node:tls';
import type { LogEntry } from '../audit-reader.js';
import type { EntryBody } from '../entry.js';
import { type Delivered, type LineForm, Sink } from './sink.js';

export interface SyslogSettings {
  host: string;
  port: number;
  /** Trust, and our own certificate where the receiver asks for one. */
  tls: Pick<SecureContextOptions, 'ca' | 'cert' | 'key'>;
  /** HOSTNAME of each message. */
  hostname: string;
  form: LineForm;
  /** Milliseconds between the last byte and our close: a receiver that goes away meanwhile has not answered it. */
  pause?: number;
}

/** RFC 5424 §6.2.1: facility 13 is the log audit. */
const FACILITY = 13;
/** RFC 5424 table 2: informational, warning, error. */
const SEVERITY: Record<string, number> = { done: 6, refused: 4, failed: 3 };

/**
 * Syslog (RFC 5424) over TLS, each message after its length (RFC 5425 §4.3.1). Syslog acknowledges nothing; an orderly close is as near as it comes:
 * each batch has a connection of its own, and counts once the receiver has answered our close_notify with the end of its side. One that goes away
 * before that has got nothing; one that closes at that very moment, or loses what it took, is beyond what this protocol can see.
 */
export class SyslogSink extends Sink {
  constructor(private readonly settings: SyslogSettings) {
    super();
  }

  override deliver(entries: readonly LogEntry[], signal: AbortSignal): Promise<Delivered> {
    const { host, port, tls, hostname, form, pause = 50 } = this.settings;
    const frames = entries.map((entry) => frame(syslogMessage(hostname, entry.body, form(entry))));
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, ...tls, minVersion: 'TLSv1.2', ...(isIP(host) === 0 ? { servername: host } : {}) });
      let [isClosing, isAnswered] = [false, false];
      const abort = () => socket.destroy(new Error('the receiver took too long'));
      if (signal.aborted) abort();
      signal.addEventListener('abort', abort, { once: true });
      const close = () => {
        if (socket.readableEnded) return;
        isClosing = true;
        socket.end();
      };
      // The immediate after the timer: what has come in meanwhile is heard first.
      socket.once('secureConnect', () => socket.write(Buffer.concat(frames), () => setTimeout(() => setImmediate(close), pause)));
      socket.once('end', () => {
        isAnswered = isClosing;
      });
      socket.once('error', reject);
      socket.once('close', () => {
        signal.removeEventListener('abort', abort);
        if (isAnswered) resolve({ rejected: 0 });
        else reject(new Error('the receiver closed before it had everything'));
      });
      socket.resume(); // whatever it says, only its end counts
    });
  }
}

/** RFC 5424 §6. No structured data: an SD-ID of our own wants an enterprise number (§7), and the message says it all. */
const syslogMessage = (hostname: string, { time, action, outcome }: EntryBody, text: string): string =>
  `<${FACILITY * 8 + (SEVERITY[outcome] ?? 5)}>1 ${time} ${hostname} ekms - ${action.slice(0, 32)} - ${text}`;

function frame(message: string): Buffer {
  const bytes = Buffer.from(message);
  return Buffer.concat([Buffer.from(`${bytes.length} `), bytes]);
}
