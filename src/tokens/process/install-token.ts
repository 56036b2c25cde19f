import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Fault } from '../../foundation/index.js';
import { Pkcs11Module } from '../pkcs11/module.js';
import { loadProfile, type TokenProfile } from '../pkcs11/profile.js';
import type { TokenSettings } from './settings.js';

/** Where a token is to be made. */
export interface Site {
  token: TokenSettings & { pinFile: string };
  /** Folder for SoftHSM's tokens, to be made together with `token.softhsmConfig`. Absent: the module is ready to make a token. */
  softhsmTokens?: string | undefined;
  /**
   * A file in the state folder: while it is there, no process has begun with the token. While it says the same, places included, the token is half of what this very act makes,
   * and goes when the act is told again.
   */
  unfinished?: { file: string; says: string } | undefined;
}

export interface FreshToken {
  module: Pkcs11Module;
  profile: TokenProfile;
  pin: string;
  soPin: string;
  /** Folder of the token process's state under its temporary name; to be made and filled. */
  state: string;
}

/**
 * Makes a token and the folder that the token process keeps beside it. Everything is made under a temporary name and renamed at the end, the
 * state folder last: while that is not there, nothing has been initialised, and what an attempt left that was cut in between is set aside by the next. A token in a module of its own may be left over after a failure;
 * the message says how to remove it. Throws `already-initialised`, and `restore-unfinished` where another act than this was cut off.
 */
export async function installToken<T>({ token, softhsmTokens, unfinished }: Site, fill: (fresh: FreshToken) => Promise<T>): Promise<T> {
  process.umask(0o077);
  const finals = [token.state, token.pinFile, ...(softhsmTokens ? [softhsmTokens] : [])];
  const fresh = (path: string) => `${path}.new`;
  if (unfinished && isCut(token.state, unfinished)) {
    // The state folder, which says so, last, and what it says with it: by one rename.
    for (const path of finals.filter((each) => each !== token.state)) rmSync(path, { recursive: true, force: true });
    rmSync(fresh(token.state), { recursive: true, force: true });
    renameSync(token.state, fresh(token.state));
  }
  // Only an attempt that was cut leaves the new state folder behind. What it had put in place already has never been used.
  const cut = !existsSync(token.state) && (unfinished ? isCut(fresh(token.state), unfinished) : existsSync(fresh(token.state)));
  for (const path of finals)
    if (existsSync(path) && !cut)
      throw new Fault('conflict', 'already-initialised', `${path} exists: a token has been made here. Nothing was changed`);
  // Set aside all the same, for a token is never deleted on an inference.
  for (const path of cut ? finals.filter((each) => existsSync(each)) : []) renameSync(path, `${path}.cut-${Date.now()}`);
  for (const path of finals.map(fresh).reverse()) rmSync(path, { recursive: true, force: true });
  for (const path of finals) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    if (softhsmTokens) useSoftHsm(fresh(softhsmTokens), join(fresh(softhsmTokens), 'softhsm2.conf'));
    else if (token.softhsmConfig) process.env['SOFTHSM2_CONF'] = token.softhsmConfig;
    const pin = randomBytes(32).toString('base64url');
    writeDurably(fresh(token.pinFile), `${pin}\n`);
    const made = await withModule(token, pin, fresh(token.state), fill);
    if (softhsmTokens && token.softhsmConfig) {
      rmSync(join(fresh(softhsmTokens), 'softhsm2.conf'));
      rmSync(token.softhsmConfig, { force: true });
      writeDurably(token.softhsmConfig, softHsmConfig(softhsmTokens));
      renameSync(fresh(softhsmTokens), softhsmTokens);
    }
    renameSync(fresh(token.pinFile), token.pinFile);
    renameSync(fresh(token.state), token.state);
    syncFolders(finals);
    return made;
  } catch (error) {
    for (const path of finals) rmSync(fresh(path), { recursive: true, force: true });
    throw error;
  }
}

/** Whether this folder is half of what this very act makes. Of another one nothing is touched: its places are not known here. */
function isCut(state: string, { file, says }: { file: string; says: string }): boolean {
  const mark = join(state, file);
  if (!existsSync(mark)) return false;
  const said = readFileSync(mark, 'utf8');
  if (said === says) return true;
  throw new Fault(
    'conflict',
    'restore-unfinished',
    `${state} is half of another restore (${said}): say that one again as it was, or move the folder and what else it made away. Nothing was changed`,
  );
}

async function withModule<T>(token: TokenSettings, pin: string, state: string, fill: (fresh: FreshToken) => Promise<T>): Promise<T> {
  const profile = loadProfile(token.profiles, token.profile);
  const module = new Pkcs11Module(token.module);
  try {
    // The security officer's PIN is of no use after this and is forgotten here.
    return await fill({ module, profile, pin, soPin: randomBytes(32).toString('base64url'), state });
  } finally {
    module.finalise();
  }
}

function useSoftHsm(tokens: string, config: string): void {
  mkdirSync(tokens, { mode: 0o700 });
  writeDurably(config, softHsmConfig(tokens));
  process.env['SOFTHSM2_CONF'] = config;
}

const softHsmConfig = (tokens: string): string =>
  `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\nslots.mechanisms = ALL\n`;

/**
 * A new file, on the disk when this returns. The token process writes by itself, in one thread and in order, and knows no other room: what `replaceFile`
 * of storage is to the API, this and a rename are here.
 */
export function writeDurably(path: string, content: string | Buffer): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    writeFileSync(fd, content); // all of it: a write on a disk that fills up may take only a part
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

export function syncFolders(paths: string[]): void {
  for (const path of new Set(paths.map((each) => dirname(each)))) {
    const fd = openSync(path, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}
