import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { Fault } from '../../foundation/index.js';
import { Pkcs11Module } from '../pkcs11/module.js';
import { syncFolders, writeDurably } from './install-token.js';
import { readPin, settingsShape, type TokenSettings } from './settings.js';
import { lockState } from './token-state.js';

const shape = z.strictObject({
  token: settingsShape.extend({ pinFile: z.string().startsWith('/') }),
  /** Where the new PIN goes, when the file of the present one cannot be written: it is sealed by systemd-creds. */
  newPinFile: z.string().startsWith('/').optional(),
});

/** SoftHSM's own file of a token, which holds its PIN and which it writes in place. */
const TOKEN_FILE = 'token.object';
/** In the folder of copies, once they are whole: path of the new PIN's file. */
const TARGET = 'target';
const next = (pinFile: string): string => `${pinFile}.next`;
const copies = (state: string): string => join(state, 'pin-change');

/**
 * Gives the token a new PIN while no token process serves. In every moment the file of the present PIN opens the token, or `settlePin` puts back what it
 * opens: the new PIN lies on the disk before the token knows it, and SoftHSM's own file, which a crash could leave half written, is copied first.
 * Throws `token-in-use`, `pin-file`.
 */
export function changePin(value: unknown): void {
  const known = shape.safeParse(value);
  if (!known.success) throw new Fault('misconfigured', 'token-settings', 'the settings of a change of PIN do not fit');
  const { token, newPinFile } = known.data;
  process.umask(0o077);
  lockState(token.state);
  settlePin(token);
  const pin = readPin(token.pinFile);
  const target = newPinFile ?? next(token.pinFile);
  if (newPinFile !== undefined && existsSync(newPinFile))
    throw new Fault('conflict', 'pin-file', `${newPinFile} exists: a PIN is written into a new file. Nothing was changed`);
  const fresh = randomBytes(32).toString('base64url');
  const tokenFiles = softHsmFiles(token);
  const folder = copies(token.state);
  mkdirSync(folder, { mode: 0o700 });
  for (const path of tokenFiles) writeDurably(copyOf(folder, path), readFileSync(path));
  writeDurably(join(folder, TARGET), target);
  syncFolders([folder, join(folder, TARGET)]);
  writeDurably(target, `${fresh}\n`);
  syncFolders([target]);
  if (token.softhsmConfig) process.env['SOFTHSM2_CONF'] = token.softhsmConfig;
  const module = new Pkcs11Module(token.module);
  try {
    const session = module.openSession(token.label);
    session.login(pin);
    session.changePin(pin, fresh);
    session.logout();
    // Opens by the new one alone: the login before has ended.
    session.login(fresh);
    session.close();
  } finally {
    module.finalise();
  }
  for (const path of tokenFiles) sync(path);
  if (newPinFile === undefined) renameSync(target, token.pinFile);
  syncFolders([token.pinFile, target]);
  forget(folder);
}

/** What a change that was cut off left: undone, unless the file of the PIN is the new one already. Before any login. */
export function settlePin(token: Pick<TokenSettings, 'pinFile' | 'state' | 'softhsmConfig'>): void {
  const folder = copies(token.state);
  if (!existsSync(folder)) return;
  // Without it nothing else was begun.
  const target = existsSync(join(folder, TARGET)) ? readFileSync(join(folder, TARGET), 'utf8') : undefined;
  if (target === undefined || (token.pinFile !== undefined && target === next(token.pinFile) && !existsSync(target))) {
    forget(folder);
    return;
  }
  const tokenFiles = softHsmFiles(token).filter((path) => existsSync(copyOf(folder, path)));
  if (tokenFiles.length === 0) {
    // A PIN that is wrong is never tried by itself: tokens of the better sort count.
    process.stderr.write(`a change of PIN was cut off: if the token refuses its PIN, the new one is in ${target}; remove ${folder} then\n`);
    return;
  }
  for (const path of tokenFiles) {
    rmSync(`${path}.new`, { force: true });
    writeDurably(`${path}.new`, readFileSync(copyOf(folder, path)));
    renameSync(`${path}.new`, path);
    syncFolders([path]);
  }
  rmSync(target, { force: true });
  forget(folder);
}

/** At once, so that half a folder of copies is never taken for a change that was cut. */
function forget(folder: string): void {
  rmSync(`${folder}.done`, { recursive: true, force: true });
  renameSync(folder, `${folder}.done`);
  rmSync(`${folder}.done`, { recursive: true, force: true });
}

/** Of every token in SoftHSM's folder; a crash may have taken from ours what would tell which it is. */
function softHsmFiles({ softhsmConfig }: Pick<TokenSettings, 'softhsmConfig'>): string[] {
  if (softhsmConfig === undefined) return [];
  const folder = /^directories\.tokendir\s*=\s*(.+)$/m.exec(readFileSync(softhsmConfig, 'utf8'))?.[1]?.trim() ?? '';
  return readdirSync(folder)
    .map((name) => join(folder, name, TOKEN_FILE))
    .filter((path) => existsSync(path));
}

const copyOf = (folder: string, path: string): string => join(folder, basename(dirname(path)));

function sync(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
