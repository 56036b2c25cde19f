import type { AddressInfo, Socket } from 'node:net';
import { SMTPServer, type SMTPServerOptions, type SMTPServerSession } from 'smtp-server';

/** What the sink does with one mail: a reply code, or the connection's end at a certain point. `lost` means taken, but the answer is lost. */
export type Turn = 'accept' | 'drop-early' | 'lost' | 'hang' | { rcpt: number } | { data: number };

/** A real SMTP server that takes mails as its script says. */
export class SmtpSink {
  readonly accepted: { from: string; to: string; bytes: Buffer; secure: boolean; user: string | undefined }[] = [];
  /** Commands and mails that came over a connection that was not TLS. */
  inClear: string[] = [];
  /** Asked twice for each mail: when its recipient is named, and when all of it has come. */
  turn: (to: string, moment: 'rcpt' | 'data') => Turn = () => 'accept';
  readonly #server: SMTPServer;
  readonly #sockets = new Set<Socket>();

  constructor(options: SMTPServerOptions) {
    this.#server = new SMTPServer({
      logger: false,
      disabledCommands: options.onAuth ? [] : ['AUTH'],
      ...options,
      onMailFrom: (_address, session, done) => {
        if (!session.secure) this.inClear.push('MAIL FROM');
        done();
      },
      onRcptTo: (address, session, done) => {
        const turn = this.turn(address.address, 'rcpt');
        if (turn === 'drop-early') this.#drop(session);
        else if (typeof turn === 'object' && 'rcpt' in turn) done(reply(turn.rcpt));
        else done();
      },
      onData: (stream, session, done) => {
        const chunks: Buffer[] = [];
        stream.on('data', (chunk: Buffer) => chunks.push(chunk));
        stream.on('end', () => {
          const to = session.envelope.rcptTo[0]?.address ?? '';
          const turn = this.turn(to, 'data');
          if (turn === 'hang') return;
          if (typeof turn === 'object' && 'data' in turn) return done(reply(turn.data));
          const from = session.envelope.mailFrom ? session.envelope.mailFrom.address : '';
          this.accepted.push({ from, to, bytes: Buffer.concat(chunks), secure: session.secure, user: session.user });
          if (turn === 'lost') return this.#drop(session);
          done();
        });
      },
    });
    this.#server.on('error', () => undefined); // clients that end in mid-handshake
    this.#server.server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  listen(port = 0): Promise<number> {
    return new Promise((resolve) => {
      const listening = this.#server.listen(port, '127.0.0.1', () => resolve((listening.address() as AddressInfo).port));
    });
  }

  close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #drop(session: SMTPServerSession): void {
    for (const socket of this.#sockets) if (socket.remotePort === session.remotePort) socket.destroy();
  }
}

const reply = (code: number): Error => Object.assign(new Error('scripted'), { responseCode: code });
