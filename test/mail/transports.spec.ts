import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { MaildirTransport, type MailTransport, MemoryTransport, SmtpTransport } from '../../src/mail/index.js';
import { type MailAuthority, mailAuthority } from './mail-authority.js';
import { SmtpSink } from './smtp-sink.js';

const FROM = 'ekms@corp.example';
const bytes = Buffer.from('Subject: hello\r\n\r\n.\r\n..dots\r\nblank at the end \r\n\r\n');

interface Place {
  transport: MailTransport;
  received(): Promise<{ to: string; bytes: Buffer }[]>;
  /** An address whose mail is never taken. */
  unfit: string;
  breakDown(): Promise<void>;
  mend(): Promise<void>;
  close(): Promise<void>;
}

let authority: MailAuthority;
let folder: string;
beforeAll(() => {
  authority = mailAuthority(FROM);
});
afterAll(() => authority.remove());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ekms-transport-'));
});
afterEach(() => rm(folder, { recursive: true }));

const smtp = (tls: 'starttls' | 'tls') => async (): Promise<Place> => {
  const options = { ...authority.server, secure: tls === 'tls', authOptional: true };
  let sink = new SmtpSink(options);
  const port = await sink.listen();
  sink.turn = (to) => (to.startsWith('nobody') ? { rcpt: 550 } : 'accept');
  return {
    transport: new SmtpTransport({ host: 'localhost', port, tls, ca: authority.rootPem }),
    received: async () => sink.accepted,
    unfit: 'nobody@corp.example',
    breakDown: () => sink.close(),
    mend: async () => {
      sink = new SmtpSink(options);
      await sink.listen(port);
    },
    close: () => sink.close(),
  };
};

async function maildir(): Promise<Place> {
  const directory = join(folder, 'mail');
  return {
    transport: new MaildirTransport(directory),
    received: async () => {
      const found = [];
      for (const to of existsSync(directory) ? await readdir(directory) : [])
        for (const name of await readdir(join(directory, to, 'new')))
          found.push({ to, bytes: await readFile(join(directory, to, 'new', name)) });
      return found;
    },
    unfit: 'a/b@corp.example',
    breakDown: () => writeFile(directory, 'not a folder'),
    mend: () => rm(directory),
    close: async () => undefined,
  };
}

async function memory(): Promise<Place> {
  const transport = new MemoryTransport();
  transport.refused.add('nobody@corp.example');
  const set = (broken: boolean) => async () => {
    transport.broken = broken;
  };
  return {
    transport,
    received: async () => transport.accepted,
    unfit: 'nobody@corp.example',
    breakDown: set(true),
    mend: set(false),
    close: set(false),
  };
}

describe.each([
  ['SMTP with STARTTLS', smtp('starttls')],
  ['SMTP over TLS', smtp('tls')],
  ['Maildir', maildir],
  ['memory', memory],
])('%s', (_name, open) => {
  let place: Place;
  beforeEach(async () => {
    place = await open();
  });
  afterEach(() => place.close());

  test('brings the mail to its address once, byte for byte', async () => {
    await place.transport.deliver({ from: FROM, to: 'alice@corp.example' }, bytes);
    expect(await place.received()).toMatchObject([{ to: 'alice@corp.example', bytes }]);
  });

  test('takes many at once and mixes none', async () => {
    const people = Array.from({ length: 20 }, (_, n) => `p${n}@corp.example`);
    await Promise.all(people.map((to) => place.transport.deliver({ from: FROM, to }, Buffer.from(`To: ${to}\r\n\r\nhello\r\n`))));
    const received = await place.received();
    expect(received.map(({ to }) => to).toSorted()).toEqual(people.toSorted());
    for (const { to, bytes: mail } of received) expect(mail.toString()).toContain(`To: ${to}\r\n`);
  });

  test('says at once and for good when an address cannot be served, and nothing is left of that mail', async () => {
    await expect(place.transport.deliver({ from: FROM, to: place.unfit }, bytes)).rejects.toMatchObject({
      name: 'DeliveryFailure',
      kind: 'permanent',
    });
    expect(await place.received()).toEqual([]);
  });

  test('is a temporary failure while the other side is down, and works again by itself', async () => {
    await place.breakDown();
    await expect(place.transport.deliver({ from: FROM, to: 'alice@corp.example' }, bytes)).rejects.toMatchObject({ kind: 'temporary' });
    await place.mend();
    await place.transport.deliver({ from: FROM, to: 'alice@corp.example' }, bytes);
    expect(await place.received()).toHaveLength(1);
  });
});

