import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { Outcome } from '../../src/demo/programs.js';
import { DOMAIN, Home } from '../support/appliance.js';

jest.setTimeout(60_000);
const SOFTHSM = '/usr/lib/softhsm/libsofthsm2.so';
/** OpenSC's: writes down every call of PKCS#11 on its way to the real module. */
const SPY = '/usr/lib/x86_64-linux-gnu/pkcs11-spy.so';

/** Ended with a status of its own, in words for a person: the stable code, and no stack. */
function expectRefused({ status, stdout, stderr }: Outcome, code: string, ...words: string[]): void {
  expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining(`(${code})`) });
  for (const word of words) expect(stderr).toContain(word);
  expect(stdout).not.toMatch(/^ready/m);
  expect(stderr).not.toMatch(/\n\s+at |node:internal|a defect/);
}

/** Nothing works for this home any more. */
async function expectQuiet(home: Home): Promise<void> {
  for (const until = Date.now() + 5000; processesOf(home).length > 0 && Date.now() < until; ) await sleep(50);
  expect(processesOf(home)).toEqual([]);
}

function processesOf(home: Home): string[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .filter((pid) => {
      const read = (file: string) => {
        try {
          return readFileSync(`/proc/${pid}/${file}`, 'utf8');
        } catch {
          return '';
        }
      };
      return read('environ').includes(`EKMS_HOME=${home.path}\0`);
    });
}

describe('before ekms init', () => {
  let home: Home;
  const settings = { domains: [DOMAIN], keys: { bits: 2048, pool: { target: 0 } } };
  beforeAll(async () => {
    home = await Home.prepare();
  });
  afterAll(() => home.remove());
  const left = () => readdirSync(home.path).filter((name) => name !== 'run' && name !== 'ekms.yaml');

  test.each([['serve'], ['app', 'list'], ['status'], ['audit', 'tail'], ['employee', 'stop', 'alice@corp.example']])(
    'ekms %s %s says what to do first',
    async (...words) => {
      expectRefused(await home.ekms(...words.filter(Boolean)), 'not-initialised', 'ekms init');
      expect(left()).toEqual([]);
    },
  );

  test('init wants a mail domain', async () => {
    home.configure({});
    expectRefused(await home.ekms('init'), 'domain-missing', 'domains');
    rmSync(home.file('ekms.yaml'));
    expectRefused(await home.ekms('init'), 'domain-missing', '--domain');
    expect(left()).toEqual([]);
  });

  test('every error of the configuration is named at once, with its path', async () => {
    const wrong = {
      domains: ['corp'],
      keys: { bits: 1024, pool: { target: -1 } },
      token: { workers: 0 },
      enrolment: { second: 'maybe' },
      nonsense: 1,
    };
    home.configure(wrong);
    for (const command of ['init', 'serve']) {
      const outcome = await home.ekms(command);
      expectRefused(
        outcome,
        'configuration-invalid',
        'domains',
        'keys.bits',
        'keys.pool.target',
        'token.workers',
        'enrolment.second',
        'nonsense',
      );
      expect(outcome.stderr.match(/^ {2}line \d+/gm)).toHaveLength(6);
    }
    writeFileSync(home.file('ekms.yaml'), 'domains: [corp.example\nkeys: {');
    expectRefused(await home.ekms('init'), 'configuration-invalid', 'line ');
    expect(left()).toEqual([]);
  });

  test('a wrong path of the PKCS#11 module leaves nothing half made, and the right one works afterwards', async () => {
    home.configure({ ...settings, token: { module: '/nowhere/lib.so' } });
    expectRefused(await home.ekms('init'), 'token-init-failed', '/nowhere/lib.so');
    expect(left()).toEqual([]);
    writeFileSync(home.beside('not-a-library.so'), 'text');
    home.configure({ ...settings, token: { module: home.beside('not-a-library.so') } });
    expectRefused(await home.ekms('init'), 'token-init-failed', 'not-a-library.so');
    expect(left()).toEqual([]);
    home.configure(settings);
    expect(await home.ekms('init')).toMatchObject({ status: 0 });
    for (const name of ['pin', 'ekms.db', 'ekms.yaml']) expect(statSync(home.file(name)).mode & 0o077).toBe(0);
  });

  test('init a second time changes nothing', async () => {
    const digest = () =>
      execFileSync('sh', ['-c', 'find . -type f ! -path "./run/*" ! -name "*.db*" -exec sha256sum {} + | sort'], {
        cwd: home.path,
      }).toString();
    const before = digest();
    expectRefused(await home.ekms('init', '--domain', DOMAIN), 'already-initialised', 'nothing was changed');
    expect(digest()).toBe(before);
    expectRefused(await home.ekms('init', '--domain', 'other.example'), 'domain-differs', 'other.example');
    // Also where only the root certificate was lost: the token is never made anew over the old one.
    const root = readFileSync(home.file('ca.pem'));
    rmSync(home.file('ca.pem'));
    const { status, stderr } = await home.ekms('init');
    expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringContaining('Nothing was changed') });
    writeFileSync(home.file('ca.pem'), root);
    expect(digest()).toBe(before);
  });
});

