import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { encodePackage, parsePackage } from '../../src/tokens/index.js';
import { DOMAIN, Home } from '../support/appliance.js';
import { FatalSteps } from '../support/fatal-steps.js';
import { CLIENTS, TwoUnits } from '../support/two-units.js';

jest.setTimeout(180_000);

/** A number that no user of this machine has, and who is not in the socket's group. */
const STRANGER = 61_004;
const isRoot = process.getuid?.() === 0;

describe('the token process as a unit of its own', () => {
  let units: TwoUnits;
  beforeEach(async () => {
    units = await TwoUnits.prepare();
    units.configure({ domains: [DOMAIN], keys: { bits: 2048, pool: { target: 1 } }, token: { socket: units.socket } });
  });
  afterEach(() => units.close());

  test('sealed, it answers its health alone; a wrong PIN leaves it sealed; the right one, from standard input, opens it', async () => {
    units.tokenFile('given');
    expect(units.tell('{}', 'token', 'init', '--settings', units.settings)).toMatchObject({ status: 78 });
    const pin = await units.makeToken();
    rmSync(units.pinFile); // what deploy/install does when it has shown it
    const token = await units.startToken();
    expect(units.said).toContain('sealed');

    // The API process waits for it, however long.
    const init = units.ekms('init');
    const wrong = units.tell('wrong\n', 'token', 'unseal', '--settings', units.settings);
    expect(wrong).toMatchObject({ status: 1, stderr: expect.stringContaining('pin-refused') });
    expect(wrong.stderr).not.toContain('wrong\n');
    expect(units.tell('', 'token', 'unseal', '--settings', units.settings).stderr).toContain('pin-missing');
    expect(existsSync(units.file('ca.pem'))).toBe(false);
    expect(units.tell(`${pin}\n`, 'token', 'unseal', '--settings', units.settings)).toMatchObject({ status: 0 });
    expect(await init).toMatchObject({ status: 0 });
    expect(units.tell(`${pin}\n`, 'token', 'unseal', '--settings', units.settings).stderr).toContain('not-sealed');

    for (const file of ['cmdline', 'environ']) expect(readFileSync(`/proc/${token.pid}/${file}`, 'utf8')).not.toContain(pin);
    expect(readFileSync(`/proc/${token.pid}/cmdline`, 'utf8')).toContain('tokens/process/main.js'); // the very process, no child of a command line
    expect(units.said).not.toContain(pin);
    expect(execFileSync('openssl', ['x509', '-noout', '-subject', '-in', units.file('ca.pem')], { encoding: 'utf8' })).toContain(
      'Corp & Sons',
    );
    expect((await units.ekms('status', '--running')).stderr).toContain('not-running');
    const doctor = await units.ekms('doctor');
    expect(doctor.stdout).toMatch(/^good {2}token pin-place: the PIN is given by a person/m);
    expect(doctor.stdout).not.toMatch(/PIN lies on the disk/);
    // Nothing of the token is in the API's home.
    expect(readdirSync(units.path).filter((name) => /token|pin|softhsm/.test(name))).toEqual([]);
  });

  test('a credential of systemd opens it; its socket is for its group and the unseal door for nobody else', async () => {
    units.tokenFile('credential');
    await units.makeToken();
    renameSync(units.pinFile, join(dirname(units.pinFile), 'ekms-pin'));
    await units.startToken({ CREDENTIALS_DIRECTORY: dirname(units.pinFile) });
    expect(statSync(units.socket).mode & 0o777).toBe(0o660);
    expect(await units.ekms('init')).toMatchObject({ status: 0 });
    expect((await units.ekms('doctor')).stdout).toMatch(/^good {2}token pin-place: the PIN is handed over at start/m);
    if (!isRoot) return; // only root can become others
    expect(statSync(units.socket).gid).toBe(CLIENTS);
    expect(connectAs(STRANGER, STRANGER, units)).toBe('Permission denied');
    expect(connectAs(STRANGER, CLIENTS, units)).toBe('connected');
  });

  test('a ceremony with custodians is held by both: the shares are the token process’s own, the minutes the API’s', async () => {
    units.tokenFile({ file: 'pin' });
    const out = units.beside('shares');
    const first = await units.ekms(
      'ceremony',
      '--custodian',
      'Anna=paper',
      '--custodian',
      'Ben=paper',
      '--threshold',
      '2',
      '--shares',
      out,
    );
    expect(first.stderr).toContain('token-unavailable'); // there is no token yet; who the custodians are is known now
    const request = (await units.ekms('token', 'request')).stdout;
    expect(units.tell(request, 'token', 'init', '--settings', units.settings)).toMatchObject({ status: 78 });
    expect(units.tell(request, 'token', 'init', '--settings', units.settings, '--shares', out)).toMatchObject({ status: 0, stderr: '' });
    const shares = () => readdirSync(out).filter((name) => name.startsWith('share-'));
    const made = shares();
    expect(made).toHaveLength(2);
    await units.startToken();
    expect(await units.ekms('ceremony')).toMatchObject({ status: 0, stdout: expect.stringContaining('held: 2 shares') });
    expect(shares()).toEqual(made);
    expect(readdirSync(out)).toContain('minutes.pdf');

    // Other custodians: decided here, done by the token's user with M of the shares in force while it is stopped.
    const who = ['--custodian', 'Cleo=paper', 'Dora=paper'];
    const held = () => made.map((name) => join(out, name));
    const fresh = units.beside('fresh');
    const reissue = (...shares: string[]) =>
      units.tell(asked, 'token', 'reissue', '--settings', units.settings, '--share', ...shares, '--shares', fresh);
    const asked = (await units.ekms('custody', 'request', ...who)).stdout;
    expect(await units.ekms('custody', 'permit', ...who)).toMatchObject({ status: 0 });
    mkdirSync(fresh);
    expect(reissue(...held()).stdout).toContain('token-in-use');
    await units.stopToken();
    expect(reissue(held()[0] ?? '').stdout).toContain('shares-too-few');
    expect(readdirSync(fresh)).toEqual([]);
    expect(reissue(...held())).toMatchObject({ status: 0, stdout: expect.stringContaining('ready') });
    const now = readdirSync(fresh).map((name) => join(fresh, name));
    expect(now).toHaveLength(2);
    await units.startToken();
    expect(await units.ekms('custody', 'reissue', ...who, '--shares', fresh)).toMatchObject({ status: 0 });
    const { file } = JSON.parse((await units.ekms('backup', 'create')).stdout) as { file: string };
    await units.stopToken();

    // Onto two other units: the former shares are nobody's, the new ones make the token, and the database follows.
    const other = await TwoUnits.prepare();
    try {
      mkdirSync(other.beside('made'));
      other.tokenFile({ file: 'pin' }, other.beside('made', 'token-home'));
      other.configure({ domains: [DOMAIN], keys: { bits: 2048, pool: { target: 1 } }, token: { socket: other.socket } });
      const key = other.beside('made', 'file-key');
      const make = (shares: string[], env: NodeJS.ProcessEnv = {}) =>
        other.tell(
          { input: '', env },
          'token',
          'restore',
          file,
          '--settings',
          other.settings,
          '--ca',
          units.file('ca.pem'),
          '--file-key',
          key,
          '--share',
          ...shares,
        );
      expect(make(held())).toMatchObject({ status: 1, stderr: expect.stringContaining('share-foreign') });
      expect((await other.ekms('restore', file)).stderr).toContain('token-elsewhere');
      // Cut off here and there it is told again, and goes on from whatever was left.
      const steps = new FatalSteps(other.folder, other.beside('made'));
      const die = (at: number) => {
        steps.arm(at);
        const { status } = make(now, steps.environment);
        const { fired } = steps;
        steps.disarm();
        if (fired !== undefined) expect(status).not.toBe(0);
        return fired;
      };
      die(0);
      const taken = steps.taken();
      const blank = () => {
        for (const name of readdirSync(other.beside('made'))) rmSync(other.beside('made', name), { recursive: true });
      };
      const last = (text: string) => taken.findLastIndex((step) => step.includes(text)) + 1;
      blank();
      const deaths = [die(last('remove /token-home/token-state/restoring'))];
      const opens = readFileSync(key, 'utf8');
      const early = other.tell('', 'token', 'serve', '--settings', other.settings);
      expect(early).toMatchObject({ status: 78, stdout: expect.stringContaining('restore-unfinished') });
      expect(make(now)).toMatchObject({ status: 0, stderr: '' });
      expect(readFileSync(key, 'utf8')).toBe(opens);
      // A token that is whole is nobody's to make again.
      renameSync(key, other.beside('elsewhere'));
      expect(make(now).stderr).toContain('already-initialised');
      blank();
      // Before its journal is there; then in the middle of taking away what that left.
      deaths.push(die(last('create /token-home/token-state/journal')));
      const another = other.beside('another-pin');
      writeFileSync(another, 'of another token');
      expect(make([...now, '--pin-file', another]).stderr).toContain('restore-unfinished');
      expect(readFileSync(another, 'utf8')).toBe('of another token');
      deaths.push(die(40));
      console.log(`${deaths.filter((step) => step !== undefined).length} deaths of ${taken.length} steps: ${deaths.join(', ')}`);
      expect(deaths).not.toContain(undefined);
      expect(make(now)).toMatchObject({ status: 0, stderr: '' });
      expect(readdirSync(other.beside('made', 'token-home')).filter((name) => /cut|new/.test(name))).toEqual([]);
      await other.startToken();
      // The second place has heard of a KEK that this token, which was made without it, does not know.
      const second = other.beside('second');
      mkdirSync(second);
      writeFileSync(join(second, 'ekms-escrow'), '');
      const sealed = parsePackage(readFileSync(other.beside('made', 'token-home', 'token-state', 'custody.json'), 'utf8'));
      const [kek] = sealed.package.keys.filter(({ label }) => label === 'ekms/kek/1');
      if (!kek) throw new Error('the package has no KEK');
      const later = { ...sealed.package, keys: [...sealed.package.keys, { ...kek, label: 'ekms/kek/2' }] };
      writeFileSync(join(second, 'custody-package'), encodePackage({ ...sealed, package: later }));
      const refused = await other.ekms('restore', file, '--file-key', key, '--escrow', second);
      expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('token-older') });
      expect(existsSync(other.file('ca.pem'))).toBe(false);
      expect(await other.ekms('restore', file, '--file-key', key)).toMatchObject({ status: 0 });
      expect(readFileSync(other.file('ca.pem'))).toEqual(readFileSync(units.file('ca.pem')));
      expect(readdirSync(other.path).filter((name) => /token|pin|softhsm/.test(name))).toEqual([]);
      expect(await other.ekms('audit', 'verify')).toMatchObject({ status: 0, stderr: '' });
      // What was cut off after the log was signed is not taken for a restore: this token signs no other log.
      rmSync(other.file('ca.pem'));
      for (const end of ['', '-wal', '-shm']) rmSync(other.file(`ekms.db${end}`), { force: true });
      const again = await other.ekms('restore', file, '--file-key', key);
      expect(again).toMatchObject({ status: 1, stderr: expect.stringContaining('token-signed') });
      expect(existsSync(other.file('ca.pem'))).toBe(false);
    } finally {
      await other.close();
    }
  });

  test('the same file of settings with something wrong in it is told with its place', async () => {
    for (const [wrong, told] of [
      ['pin: maybe', 'pin'],
      ['home: relative', 'home'],
      ['unknown: 1', 'unknown'],
      ['home: [', 'token.yaml'],
    ] as const) {
      writeFileSync(
        units.settings,
        `home: /nowhere\npin: given\nsocket: ${units.socket}\n`
          .replace(/^home.*\n/, wrong.startsWith('home') ? '' : '$&')
          .replace(/pin: given/, wrong.startsWith('pin') ? '' : 'pin: given') + wrong,
      );
      const ended = units.tell('', 'token', 'serve', '--settings', units.settings);
      expect(ended).toMatchObject({ status: 78, stdout: expect.stringContaining('token-settings') });
      expect(ended.stderr).toContain(told);
    }
  });
});

