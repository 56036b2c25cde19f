import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';

/** As much of an IMAP4rev1 server (RFC 3501) as looking for a mail needs, over a Maildir, read only. */
export class TestImap {
  readonly seen: string[] = [];

  private constructor(
    private readonly server: Server,
    readonly port: number,
  ) {}

  static async start(folder: string, user: string, password: string): Promise<TestImap> {
    const server = createServer();
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const address = server.address();
    const imap = new TestImap(server, typeof address === 'object' ? (address?.port ?? 0) : 0);
    server.on('connection', (socket) => imap.serve(socket, folder, user, password));
    return imap;
  }

  async stop(): Promise<void> {
    await new Promise((done) => this.server.close(done));
  }

  private serve(socket: Socket, folder: string, user: string, password: string): void {
    const mails = (): Buffer[] => {
      try {
        return readdirSync(join(folder, 'new')).map((name) => readFileSync(join(folder, 'new', name)));
      } catch {
        return [];
      }
    };
    const say = (line: string): boolean => socket.write(`${line}\r\n`);
    say('* OK [CAPABILITY IMAP4rev1] ready');
    let rest = '';
    socket.on('error', () => undefined);
    socket.on('data', (piece) => {
      rest += piece.toString('latin1');
      for (let end = rest.indexOf('\r\n'); end >= 0; end = rest.indexOf('\r\n')) {
        const [tag = '', command = '', ...words] = rest.slice(0, end).split(' ');
        rest = rest.slice(end + 2);
        const verb = (command.toUpperCase() === 'UID' ? words.shift() : command)?.toUpperCase() ?? '';
        this.seen.push(`${verb} ${words.join(' ')}`);
        if (verb === 'LOGIN' && words.join(' ').replaceAll('"', '') !== `${user} ${password}`) {
          say(`${tag} NO [AUTHENTICATIONFAILED] no`);
          continue;
        }
        if (verb === 'CAPABILITY') say('* CAPABILITY IMAP4rev1');
        if (verb === 'LIST' || verb === 'LSUB') say(`* ${verb} () "/" INBOX`);
        if (verb === 'EXAMINE' || verb === 'SELECT')
          for (const line of [
            `* ${mails().length} EXISTS`,
            '* 0 RECENT',
            '* FLAGS (\\Seen)',
            '* OK [UIDVALIDITY 1] ok',
            '* OK [UIDNEXT 1000] ok',
          ])
            say(line);
        if (verb === 'NOOP') say(`* ${mails().length} EXISTS`);
        if (verb === 'SEARCH')
          say(
            `* SEARCH${mails()
              .map((_, index) => ` ${index + 1}`)
              .join('')}`,
          );
        if (verb === 'FETCH') {
          const mail = mails()[Number(words[0]) - 1] ?? Buffer.alloc(0);
          socket.write(`* ${words[0]} FETCH (UID ${words[0]} BODY[] {${mail.length}}\r\n`);
          socket.write(mail);
          say(')');
        }
        say(`${tag} OK done`);
        if (verb === 'LOGOUT') socket.end();
      }
    });
  }
}
