import 'reflect-metadata';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { newId } from '../../src/foundation/index.js';
import { TokenProcess } from '../../src/tokens/token-client.js';
import {
  DIST,
  ENTRY,
  enrol,
  eventually,
  giveKey,
  type Held,
  initialisedHome,
  type Person,
  runMain,
  type TokenHome,
} from './process-house.js';

const unavailable = { kind: 'unavailable', code: 'token-unavailable' };
const reasons = (results: PromiseSettledResult<unknown>[]) =>
  results.flatMap((result) => (result.status === 'rejected' ? [result.reason as { code: string; retryAfter?: number }] : []));
const isAlive = (pid: number) => existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

describe('the token process, when things go wrong,', () => {
  let home: TokenHome;
  let token: TokenProcess;
  let alice: Person;
  let held: Held;
  const release = () => token.release(held.key, held.blob, alice.evidence);

  beforeAll(async () => {
    home = initialisedHome();
    const shim = join(home.home, 'shim.so');
    execFileSync('cc', [
      '-shared',
      '-fPIC',
      '-I',
      resolve('node_modules/pkcs11js/includes'),
      '-o',
      shim,
      resolve('test/tokens/process-shim.c'),
      '-ldl',
    ]);
    process.env['SHIM_FOLDER'] = home.home;
    home.settings = { ...home.settings, module: shim, waiting: 8 };
    token = new TokenProcess({ entry: ENTRY, settings: home.settings });
    await token.start();
    alice = await enrol(token);
    held = await giveKey(token, alice);
  }, 60_000);
  afterAll(async () => {
    await token?.stop();
    home?.remove();
  });
  const logins = () => statSync(join(home.home, 'logins')).size;

  test('killed under load, answers 503 within 5 s, serves again within 30 s, and forgets nothing that it confirmed', async () => {
    const pool = await token.makePair({ suite: 'rsa', bits: 2048 });
    const to = { key: newId(), employee: alice.employee, mode: 'deliver' } as const;
    await token.assign(pool.pair, to);
    await token.block(alice.device);
    const pid = token.pid ?? 0;
    const calls = Promise.allSettled(Array.from({ length: 10 }, release));
    process.kill(pid, 'SIGKILL');
    const begin = Date.now();
    const failed = reasons(await calls);
    expect(Date.now() - begin).toBeLessThan(5000);
    expect(failed.length).toBeGreaterThan(0);
    for (const reason of failed) expect(reason).toMatchObject({ ...unavailable, retryAfter: 1 });
    expect(await token.health()).toMatchObject({ state: 'down' });

    await eventually(async () => (await token.health()).state === 'ready', 30_000);
    expect(token.pid).not.toBe(pid);
    await expect(release()).rejects.toMatchObject({ code: 'device-blocked' });
    await token.unblock(alice.device);
    await release();
    await expect(token.assign(pool.pair, to)).rejects.toMatchObject({ code: 'pair-spent' });
    expect((await token.makePair({ suite: 'rsa', bits: 2048 })).pair.record.n).toBeGreaterThan(pool.pair.record.n);
  }, 60_000);

  test('finds the token again when its folder went away and came back, without a restart', async () => {
    const pid = token.pid;
    const before = (await token.health()).recoveries;
    renameSync(join(home.home, 'token'), join(home.home, 'token-away'));
    await eventually(async () => (await token.health()).state === 'down', 10_000);
    await expect(release()).rejects.toMatchObject(unavailable);
    renameSync(join(home.home, 'token-away'), join(home.home, 'token'));
    await eventually(async () => (await token.health()).state === 'ready', 20_000);
    await release();
    expect(await token.health()).toMatchObject({ recoveries: before + 1 });
    expect(token.pid).toBe(pid);
  }, 60_000);

  test('killed while the token is away, keeps trying to start and serves when it is back', async () => {
    renameSync(join(home.home, 'token'), join(home.home, 'token-away'));
    process.kill(token.pid ?? 0, 'SIGKILL');
    await eventually(async () => (await token.health()).recoveries >= 4, 20_000); // restarts that came to nothing
    expect(await token.health()).toMatchObject({ state: 'down' });
    await expect(release()).rejects.toMatchObject(unavailable);
    renameSync(join(home.home, 'token-away'), join(home.home, 'token'));
    await eventually(async () => (await token.health()).state === 'ready', 20_000);
    await release();
  }, 60_000);

  test('a call that the token refuses is refused alone: nobody takes it for a token that is gone', async () => {
    const { recoveries } = await token.health();
    // A key this short has no room for RSA-OAEP of a content-encryption key. The rooms above refuse it; here nobody asked them.
    const bob = await enrol(token, 'bob@corp.example', 512);
    const { key, blob } = await giveKey(token, bob);
    await expect(token.release(key, blob, bob.evidence)).rejects.toMatchObject({ kind: 'conflict', code: 'token-call-refused' });
    await release();
    expect(await token.health()).toMatchObject({ state: 'ready', recoveries });
  });

  test('lets only so many wait, gives up on those that wait too long, and goes on when the module comes back', async () => {
    writeFileSync(join(home.home, 'hang'), '');
    const begin = Date.now();
    const calls = Array.from({ length: 40 }, () => release());
    const busy = reasons(await Promise.allSettled(calls.slice(12)));
    expect(Date.now() - begin).toBeLessThan(5000);
    expect(busy).toHaveLength(28); // two workers with two in hand each, and eight that wait
    for (const reason of busy) expect(reason).toMatchObject({ kind: 'unavailable', code: 'token-busy', retryAfter: 1 });
    const late = reasons(await Promise.allSettled(calls.slice(0, 12)));
    expect(late).toHaveLength(12);
    for (const reason of late) expect(reason).toMatchObject(unavailable);
    expect(Date.now() - begin).toBeLessThan(15_000);
    rmSync(join(home.home, 'hang'));
    await release();
  }, 20_000);

  test('a retrieval does not wait behind a key generation', async () => {
    let made = 0;
    const making = Promise.all(Array.from({ length: 2 }, () => token.makePair({ suite: 'rsa', bits: 4096 }).then(() => made++)));
    const times: number[] = [];
    while (made < 2) {
      const begin = performance.now();
      await release();
      times.push(performance.now() - begin);
    }
    await making;
    times.sort((a, b) => a - b);
    expect(times.length).toBeGreaterThan(20);
    expect(times[Math.floor(times.length / 2)]).toBeLessThan(500);
  }, 90_000);

  test('a full disk refuses what must be written down, and heals without a restart', async () => {
    const journal = join(home.settings.state, 'journal');
    const limit = (size: string) => execFileSync('prlimit', ['--pid', String(token.pid), `--fsize=${size}:`]);
    limit(String(statSync(journal).size + 10));
    await expect(token.block(alice.device)).rejects.toMatchObject(unavailable);
    limit('unlimited');
    // What was asked for stays owed and comes first; so the refused block holds from here on.
    await expect(release()).rejects.toMatchObject({ code: 'device-blocked' });
    await token.unblock(alice.device);
    await release();
  });

  test('a second process on the same state does not start', () => {
    const { status, stdout } = runMain('serve', { ...home.settings, socket: join(home.home, 'other/token.sock') });
    expect(stdout).toContain('token-in-use');
    expect(status).toBe(75);
  });

  test('garbage closes its connection and does nothing else', async () => {
    const frame = (text: string) => Buffer.concat([Buffer.from([0, 0, 0, Buffer.byteLength(text)]), Buffer.from(text)]);
    const garbage = [
      Buffer.from('ffffffff00', 'hex'),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      frame('no head'),
      frame('{}\n{}'),
      frame('{"id":-1,"op":"health"}\n{}'),
      frame('{"id":1,"op":"health","x":1}\n{}'),
    ];
    for (const bytes of garbage) {
      const socket = connect(home.settings.socket);
      const closed = new Promise<string>((done) => {
        let heard = '';
        socket
          .on('data', (chunk) => (heard += chunk))
          .on('error', () => undefined)
          .on('close', () => done(heard));
      });
      socket.write(bytes);
      expect(await closed).toBe('');
    }
    // A body that is none is an answer, since its head is whole.
    const call = (token as unknown as { call(op: string, args: unknown): Promise<unknown> }).call.bind(token);
    await expect(call('release', { $b: 'not base64!' })).rejects.toMatchObject({ code: 'token-ask-malformed' });
    await release();
  });

  test('nobody but its user reaches the socket, and neither arguments nor environment hold the PIN', () => {
    expect(statSync(home.settings.socket).mode & 0o777).toBe(0o600);
    expect(statSync(join(home.home, 'run')).mode & 0o777).toBe(0o700);
    const pin = readFileSync(home.settings.pinFile, 'utf8').trim();
    expect(pin).toHaveLength(43);
    for (const file of ['cmdline', 'environ']) expect(readFileSync(`/proc/${token.pid}/${file}`, 'utf8')).not.toContain(pin);
  });

  test('ends with who started it, even when that was killed', async () => {
    const other = initialisedHome();
    const script = `
      const { TokenProcess } = await import(${JSON.stringify(join(DIST, 'src/tokens/token-client.js'))});
      const token = new TokenProcess(${JSON.stringify({ entry: ENTRY, settings: other.settings })});
      await token.start();
      console.log(token.pid);
      setInterval(() => {}, 1000);`;
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const pid = Number(await new Promise<string>((done) => parent.stdout.once('data', (chunk: Buffer) => done(chunk.toString()))));
    expect(isAlive(pid)).toBe(true);
    parent.kill('SIGKILL');
    await eventually(() => !isAlive(pid), 10_000);
    other.remove();
  }, 60_000);

  test('a wrong PIN is tried once, at start and when it turns wrong later', async () => {
    const right = readFileSync(home.settings.pinFile);
    writeFileSync(home.settings.pinFile, 'a wrong PIN of no worth\n');
    let before = logins();
    process.kill(token.pid ?? 0, 'SIGKILL');
    await eventually(async () => (await token.health()).state === 'refused', 20_000);
    await new Promise((done) => setTimeout(done, 3000));
    expect(logins()).toBe(before + 1);
    await expect(release()).rejects.toMatchObject({ kind: 'unavailable', code: 'token-refused' });
    await token.stop();

    before = logins();
    token = new TokenProcess({ entry: ENTRY, settings: home.settings });
    await expect(token.start()).rejects.toMatchObject({ kind: 'misconfigured', code: 'pin-refused' });
    expect(logins()).toBe(before + 1);
    expect(runMain('serve', home.settings)).toMatchObject({ status: 78, signal: null });
    writeFileSync(home.settings.pinFile, right);
    token = new TokenProcess({ entry: ENTRY, settings: home.settings });
    await token.start();
    await release();
  }, 60_000);

  test('a token that comes back with another PIN is tried once, and never again by itself', async () => {
    const other = initialisedHome();
    const [ours, away] = [join(home.home, 'token'), join(home.home, 'token-away')];
    renameSync(ours, away);
    await eventually(async () => (await token.health()).state === 'down', 10_000);
    const before = logins();
    renameSync(join(other.home, 'token'), ours);
    await eventually(async () => (await token.health()).state === 'refused', 20_000);
    renameSync(ours, join(other.home, 'token'));
    renameSync(away, ours);
    await new Promise((done) => setTimeout(done, 3000));
    expect(logins()).toBe(before + 1);
    await expect(release()).rejects.toMatchObject({ kind: 'unavailable', code: 'token-refused' });
    await token.stop();
    token = new TokenProcess({ entry: ENTRY, settings: home.settings });
    await token.start();
    await release();
    other.remove();
  }, 60_000);

  test('says in one sentence what is missing at start', async () => {
    await token.stop();
    const cases: [object, number, string][] = [
      [{ module: '/nowhere/libpkcs11.so' }, 69, 'module-missing'],
      [{ module: '/etc/passwd' }, 69, 'module-missing'],
      [{ label: 'another' }, 69, 'token-missing'],
      [{ pinFile: '/nowhere/pin' }, 78, 'pin-missing'],
      [{ profile: 'nowhere' }, 78, 'token-profile'],
      [{ state: '/nowhere' }, 78, 'token-state-missing'],
      [{ label: '', workers: 0 }, 78, 'token-settings'],
    ];
    for (const [change, status, code] of cases) {
      const ended = runMain('serve', { ...home.settings, ...change });
      expect([ended.status, code, ended.stdout]).toEqual([status, code, expect.stringContaining(`"code":"${code}"`)]);
      expect(ended.stderr.trim().split('\n')).toHaveLength(1);
    }
    const journal = join(home.settings.state, 'journal');
    renameSync(journal, `${journal}.away`);
    expect(runMain('serve', home.settings)).toMatchObject({ status: 78, stdout: expect.stringContaining('journal-missing') });
    renameSync(`${journal}.away`, journal);
  }, 60_000);
});