describe('ekms', () => {
  let home: Home;
  const settings = { domains: [DOMAIN], keys: { bits: 2048, pool: { target: 0 } } };
  beforeAll(async () => {
    home = await Home.prepare({ settings });
    expect(await home.ekms('init')).toMatchObject({ status: 0 });
  });
  afterAll(() => home.remove());
  const serves = async () => {
    const { child } = await home.spawnServe();
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
    expect(child.exitCode).toBe(0);
    await expectQuiet(home);
  };

  test.each(['SIGTERM', 'SIGINT'] as const)(
    'serve ends on %s with status 0, its token process with it, and the log says so',
    async (signal) => {
      const { child, said } = await home.spawnServe();
      expect(processesOf(home).length).toBeGreaterThanOrEqual(2);
      const ended = once(child, 'exit');
      child.kill(signal);
      await ended;
      expect({ status: child.exitCode, said: said() }).toEqual({ status: 0, said: expect.not.stringMatching(/defect|Error/) });
      await expectQuiet(home);
      expect(existsSync(home.file('run', 'control.sock'))).toBe(false);
      const { stdout } = await home.ekms('audit', 'tail', '-n', '1');
      expect(JSON.parse(stdout)).toEqual([expect.objectContaining({ action: 'appliance.stop' })]);
    },
  );

  test('a port that another program has is named with its setting, and nothing is left running', async () => {
    const other = createServer().listen(home.ports.public, '127.0.0.1');
    await once(other, 'listening');
    expectRefused(await home.ekms('serve'), 'listen-failed', `listen.public: 127.0.0.1:${home.ports.public}`, 'in use');
    await expectQuiet(home);
    await new Promise((resolve) => other.close(resolve));
    await serves();
  });

  describe('while one is up', () => {
    let end: () => Promise<void>;
    beforeAll(async () => {
      const { child } = await home.spawnServe();
      end = async () => {
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        await ended;
      };
    });
    afterAll(() => end());

    test('there is no second serve and no init', async () => {
      expectRefused(await home.ekms('serve'), 'home-in-use');
      expectRefused(await home.ekms('init'), 'home-in-use');
      expect(JSON.parse((await home.ekms('status')).stdout)).toMatchObject({ status: 'ready' });
    });

    test.each<[string[], string]>([
      [['employee', 'stop', 'nobody@corp.example'], 'binding-unknown'],
      [['employee', 'stop', 'nobody'], 'address-malformed'],
      [['device', 'revoke', '00000000-0000-4000-8000-000000000000'], 'device-unknown'],
      [['app', 'revoke', 'x'], 'app-unknown'],
      [['key', 'set-state', '00000000-0000-4000-8000-000000000000', 'suspended'], 'key-unknown'],
    ])('%j is refused by it: %s', async (words, code) => {
      expectRefused(await home.ekms(...words), code);
    });

    test('a file that is there is not overwritten by an app credential, and none is issued then', async () => {
      writeFileSync(home.beside('there'), 'kept');
      for (const path of [home.beside('there'), '/nowhere/app.json'])
        expect(await home.ekms('app', 'issue', '--platform', 'linux', '-o', path)).toMatchObject({
          status: 1,
          stderr: expect.stringContaining(path),
        });
      expect(readFileSync(home.beside('there'), 'utf8')).toBe('kept');
      expect(JSON.parse((await home.ekms('app', 'list')).stdout)).toEqual([]);
    });
  });

  test('what was killed leaves no lock behind', async () => {
    const { child } = await home.spawnServe();
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
    await serves();
  });

  test('with none up, commands do it themselves, and refuse alike', async () => {
    expectRefused(await home.ekms('employee', 'stop', 'nobody@corp.example'), 'binding-unknown');
    expect(JSON.parse((await home.ekms('app', 'list')).stdout)).toEqual([]);
  });

  test.each([
    [['nonsense']],
    [['pool', 'fill']],
    [['pool', 'fill', '--count', 'many']],
    [['key', 'set-state', 'x', 'nonsense']],
    [['app', 'issue', '--platform', 'linux']],
  ])('%j: wrong words end with status 2 and say what is wrong', async (words) => {
    const { status, stderr } = await home.ekms(...words);
    expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringMatching(/error: /) });
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test('a database of a newer version is left alone', async () => {
    const database = await home.openDatabase();
    await database.write((unit) =>
      unit.run("INSERT INTO migrations (timestamp, name) VALUES (1999999999999, 'FromTheFuture1999999999999')"),
    );
    for (const command of ['serve', 'status']) expectRefused(await home.ekms(command), 'database-newer', 'FromTheFuture', 'newer version');
    await database.write((unit) => unit.run("DELETE FROM migrations WHERE name LIKE 'FromTheFuture%'"));
    await serves();
  });

  test('a database that is none, or that cannot be reached, is said so', async () => {
    writeFileSync(home.beside('noise.db'), 'no database at all, but long enough to be looked at as one'.repeat(40));
    home.configure({ ...settings, database: { url: `sqlite:${home.beside('noise.db')}` } });
    expect(await home.ekms('serve')).toMatchObject({ status: 1, stderr: expect.stringContaining('not a database') });
    home.configure({ ...settings, database: { url: 'postgres://ekms@127.0.0.1:1/ekms' } });
    expect(await home.ekms('serve')).toMatchObject({ status: 1, stderr: expect.stringContaining('ECONNREFUSED') });
    home.configure(settings);
  });

  test('a module that is not there, and a PIN file that is not there', async () => {
    home.configure({ ...settings, token: { module: '/nowhere/lib.so' } });
    expectRefused(await home.ekms('serve'), 'module-missing', '/nowhere/lib.so');
    home.configure({ ...settings, token: { pinFile: 'no-such-file' } });
    expectRefused(await home.ekms('serve'), 'pin-missing', 'no-such-file');
    home.configure(settings);
  });

  test('a wrong PIN is tried once and never again', async () => {
    const logins = () => readFileSync(home.beside('spy'), 'utf8').match(/^\d+: C_Login$/gm)?.length ?? 0;
    const pin = readFileSync(home.file('pin'));
    process.env['PKCS11SPY'] = SOFTHSM;
    process.env['PKCS11SPY_OUTPUT'] = home.beside('spy');
    home.configure({ ...settings, token: { module: SPY } });
    try {
      // The spy sees what there is to see: the right PIN, once per session.
      await serves();
      expect(logins()).toBeGreaterThan(0);
      rmSync(home.beside('spy'));
      writeFileSync(home.file('pin'), 'wrong\n');
      const outcome = await home.ekms('serve');
      expectRefused(outcome, 'pin-refused', home.file('pin'), 'tried once');
      expect(logins()).toBe(1);
      await expectQuiet(home);
      expect(outcome.stderr).not.toContain('wrong\n');
    } finally {
      writeFileSync(home.file('pin'), pin);
      delete process.env['PKCS11SPY'];
      delete process.env['PKCS11SPY_OUTPUT'];
      home.configure(settings);
    }
    await serves();
  });

  // Last: there is no way back from it.
  test('a token whose key-encryption key is gone is not served with', async () => {
    removeObject(home, 'ekms/kek/1');
    expectRefused(await home.ekms('serve'), 'kek-missing', 'kek');
  });
});

/** Takes the file of one object out of SoftHSM's folder: the one without which the listing has this label no more. */
function removeObject(home: Home, label: string): void {
  const folder = home.file('token', readdirSync(home.file('token'))[0] ?? '');
  const has = () =>
    execFileSync(
      'pkcs11-tool',
      ['--module', SOFTHSM, '--token-label', 'ekms', '-l', '-p', readFileSync(home.file('pin'), 'utf8').trim(), '-O', '--type', 'secrkey'],
      {
        env: { ...process.env, SOFTHSM2_CONF: home.file('softhsm2.conf') },
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    )
      .toString()
      .includes(label);
  for (const name of readdirSync(folder).filter((each) => each.endsWith('.object') && each !== 'token.object')) {
    const bytes = readFileSync(`${folder}/${name}`);
    rmSync(`${folder}/${name}`);
    if (!has()) return;
    writeFileSync(`${folder}/${name}`, bytes, { mode: 0o600 });
  }
  throw new Error(`no object has the label ${label}`);
}
