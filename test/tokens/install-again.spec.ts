import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import * as installing from '../../src/tokens/process/install-token.js';
import { guardOff } from '../support/guard-off.js';
import { setRealEnv } from '../support/softhsm.js';
import { type TokenHome, tokenHome } from './process-house.js';

/** As `ekms token restore` has it made; what a try that was killed left is laid out by hand. */
describe('a token that was half made when the act was killed', () => {
  const mask = process.umask();
  let home: TokenHome;
  /** What SoftHSM reads here: the variable that the act sets reaches no C code within Jest, and another test's folder is gone. */
  let ambient: string;
  let tokens: string;
  let pin: string;
  let other: string;
  const state = () => home.settings.state;
  const whole = () => ['pin', 'softhsm2.conf', 'token', 'token-state'];
  const names = () => readdirSync(home.home).sort();

  beforeEach(() => {
    ambient = mkdtempSync(join(tmpdir(), 'ekms-ambient-'));
    writeFileSync(join(ambient, 'softhsm2.conf'), `directories.tokendir = ${ambient}\nobjectstore.backend = file\n`);
    setRealEnv('SOFTHSM2_CONF', join(ambient, 'softhsm2.conf'));
    home = tokenHome();
    tokens = join(home.home, 'token');
    pin = home.settings.pinFile;
    other = join(home.home, 'other-pin');
  });
  afterEach(() => {
    home.remove();
    process.umask(mask);
    rmSync(ambient, { recursive: true });
  });

  const install = (pinFile: string, { installToken } = installing) =>
    installToken(
      {
        token: { ...home.settings, workers: 1, waiting: 1, shared: false, pinFile },
        ...{ softhsmTokens: tokens, unfinished: { file: 'restoring', says: `its PIN in ${pinFile}` } },
      },
      async (fresh) => {
        mkdirSync(fresh.state);
        writeFileSync(join(fresh.state, 'restoring'), `its PIN in ${pinFile}`);
        writeFileSync(join(fresh.state, 'canary'), '');
      },
    );

  test('told again with another PIN file nothing is touched; with the guard off that file is gone', async () => {
    await install(pin);
    expect(names()).toEqual(whole());
    writeFileSync(other, 'of another token');
    const before = readFileSync(pin, 'utf8');
    const refused = { code: 'restore-unfinished', message: expect.stringContaining(`its PIN in ${pin}`) };
    await expect(install(other)).rejects.toMatchObject(refused);
    // Killed before the last rename, too.
    renameSync(state(), `${state()}.new`);
    await expect(install(other)).rejects.toMatchObject(refused);
    renameSync(`${state()}.new`, state());
    expect([readFileSync(other, 'utf8'), readFileSync(pin, 'utf8'), names()]).toEqual([
      'of another token',
      before,
      ['other-pin', ...whole()],
    ]);
    const off = guardOff<typeof installing>({
      file: 'src/tokens/process/install-token.ts',
      guard: 'if (said === says) return true;',
      instead: 'return true;',
    });
    await install(other, off);
    expect(readFileSync(other, 'utf8')).not.toBe('of another token');
  });

  test('told again as it was it is made anew, wherever the taking away was killed', async () => {
    await install(pin);
    const kills = [
      () => rmSync(pin),
      () => rmSync(tokens, { recursive: true }),
      () => renameSync(state(), `${state()}.new`),
      () => rmSync(join(`${state()}.new`, 'restoring')),
    ];
    for (const [n] of kills.entries()) {
      for (const kill of kills.slice(0, n + 1)) kill();
      await install(pin);
      expect([names(), readdirSync(state()).sort()]).toEqual([whole(), ['canary', 'restoring']]);
    }
  });

  test('what stood there before, or was put in place and never used, is not deleted', async () => {
    // A folder beside it that a killed try has only begun with is no word on what stands here.
    mkdirSync(`${state()}.new`);
    writeFileSync(pin, 'of another token');
    await expect(install(pin)).rejects.toMatchObject({ code: 'already-initialised' });
    expect(readFileSync(pin, 'utf8')).toBe('of another token');
    rmSync(pin);
    await install(pin);
    const made = readFileSync(pin, 'utf8');
    renameSync(state(), `${state()}.new`);
    await install(pin);
    const aside = names().filter((name) => name.startsWith('pin.cut-'));
    expect(aside.map((name) => readFileSync(join(home.home, name), 'utf8'))).toEqual([made]);
    expect(existsSync(`${state()}.new`)).toBe(false);
  });
});
