import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { Fault, SystemClock } from '../../foundation/index.js';
import { type AuthorityCertificates, makeAuthorities } from '../authorities.js';
import { Journal } from '../journal.js';
import { initialiseToken } from '../pkcs11/ceremony.js';
import { Pkcs11Module } from '../pkcs11/module.js';
import { Pkcs11Hsm } from '../pkcs11/pkcs11-hsm.js';
import { loadProfile } from '../pkcs11/profile.js';
import { settingsShape } from './settings.js';
import { AUTHORITY_FILES, CANARY_FILE, JOURNAL_FILE } from './token-state.js';

const urls = z.strictObject({ crl: z.string(), issuer: z.string() });
const shape = z.strictObject({
  /** The PIN is made here, so its place must be named. */
  token: settingsShape.extend({ pinFile: z.string().startsWith('/') }),
  /** Folder for SoftHSM's tokens, to be made together with `token.softhsmConfig`. Absent: the module is ready to make a token. */
  softhsmTokens: z.string().startsWith('/').optional(),
  /** Program that makes the KEK with its unwrap template (native/build.sh). */
  kekHelper: z.string().startsWith('/'),
  authorities: z.enum(['p384', 'rsa4096']).default('p384'),
  organisation: z.string().min(1),
  domains: z.array(z.string().min(1)).min(1),
  publicName: z.string().min(1),
  urls: z.strictObject({ root: urls, people: urls, devices: urls, infrastructure: urls }),
});
export type InitSettings = z.output<typeof shape>;
export type InitSettingsInput = z.input<typeof shape>;

/** Throws Fault `token-settings`, with every path and reason at once. */
export function parseInitSettings(value: unknown): InitSettings {
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  const reasons = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'all'}: ${issue.message}`);
  throw new Fault('misconfigured', 'token-settings', `settings of init: ${reasons.join('; ')}`);
}

/**
 * Makes the token, the authorities and the folder that the token process keeps beside it. Everything is made under a temporary name and renamed
 * at the end, the state folder last: while that is not there, nothing has been initialised, and what an attempt left that was cut in between is
 * set aside by the next. A token in a module of its own may be left over after a failure; the message says how to remove it.
 */
export async function initialise(settings: InitSettings): Promise<AuthorityCertificates> {
  process.umask(0o077);
  const { token } = settings;
  const finals = [token.state, token.pinFile, ...(settings.softhsmTokens ? [settings.softhsmTokens] : [])];
  const fresh = (path: string) => `${path}.new`;
  // Only an init that was cut leaves the new state folder behind. What it had put in place already has never been used.
  const cut = !existsSync(token.state) && existsSync(fresh(token.state));
  for (const path of finals)
    if (existsSync(path) && !cut)
      throw new Fault('conflict', 'already-initialised', `${path} exists: a token has been made here. Nothing was changed`);
  // Set aside all the same, for a token is never deleted on an inference.
  for (const path of cut ? finals.filter((each) => existsSync(each)) : []) renameSync(path, `${path}.cut-${Date.now()}`);
  for (const path of finals.map(fresh).reverse()) rmSync(path, { recursive: true, force: true });
  for (const path of finals) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    if (settings.softhsmTokens) useSoftHsm(fresh(settings.softhsmTokens), join(fresh(settings.softhsmTokens), 'softhsm2.conf'));
    else if (token.softhsmConfig) process.env['SOFTHSM2_CONF'] = token.softhsmConfig;
    const pin = randomBytes(32).toString('base64url');
    writeDurably(fresh(token.pinFile), `${pin}\n`);
    const certificates = await makeToken(settings, pin, fresh(token.state));
    if (settings.softhsmTokens && token.softhsmConfig) {
      rmSync(join(fresh(settings.softhsmTokens), 'softhsm2.conf'));
      rmSync(token.softhsmConfig, { force: true });
      writeDurably(token.softhsmConfig, softHsmConfig(settings.softhsmTokens));
      renameSync(fresh(settings.softhsmTokens), settings.softhsmTokens);
    }
    renameSync(fresh(token.pinFile), token.pinFile);
    renameSync(fresh(token.state), token.state);
    syncFolders(finals);
    return certificates;
  } catch (error) {
    for (const path of finals) rmSync(fresh(path), { recursive: true, force: true });
    throw error;
  }
}

async function makeToken(settings: InitSettings, pin: string, state: string): Promise<AuthorityCertificates> {
  const { label, module: path, profiles, profile: name } = settings.token;
  const profile = loadProfile(profiles, name);
  const module = new Pkcs11Module(path);
  try {
    // The security officer's PIN is of no use after this and is forgotten here.
    const soPin = randomBytes(32).toString('base64url');
    const { canary } = initialiseToken(
      { module, label, profile, kekHelper: settings.kekHelper, authorities: settings.authorities },
      pin,
      soPin,
    );
    const hsm = new Pkcs11Hsm(module, { label, profile, canary }, pin);
    const certificates = await makeAuthorities(hsm, settings, new SystemClock().now());
    mkdirSync(state, { mode: 0o700 });
    writeDurably(join(state, CANARY_FILE), canary);
    // The cast: Object.entries forgets that the names are the table's.
    for (const [authority, file] of Object.entries(AUTHORITY_FILES) as [keyof AuthorityCertificates, string][])
      writeDurably(join(state, file), certificates[authority]);
    Journal.create(join(state, JOURNAL_FILE));
    return certificates;
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

function writeDurably(path: string, content: string | Buffer): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    writeSync(fd, Buffer.from(content));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function syncFolders(paths: string[]): void {
  for (const path of new Set(paths.map((each) => dirname(each)))) {
    const fd = openSync(path, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}
