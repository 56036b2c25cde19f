import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runInThisContext } from 'node:vm';
import { initialiseToken } from '../../src/tokens/pkcs11/ceremony.js';
import { Pkcs11Module } from '../../src/tokens/pkcs11/module.js';
import { Pkcs11Hsm } from '../../src/tokens/pkcs11/pkcs11-hsm.js';
import { loadProfile, type TokenProfile } from '../../src/tokens/pkcs11/profile.js';
import type { AuthorityKind } from '../../src/tokens/signing-keys.js';

export const SOFTHSM = '/usr/lib/softhsm/libsofthsm2.so';
export const PROFILES = join(__dirname, '../../deploy/token-profiles');
const NATIVE = join(__dirname, '../../native');
export const KEK_HELPER = join(__dirname, '../../dist/native/ekms-kek');

/** Says so when it is not: a test that was left out must not look like one that passed. */
export function softHsmIsHere(): boolean {
  const here = existsSync(SOFTHSM);
  if (!here)
    process.stderr.write(`SKIPPED: ${SOFTHSM} is missing (apt-get install softhsm2); nothing is tested on a real PKCS#11 module\n`);
  return here;
}

/** Jest gives each test file a copy of `process.env`, which C code never sees; this is the real one. */
export function setRealEnv(name: string, value: string): void {
  // runInThisContext answers with this program's own process object.
  (runInThisContext('process') as NodeJS.Process).env[name] = value;
  process.env[name] = value;
}

export interface SoftHsm {
  module: Pkcs11Module;
  profile: TokenProfile;
  label: string;
  pin: string;
  canary: Buffer;
  /** SOFTHSM2_CONF, for child processes. */
  configuration: string;
  /** A new session, logged in. */
  open(): Pkcs11Hsm;
  /** Moves the token's folder away, and back. */
  hide(): void;
  unhide(): void;
  /** Finalises the module and deletes the folder. */
  remove(): void;
}

/** A SoftHSM token of EKMS in a folder of its own. One at a time per process: SoftHSM reads its configuration once. */
export function openSoftHsm(options: { authorities?: AuthorityKind; unwrapTemplate?: boolean } = {}): SoftHsm {
  if (!existsSync(KEK_HELPER) || statSync(KEK_HELPER).mtimeMs < statSync(join(NATIVE, 'kek.c')).mtimeMs)
    execFileSync(join(NATIVE, 'build.sh'));
  const folder = mkdtempSync(join(tmpdir(), 'ekms-softhsm-'));
  const tokens = join(folder, 'token');
  const configuration = join(folder, 'softhsm2.conf');
  mkdirSync(tokens, { mode: 0o700 });
  writeFileSync(
    configuration,
    `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`,
  );
  setRealEnv('SOFTHSM2_CONF', configuration);
  const base = loadProfile(PROFILES, 'softhsm');
  const profile = { ...base, quirks: { ...base.quirks, unwrapTemplate: options.unwrapTemplate ?? true } };
  const module = new Pkcs11Module(SOFTHSM);
  const [label, pin] = ['ekms-test', 'a test PIN of no worth'];
  const ceremony = { module, label, profile, kekHelper: KEK_HELPER, authorities: options.authorities ?? 'p384' };
  const { canary } = initialiseToken(ceremony, pin, 'a test SO PIN of no worth');
  return {
    module,
    profile,
    label,
    pin,
    canary,
    configuration,
    open: () => new Pkcs11Hsm(module, { label, profile, canary }, pin),
    hide: () => renameSync(tokens, `${tokens}-away`),
    unhide: () => renameSync(`${tokens}-away`, tokens),
    remove: () => {
      module.finalise();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