describe('SMTP', () => {
  let sink: SmtpSink;
  const to = 'alice@corp.example';
  const open = async (
    options: ConstructorParameters<typeof SmtpSink>[0],
    settings: Partial<ConstructorParameters<typeof SmtpTransport>[0]> = {},
  ) => {
    sink = new SmtpSink({ ...authority.server, authOptional: true, ...options });
    const port = await sink.listen();
    return new SmtpTransport({ host: 'localhost', port, tls: 'starttls', ca: authority.rootPem, ...settings });
  };
  const failure = (transport: MailTransport) =>
    transport.deliver({ from: FROM, to }, bytes).then(
      () => 'accepted',
      (error) => `${error.kind} ${error.reason}`,
    );
  afterEach(() => sink?.close());

  test('a server whose STARTTLS was stripped gets no mail and no password', async () => {
    await writeFile(join(folder, 'password'), 'correct horse\n');
    const credentials = { user: 'ekms', passwordFile: join(folder, 'password') };
    const passwords: string[] = [];
    const transport = await open(
      {
        hideSTARTTLS: true,
        disabledCommands: ['STARTTLS'],
        allowInsecureAuth: true,
        onAuth: (auth, _session, done) => {
          passwords.push(auth.password ?? '');
          done(null, { user: auth.username });
        },
      },
      credentials,
    );
    expect(await failure(transport)).toBe('temporary smtp-tls');
    expect([sink.accepted, sink.inClear, passwords]).toEqual([[], [], []]);
  });

  test('a server with a certificate of another root or another name gets no mail', async () => {
    const other = mailAuthority(FROM);
    const foreign = await open({}, { ca: other.rootPem });
    other.remove();
    expect(await failure(foreign)).toBe('temporary smtp-tls');
    await sink.close();
    const misnamed = await open({}, { host: '127.0.0.1' });
    expect(await failure(misnamed)).toBe('temporary smtp-tls');
    expect(sink.accepted).toEqual([]);
  });

  test('in clear only where that was said, and then never with a password', async () => {
    const transport = await open({ hideSTARTTLS: true, disabledCommands: ['STARTTLS', 'AUTH'] }, { tls: 'none' });
    expect(await failure(transport)).toBe('accepted');
    expect(sink.accepted).toMatchObject([{ secure: false }]);
    expect(() => new SmtpTransport({ host: 'localhost', port: 25, tls: 'none', user: 'ekms', passwordFile: 'p' })).toThrow(
      expect.objectContaining({ code: 'mail-password-in-clear' }),
    );
  });

  test('logs in with the first line of the password file as it is now; a wrong or missing one is temporary', async () => {
    const passwordFile = join(folder, 'password');
    const transport = await open(
      {
        authOptional: false,
        onAuth: (auth, _s, done) => (auth.password === 'new one' ? done(null, { user: auth.username }) : done(new Error('no'))),
      },
      { user: 'ekms', passwordFile },
    );
    expect(await failure(transport)).toBe('temporary smtp-auth');
    await writeFile(passwordFile, 'old one\n');
    expect(await failure(transport)).toBe('temporary smtp-auth');
    await writeFile(passwordFile, 'new one\r\nsecond line\n');
    expect(await failure(transport)).toBe('accepted');
    expect(sink.accepted).toMatchObject([{ secure: true, user: 'ekms' }]);
  });

  test('4xx is temporary and 5xx permanent, at the recipient and after the data; a connection lost before the data is temporary', async () => {
    const transport = await open({});
    for (const [turn, said] of [
      [{ rcpt: 450 }, 'temporary smtp-busy'],
      [{ rcpt: 550 }, 'permanent smtp-refused'],
      [{ data: 451 }, 'temporary smtp-busy'],
      [{ data: 554 }, 'permanent smtp-refused'],
      ['drop-early', 'temporary smtp-unreachable'],
    ] as const) {
      sink.turn = () => turn;
      expect([turn, await failure(transport)]).toEqual([turn, said]);
    }
    expect(sink.accepted).toEqual([]);
  });

  test('a mail that was handed over without an answer has an unknown outcome, not a temporary one', async () => {
    const transport = await open({}, { deadline: 300 });
    sink.turn = () => 'lost';
    expect(await failure(transport)).toBe('unknown outcome-unknown');
    expect(sink.accepted).toHaveLength(1);
    sink.turn = () => 'hang';
    expect(await failure(transport)).toBe('unknown outcome-unknown');
  });

  test('a server that says nothing at all is given up after the deadline', async () => {
    const transport = await open({ onConnect: () => undefined }, { deadline: 200 });
    const began = Date.now();
    expect(await failure(transport)).toBe('temporary smtp-timeout');
    expect(Date.now() - began).toBeLessThan(20_000);
  });
});

describe('a Maildir', () => {
  test('lies open to nobody else, and leaves nothing in tmp', async () => {
    const transport = new MaildirTransport(join(folder, 'mail'));
    await transport.deliver({ from: FROM, to: 'Alice@corp.example' }, bytes);
    const mailbox = join(folder, 'mail/alice@corp.example');
    expect((await stat(mailbox)).mode & 0o077).toBe(0);
    const [name = ''] = await readdir(join(mailbox, 'new'));
    expect((await stat(join(mailbox, 'new', name))).mode & 0o077).toBe(0);
    expect(await readdir(join(mailbox, 'tmp'))).toEqual([]);
    expect(await readdir(join(mailbox, 'cur'))).toEqual([]);
  });

  test('no address leads out of its folder', async () => {
    const transport = new MaildirTransport(join(folder, 'mail'));
    for (const to of [
      '../x@corp.example',
      '..',
      'a/../../b@corp.example',
      '/etc/a@corp.example',
      'a@corp.example/../..',
      'a@b',
      '',
      '\0@corp.example',
      './a@corp.example',
    ])
      await expect(transport.deliver({ from: FROM, to }, bytes)).rejects.toMatchObject({ kind: 'permanent', reason: 'address-unfit' });
    expect(await readdir(folder)).toEqual([]);
  });

  test('what cannot be put into place is a temporary failure without leftovers', async () => {
    const mailbox = join(folder, 'mail/alice@corp.example');
    const elsewhere = await mkdtemp('/dev/shm/ekms-'); // another file system: the mail is written whole, and then cannot be renamed
    await mkdir(mailbox, { recursive: true });
    await symlink(elsewhere, join(mailbox, 'new'));
    const delivery = new MaildirTransport(join(folder, 'mail')).deliver({ from: FROM, to: 'alice@corp.example' }, bytes);
    await expect(delivery).rejects.toMatchObject({ kind: 'temporary', reason: 'maildir-unwritable' });
    expect(await readdir(join(mailbox, 'tmp'))).toEqual([]);
    await rm(elsewhere, { recursive: true });
  });
});
