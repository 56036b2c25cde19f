import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { createPublicKey, verify, X509Certificate } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { openCheckpoint, toBase64, verifyByWebCrypto } from '../../src/codec/merkle/index.js';
import { sha256 } from '../../src/foundation/index.js';
import { auditNoteKey } from '../../src/tokens/index.js';
import { TokenProcess } from '../../src/tokens/token-client.js';
import { ENTRY, runMain, type TokenHome, tokenHome } from './process-house.js';

const everything = (folder: string) => (readdirSync(folder, { recursive: true }) as string[]).sort();

describe('init of the token', () => {
  let home: TokenHome;
  beforeEach(() => {
    home = tokenHome();
  });
  afterEach(() => home.remove());

  test('makes token, PIN, authorities and journal, readable by their user alone, and refuses to make them again', () => {
    expect(runMain('init', home.init)).toMatchObject({ status: 0, stdout: 'ready\n', stderr: '' });
    const names = readdirSync(home.settings.state).sort();
    expect(names).toEqual(['canary', 'delivery.der', 'devices.der', 'infrastructure.der', 'journal', 'people.der', 'root.der']);
    for (const name of everything(home.home)) {
      const { mode } = statSync(join(home.home, name));
      expect([name, mode & 0o077]).toEqual([name, 0]);
    }
    const root = new X509Certificate(readFileSync(join(home.settings.state, 'root.der')));
    expect(root.verify(root.publicKey)).toBe(true);

    const before = everything(home.home);
    const again = runMain('init', home.init);
    expect(again).toMatchObject({ status: 78, stdout: expect.stringContaining('already-initialised') });
    expect(everything(home.home)).toEqual(before);
  });

  test('the PIN opens the token, is random, and is nowhere but in its file', () => {
    runMain('init', home.init);
    const pin = readFileSync(home.settings.pinFile, 'utf8').trim();
    expect(Buffer.from(pin, 'base64url')).toHaveLength(32);
    const env = { ...process.env, SOFTHSM2_CONF: home.settings.softhsmConfig };
    const listed = execFileSync('softhsm2-util', ['--show-slots'], { env, encoding: 'utf8' });
    expect(listed).toMatch(/Label:\s+ekms/);
    for (const name of everything(home.home)) {
      const path = join(home.home, name);
      if (path !== home.settings.pinFile && statSync(path).isFile()) expect(readFileSync(path).includes(pin)).toBe(false);
    }
  });

  test('leaves nothing half made when it fails, and nothing of an attempt that was killed stands in the way', () => {
    for (const change of [{ kekHelper: '/bin/false' }, { domains: [] }, { token: { ...home.settings, module: '/nowhere.so' } }]) {
      const failed = runMain('init', { ...home.init, ...change });
      expect(failed.status).toBeGreaterThan(0);
      expect(failed.stderr.trim().split('\n')).toHaveLength(1);
      expect(everything(home.home)).toEqual([]);
    }
    mkdirSync(join(home.home, 'token.new/x'), { recursive: true });
    mkdirSync(join(home.home, 'token-state.new'));
    writeFileSync(join(home.home, 'pin.new'), 'left over');
    expect(runMain('init', home.init).status).toBe(0);
    expect(runMain('serve', { ...home.settings, label: 'another' })).toMatchObject({ status: 69 });
  });

  test('with a token that knows no Ed25519 the log’s heads are signed by ECDSA P-256, note type 2', async () => {
    const profiles = join(home.home, 'profiles');
    mkdirSync(profiles);
    const whole = readFileSync(join(home.settings.profiles, 'softhsm.yaml'), 'utf8');
    writeFileSync(join(profiles, 'plain.yaml'), whole.replace(/^ +(edwardsKeyPairGen|eddsa):.*\n/gm, ''));
    const settings = { ...home.settings, profiles, profile: 'plain' };
    expect(runMain('init', { ...home.init, token: settings })).toMatchObject({ status: 0 });
    const token = new TokenProcess({ entry: ENTRY, settings });
    await token.start();
    try {
      const origin = 'ekms.corp.example/v1/audit';
      const root = toBase64(Buffer.alloc(32, 7));
      const note = await token.signHead({ from: { origin, size: 0, root: '' }, to: { origin, size: 3, root }, proof: [] });
      const { algorithm, publicKey } = await token.signingKey('audit');
      expect(algorithm).toBe('ecdsa-p256-sha256');
      const key = auditNoteKey(origin, { algorithm, publicKey });
      expect(await openCheckpoint((bytes) => sha256(bytes), verifyByWebCrypto, note, key)).toMatchObject({ size: 3 });
      // By c2sp.org/signed-note: origin, key id, signature in base64; the judge is OpenSSL under Node.
      const [text = '', line = ''] = note.split('\n\n');
      const signature = Buffer.from(line.trim().split(' ').at(-1) ?? '', 'base64').subarray(4);
      const spki = createPublicKey({ key: publicKey, format: 'der', type: 'spki' });
      expect(verify('sha256', Buffer.from(`${text}\n`), spki, signature)).toBe(true);
    } finally {
      await token.stop();
    }
  }, 60_000);
});
