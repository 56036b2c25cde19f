import { execFile, execFileSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfiguration } from '../../dist/src/configuration/index.js';
import { root } from './home.mjs';

/**
 * Compiles bench/token-loop.c and returns what runs it: the calls of one release, over and over, on the token of `home` with the blob and the
 * delivery key of one ask. `loop('rewrap' | 'release', sessions, seconds)` resolves with releases per second.
 */
export async function cLoop(home, ask) {
  const folder = join(home, 'c-loop');
  mkdirSync(folder, { recursive: true });
  const file = (name) => join(folder, name);
  const flags = ['-std=c11', '-D_DEFAULT_SOURCE', '-O2', '-Wall', '-Wextra', '-I', join(root, 'node_modules/pkcs11js/includes')];
  execFileSync('cc', [...flags, '-o', file('token-loop'), join(root, 'bench/token-loop.c'), '-ldl', '-pthread']);
  writeFileSync(file('blob'), ask.blob.wrapped);
  const { n } = createPublicKey({ key: ask.device.deliveryKey, format: 'der', type: 'spki' }).export({ format: 'jwk' });
  writeFileSync(file('modulus'), Buffer.from(n, 'base64url'));
  const { module, label, pinFile } = loadConfiguration(home).token;
  const pin = readFileSync(pinFile, 'utf8').split(/\r?\n/, 1)[0];
  const env = { ...process.env, SOFTHSM2_CONF: join(home, 'softhsm2.conf') };
  return (what, sessions, seconds) =>
    new Promise((resolve, reject) => {
      const args = [module, label, `ekms/kek/${ask.key.record.kek}`, file('blob'), file('modulus'), seconds, sessions, what].map(String);
      const child = execFile(file('token-loop'), args, { env }, (error, stdout, stderr) => {
        if (error) reject(new Error(`token-loop: ${stderr}`));
        else resolve(Number(/rate=([\d.]+)/.exec(stdout)?.[1]));
      });
      child.stdin.end(pin);
    });
}
