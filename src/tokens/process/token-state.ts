import { spawnSync } from 'node:child_process';
import { existsSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, Fault } from '../../foundation/index.js';
import { type AuthorityCertificates, firstAuthorities } from '../authorities.js';
import type { SigningKeyName } from '../hsm.js';
import { Journal } from '../journal.js';
import type { Serving } from '../pkcs11/token-keys.js';
import { AUTHORITY_NAMES, type Authority } from '../token.js';
import { syncFolders, writeDurably } from './install-token.js';

const AUTHORITY_FILES = {
  root: 'root.der',
  people: 'people.der',
  devices: 'devices.der',
  infrastructure: 'infrastructure.der',
  delivery: 'delivery.der',
} as const;
export const JOURNAL_FILE = 'journal';
export const CANARY_FILE = 'canary';
/** docs/formats/custody-package.md; only where there was a ceremony with custodians. */
export const CUSTODY_FILE = 'custody.json';

/** There while `ekms token restore` is at work: no process begins with such a token. */
export const RESTORING_FILE = 'restoring';

/** What the mark of a restore that was cut off says; undefined where there is none. */
export function unfinishedRestore(state: string): string | undefined {
  const path = join(state, RESTORING_FILE);
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}

/** The restore is done: from now on the token may be started. */
export function endRestore(state: string): void {
  rmSync(join(state, RESTORING_FILE));
  syncFolders([join(state, RESTORING_FILE)]);
}

/** The token process's own folder, outside the database: what `init` wrote, and the journal. */
export interface TokenState {
  canary: Buffer;
  authorities: AuthorityCertificates;
  journal: Journal;
}

/** Which signing keys serve, and under which certificates. */
export interface KeysInForce {
  serving: Serving;
  authorities: AuthorityCertificates;
  /** Every generation of the authorities; of one name the oldest first. */
  generations: Authority[];
}

/** The keys of the beginning, and those that took over from them since. */
export function keysInForce({ authorities, journal }: Pick<TokenState, 'authorities' | 'journal'>): KeysInForce {
  const certificates = { ...authorities };
  const serving: Partial<Record<SigningKeyName, number>> = {};
  const generations = firstAuthorities(authorities);
  for (const { name, n, certificate } of journal.successions) {
    serving[name] = n;
    if (certificate && name in certificates) certificates[name as keyof AuthorityCertificates] = certificate; // one of them, by the line above
    const authority = AUTHORITY_NAMES.find((each) => each === name);
    if (certificate && authority) generations.push({ name: authority, n, certificate, state: 'serving' });
  }
  const isRetired = (name: string, n: number) => journal.retiredAuthorities.some((each) => each.name === name && each.n === n);
  for (const each of generations)
    if ((serving[each.name] ?? 1) !== each.n) each.state = isRetired(each.name, each.n) ? 'retired' : 'former';
  return { serving, authorities: certificates, generations };
}

/** What a new token's folder begins with, besides its journal. */
export function writeState(folder: string, canary: Buffer, certificates: AuthorityCertificates): void {
  writeDurably(join(folder, CANARY_FILE), canary);
  // The cast: Object.entries forgets that the names are the table's.
  for (const [authority, file] of Object.entries(AUTHORITY_FILES) as [keyof AuthorityCertificates, string][])
    writeDurably(join(folder, file), certificates[authority]);
}

/** A file of the state folder, whole or as it was, whenever this process ends. */
export function replaceState(folder: string, name: string, content: Buffer): void {
  const path = join(folder, name);
  rmSync(`${path}.new`, { force: true });
  writeDurably(`${path}.new`, content);
  renameSync(`${path}.new`, path);
  syncFolders([path]);
}

/** Throws Fault `token-state-missing`, `restore-unfinished`, `token-in-use`, `journal-missing`, `journal-damaged`. */
export async function openTokenState(folder: string, clock: Clock): Promise<TokenState> {
  const read = (name: string): Buffer => {
    try {
      return readFileSync(join(folder, name));
    } catch {
      throw new Fault(
        'misconfigured',
        'token-state-missing',
        `${join(folder, name)} cannot be read: run "ekms init", or put the folder back from where it is kept`,
      );
    }
  };
  const authorities = Object.fromEntries(
    Object.entries(AUTHORITY_FILES).map(([name, file]) => [name, read(file)]),
  ) as AuthorityCertificates; // one per name
  const canary = read(CANARY_FILE);
  if (unfinishedRestore(folder) !== undefined)
    throw new Fault(
      'misconfigured',
      'restore-unfinished',
      'this token is half restored: say ekms token restore again as you did, then start it',
    );
  lockState(folder);
  return { canary, authorities, journal: await Journal.open(join(folder, JOURNAL_FILE), clock) };
}

/**
 * Two processes on one journal would give a number out twice. flock(1) locks the open file description that it inherits; ours stays open
 * for as long as this process lives, and the kernel lets go of it however that ends.
 */
export function lockState(folder: string): void {
  const fd = openSync(join(folder, 'lock'), 'a', 0o600);
  const { status, error } = spawnSync('flock', ['--nonblock', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
  if (error) throw new Fault('misconfigured', 'flock-missing', 'the program flock (util-linux) is missing: install it');
  if (status !== 0) throw new Fault('unavailable', 'token-in-use', `another token process works with ${folder}`, 1);
}
