import { type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Listr, PRESET_TIMER } from 'listr2';
import { openStorage } from '../storage/index.js';
import { freePorts, must, type Outcome, run, startUntilReady, stop } from './programs.js';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const node = process.execPath;
const MARK = '.ekms-demo';
const DOMAIN = 'corp.example';

interface ListedKey {
  id: string;
  state: string;
  certificates: string[];
}

/** The main job on real input: every step is the product's own command line, a mail that openssl encrypted, and a database that is really attacked. */
class Demo {
  server: ChildProcess | undefined;
  readonly #work: string;
  #clientPort = 0;

  static async begin(once: boolean): Promise<Demo> {
    if (once) return new Demo(mkdtempSync(join(tmpdir(), 'ekms-demo-')), once);
    const home = resolve('data/demo');
    if (existsSync(home)) {
      if (!existsSync(join(home, MARK))) throw new Error(`${home} is not of an earlier demo; move it away first`);
      const { status } = await run(node, [join(root, 'dist/programs/main.js'), 'status', '--running'], { EKMS_HOME: home });
      if (status === 0) throw new Error(`a demo is running in ${home}: end it by Control-C in its terminal first`);
      rmSync(home, { recursive: true });
    }
    return new Demo(home, once);
  }

  private constructor(
    readonly home: string,
    readonly once: boolean,
  ) {
    this.#work = join(this.home, 'work');
    mkdirSync(this.#work, { recursive: true, mode: 0o700 });
    writeFileSync(join(this.home, MARK), '');
  }

  ekms = (...args: string[]) => must(node, [join(root, 'dist/programs/main.js'), ...args], { EKMS_HOME: this.home });
  file = (name: string) => join(this.#work, name);

  #client(device: string, args: readonly string[]): Promise<Outcome> {
    return run(node, [join(root, 'dist/programs/mesign.js'), ...args, '--passphrase-file', this.file('passphrase')], {
      MESIGN_HOME: this.file(device),
    });
  }

  async mesign(device: string, ...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.#client(device, args);
    if (status !== 0) throw new Error(`mesign ${args[0]} ended with status ${status}: ${stderr.trim()}`);
    return stdout;
  }

  async refused(device: string, words: RegExp, ...args: string[]): Promise<string> {
    const { status, stderr } = await this.#client(device, args);
    if (status === 0) throw new Error(`mesign ${args[0]} was not refused`);
    if (!words.test(stderr)) throw new Error(`mesign ${args[0]} was refused for another reason: ${stderr.trim()}`);
    return stderr.trim().split('\n').at(-1) ?? '';
  }

  enrolment(person: string): string[] {
    const address = `${person}@${DOMAIN}`;
    const mailbox = `maildir:${join(this.home, 'mail', address)}`;
    return [
      'enroll',
      '--server',
      `https://localhost:${this.#clientPort}`,
      '--ca',
      join(this.home, 'ca.pem'),
      '--app',
      this.file('app.json'),
      '--email',
      address,
      '--mailbox',
      mailbox,
    ];
  }

  async keys(device: string): Promise<ListedKey[]> {
    return JSON.parse(await this.mesign(device, 'keys', '--json')) as ListedKey[]; // the format is fixed (README)
  }

  async initialise(): Promise<void> {
    const [client = 0, administration = 0, staff = 0, open = 0, operation = 0] = this.once
      ? await freePorts(5)
      : [8443, 8444, 8445, 8480, 9464];
    this.#clientPort = client;
    const at = (port: number) => `"127.0.0.1:${port}"`;
    const listen = `{ client: ${at(client)}, administration: ${at(administration)}, staff: ${at(staff)}, public: ${at(open)}, operation: ${at(operation)} }`;
    writeFileSync(join(this.home, 'ekms.yaml'), `listen: ${listen}\ndomains: [${DOMAIN}]\nkeys: { pool: { target: 4 } }\n`, {
      mode: 0o600,
    });
    writeFileSync(this.file('passphrase'), 'correct horse battery staple\n', { mode: 0o600 });
    await this.ekms('init');
  }

  async serve(): Promise<void> {
    this.server = await startUntilReady(node, [join(root, 'dist/programs/main.js'), 'serve'], { EKMS_HOME: this.home });
  }

  async encrypt(): Promise<void> {
    const [key] = await this.keys('alice-1');
    writeFileSync(this.file('alice.pem'), key?.certificates[0] ?? '');
    await must('openssl', [
      'cms',
      '-encrypt',
      '-binary',
      '-aes256',
      '-in',
      join(root, 'test/vectors/eml/nested.eml'),
      '-out',
      this.file('mail.eml'),
      this.file('alice.pem'),
    ]);
  }

  async decrypt(device: string): Promise<void> {
    await this.mesign(device, 'decrypt', this.file('mail.eml'), '-o', this.file(`${device}.out`));
    if (!readFileSync(this.file(`${device}.out`)).equals(readFileSync(join(root, 'test/vectors/eml/nested.eml'))))
      throw new Error('the bytes differ');
  }

  async sameKey(): Promise<void> {
    const [[first], [second]] = [await this.keys('alice-1'), await this.keys('alice-2')];
    if (!first || first.id !== second?.id) throw new Error('the two devices have different keys');
  }

  /** Puts alice's wrapped key into bob's row, as whoever writes the database could, and takes it back. */
  async attack(): Promise<string> {
    const storage = await openStorage({ url: 'sqlite:ekms.db', home: this.home });
    try {
      const [[alice], [bob]] = [await this.keys('alice-1'), await this.keys('bob-1')];
      const blob = (id = '') => storage.one<{ wrapped: Buffer }>('SELECT wrapped FROM keys WHERE id = ?', [id]);
      const [hers, his] = [await blob(alice?.id), await blob(bob?.id)];
      if (!hers || !his || !bob) throw new Error('no rows to attack');
      const put = (wrapped: Buffer) => storage.write((unit) => unit.run('UPDATE keys SET wrapped = ? WHERE id = ?', [wrapped, bob.id]));
      await put(hers.wrapped);
      const words = await this.refused('bob-2', /record-forged/, ...this.enrolment('bob'));
      await put(his.wrapped);
      await this.mesign('bob-2', 'keys');
      return words;
    } finally {
      await storage.close();
    }
  }

  async log(): Promise<string> {
    const entries = JSON.parse(await this.ekms('audit', 'tail', '-n', '8')) as {
      index: string;
      action: string;
      outcome: string;
      reason?: string;
    }[]; // our own output
    return entries.map(({ index, action, outcome, reason }) => `#${index} ${action} ${outcome}${reason ? ` (${reason})` : ''}`).join('\n');
  }

  next(): string {
    return `The appliance goes on running; Ctrl-C ends it. In another terminal, here:
  export EKMS_HOME=${this.home} MESIGN_HOME=${this.file('alice-1')}
  ./ekms status                          health, ready pool
  ./ekms audit tail -n 20                who got what
  ./mesign keys --passphrase-file ${this.file('passphrase')}
  ./mesign ${this.enrolment('carol').join(' ')}
  ./ekms employee stop alice@${DOMAIN}   a leaver: the next ./mesign keys is refused`;
  }
}

const USAGE = `Usage: ekms demo [--once]

Makes an appliance in data/demo, enrols people, encrypts and opens a real mail, attacks the database, and stays up until Control-C.

Options:
  --once  in a place of its own, on free ports; leaves when done, status 0 if every step held`;

async function main(words: readonly string[]): Promise<void> {
  if (words.some((word) => word === '--help' || word === '-h' || word === 'help')) return console.log(USAGE);
  if (words.some((word) => word !== '--once')) {
    console.error(USAGE);
    process.exitCode = 2;
    return;
  }
  const demo = await Demo.begin(words.includes('--once'));
  const seen = { refusal: '', log: '' };
  const steps = new Listr(
    [
      { title: 'initialise: token, key-encryption key, authorities, database', task: () => demo.initialise() },
      { title: 'start the appliance', task: () => demo.serve() },
      {
        title: 'issue the app credential of the managed client',
        task: () => demo.ekms('app', 'issue', '--platform', 'linux', '-o', demo.file('app.json')),
      },
      { title: 'enrol a device of alice by her mailbox', task: () => demo.mesign('alice-1', ...demo.enrolment('alice')) },
      { title: 'openssl encrypts a real message to her certificate', task: () => demo.encrypt() },
      { title: 'her device decrypts it; the bytes are the same', task: () => demo.decrypt('alice-1') },
      { title: 'enrol a second device of alice', task: () => demo.mesign('alice-2', ...demo.enrolment('alice')) },
      { title: 'it has the same key and opens the same mail', task: () => demo.sameKey().then(() => demo.decrypt('alice-2')) },
      { title: 'enrol a device of bob', task: () => demo.mesign('bob-1', ...demo.enrolment('bob')) },
      {
        title: 'his device is refused the mail: it has no key of hers',
        task: () => demo.refused('bob-1', /./, 'decrypt', demo.file('mail.eml'), '-o', demo.file('bob.out')),
      },
      {
        title: 'somebody edits the database: alice’s key in bob’s row is refused by the token process',
        task: async () => {
          seen.refusal = await demo.attack();
        },
      },
      {
        title: 'the log’s last entries',
        task: async (_, task) => {
          seen.log = await demo.log();
          task.output = seen.log;
        },
      },
    ],
    { rendererOptions: { timer: PRESET_TIMER }, fallbackRendererOptions: { timer: PRESET_TIMER } },
  );
  try {
    await steps.run();
    console.log(`\nWhat bob’s device was told: ${seen.refusal}\nThe log’s last entries:\n${seen.log}\n`);
    if (demo.once) return;
    console.log(demo.next());
    await new Promise<void>((done) => {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, done);
    });
  } finally {
    await stop(demo.server);
    if (demo.once) rmSync(demo.home, { recursive: true, force: true });
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(`ekms demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