/** What the system says to a user of these numbers who opens the socket. */
function connectAs(user: number, group: number, { folder, socket }: TwoUnits): string {
  chmodSync(folder, 0o711);
  const script = 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); print connect(S, pack_sockaddr_un($ARGV[0])) ? "connected" : "$!"';
  const as = ['--reuid', String(user), '--regid', String(group), '--clear-groups', 'perl', '-e', script, socket];
  return execFileSync('setpriv', as, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
}

describe('an init that was cut', () => {
  let home: Home;
  beforeEach(async () => {
    home = await Home.prepare();
  });
  afterEach(() => home.remove());

  test('after the token was made goes on where it was', async () => {
    const settings = { domains: [DOMAIN], publicName: 'ekms.corp.example', keys: { bits: 2048, pool: { target: 0 } } };
    home.configure({ ...settings, database: { url: 'postgres://ekms@127.0.0.1:1/ekms' } });
    expect(await home.ekms('init')).toMatchObject({ status: 1 });
    const root = readFileSync(home.file('token-state', 'root.der'));
    home.configure(settings);
    const again = await home.ekms('init');
    expect(again).toMatchObject({ status: 0, stderr: expect.stringContaining('going on') });
    const pem = readFileSync(home.file('ca.pem'), 'utf8');
    expect(Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64')).toEqual(root);
    expect((await home.ekms('init')).stderr).toContain('already-initialised');
    // Written but not whole: the last file is lost before it was said that all is done.
    rmSync(home.file('ca.pem'));
    writeFileSync(home.file('init-unfinished'), '');
    expect(await home.ekms('init')).toMatchObject({ status: 0 });
    expect(readFileSync(home.file('ca.pem'), 'utf8')).toBe(pem);
    expect(
      JSON.parse((await home.ekms('audit', 'tail', '-n', '50')).stdout).filter(
        (entry: { action: string }) => entry.action === 'appliance.init',
      ),
    ).toHaveLength(1);
    const state = JSON.parse((await home.ekms('database', 'state')).stdout);
    expect(state).toMatchObject({
      file: home.file('ekms.db'),
      known: true,
      migrations: expect.arrayContaining(['FirstTables1795500000000']),
    });
    expect(state.entries).toBeGreaterThan(0);
    expect(await home.ekms('database', 'migrate')).toMatchObject({ status: 0, stderr: '' });
    // Listening on the loopback, as it does at first: a certificate that names nothing beyond what its authority may.
    const { child } = await home.spawnServe();
    try {
      const shown = spawnSync(
        'openssl',
        ['s_client', '-connect', `127.0.0.1:${home.ports.client}`, '-CAfile', home.file('ca.pem'), '-verify_hostname', settings.publicName],
        { input: '', encoding: 'utf8' },
      );
      expect(shown.stdout).toContain('Verify return code: 0 (ok)');
    } finally {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
  });

  test('never makes a second token over one that has been in use', async () => {
    const settings = { domains: [DOMAIN], keys: { bits: 2048, pool: { target: 0 } } };
    home.configure(settings);
    expect(await home.ekms('init')).toMatchObject({ status: 0 });
    const names = (): string[] => (readdirSync(home.file('token'), { recursive: true }) as string[]).sort();
    const before = names();
    rmSync(home.file('ca.pem'));
    for (const _ of [1, 2]) expect((await home.ekms('init')).stderr).toContain('a token has been made here');
    renameSync(home.file('token-state'), home.file('lost'));
    expect((await home.ekms('init')).stderr).toContain('a token has been made here');
    expect(names()).toEqual(before);
    // What a cut between the token's own last steps leaves: put in place, and never used. Even that is set aside, not deleted.
    mkdirSync(home.file('token-state.new'));
    const { status } = await home.ekms('init');
    expect(names()).not.toEqual(before);
    const aside = readdirSync(home.path).find((name) => name.startsWith('token.cut-')) ?? '';
    expect((readdirSync(home.file(aside), { recursive: true }) as string[]).sort()).toEqual(before);
    expect(status).toBe(1); // for the database is of the first token
  });
});
