import { realpathSync, rmSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { z } from 'zod';
import type { RowSeal } from '../access/index.js';
import { type AuditActor, type AuditLog, base64url, Fault, fromBase64, type Storage, type Unit } from '../foundation/index.js';
import { type Backups, recall, remember } from './backups.js';

/** In `settings`: a switch to another token whose entry is not written yet. */
const SWITCHED_TOKEN = 'custody.token-migration';
/** In `settings`: the token that was left, until two persons destroy it. */
const FORMER_TOKEN = 'custody.former-token';

const placeShape = z.strictObject({
  label: z.string(),
  module: z.string(),
  profile: z.string(),
  /** Files and folders that are this token's alone. */
  paths: z.array(z.string()),
});
/** A token that the appliance works with, or worked with. */
export type Place = z.output<typeof placeShape>;

const switchShape = z.strictObject({
  from: placeShape,
  /** Label of the token that took over. */
  to: z.string(),
  /** What was opened under it. */
  keys: z.int(),
  pairs: z.int(),
  /** Milliseconds since 1970. */
  time: z.int(),
});
export type Switch = z.output<typeof switchShape>;

interface Log {
  storage: Storage;
  audit: AuditLog;
  seal: RowSeal;
}

/** Before the switch itself. Its MAC says that the appliance wrote it: files are deleted by its word. */
export const rememberSwitch = (unit: Unit, seal: RowSeal, done: Switch): Promise<void> => keep(unit, seal, SWITCHED_TOKEN, done);

/**
 * The token that a migration left and nobody has destroyed yet, where one was left. Throws `former-token-forged`.
 * @param label of the token that is worked with now
 */
export async function formerToken({ storage, seal }: Pick<Log, 'storage' | 'seal'>, label: string): Promise<Switch | undefined> {
  const unsettled = await read(storage, seal, SWITCHED_TOKEN);
  return unsettled?.to === label ? unsettled : read(storage, seal, FORMER_TOKEN);
}

/** A restored token lies where the former one of its backup lay: what the backup says of that one is not true here. */
export const forgetFormer = (storage: Storage): Promise<unknown> =>
  storage.write((unit) => unit.run('DELETE FROM settings WHERE name IN (?, ?)', [FORMER_TOKEN, SWITCHED_TOKEN]));

const keep = (unit: Unit, seal: RowSeal, name: string, done: Switch): Promise<void> =>
  remember(unit, name, { ...done, mac: base64url(seal.mac('former_token', done)) });

async function read(storage: Storage, seal: RowSeal, name: string): Promise<Switch | undefined> {
  const row = await recall<object>(storage, name);
  if (!row) return undefined;
  const { mac, ...said } = row as { mac?: unknown };
  const done = switchShape.safeParse(said).data;
  if (!done || !seal.holds('former_token', done, fromBase64(String(mac), 'base64url') ?? Buffer.alloc(0)))
    throw new Fault(
      'forbidden',
      'former-token-forged',
      `the row ${name} of settings was not written by this appliance: nothing is deleted by its word. Find out who wrote it, then delete that row`,
    );
  return done;
}

/** One of the former token's files is one of these, lies in one or has one in it; or both are one slot of a device. */
export function isInService(former: Place, present: Place): boolean {
  if (former.profile !== 'softhsm' && former.label === present.label && former.module === present.module) return true;
  const needed = present.paths.flatMap(names);
  return former.paths.flatMap(names).some((path) => needed.some((each) => isWithin(path, each) || isWithin(each, path)));
}

/** A path as it is said, and where it leads. */
const names = (path: string): string[] => [resolve(path), real(resolve(path))];

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path === dirname(path) ? path : join(real(dirname(path)), basename(path));
  }
}

function isWithin(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

/** Labels are an operator's words; an entry takes only some of their letters. */
const word = (label: string): string => label.replaceAll(/[^A-Za-z0-9._-]/g, '_');

/**
 * Writes the entry about a switch, if one was made and is not written. Resolves with it.
 * @param label of the token that is worked with now
 */
export async function settleMigration({ storage, audit, seal }: Log, label: string, by: AuditActor): Promise<Switch | undefined> {
  const done = await read(storage, seal, SWITCHED_TOKEN);
  // Cut before the configuration was switched: nothing has happened yet.
  if (done?.to !== label) return undefined;
  await storage.write(async (unit) => {
    await unit.run('DELETE FROM settings WHERE name = ?', [SWITCHED_TOKEN]);
    await keep(unit, seal, FORMER_TOKEN, done);
    const facts = { from: word(done.from.label), to: word(done.to), keys: done.keys, pairs: done.pairs };
    await audit.append(unit, { action: 'token.migrate', outcome: 'done', actor: by, facts });
  });
  return done;
}

/**
 * Destroys the token that was left, once a backup was made since and read from end to end. Throws `no-former-token`, `backup-older`, `former-token-forged`, and
 * `former-in-service`: whoever put back an older ekms.yaml works with it again.
 * @param present the token that is worked with now, with all that must not be deleted
 */
export async function destroyFormer(
  { storage, audit, seal, backups, present }: Log & { backups: Pick<Backups, 'list' | 'verify'>; present: Place },
  by: AuditActor,
): Promise<{ destroyed: string; byHand?: string }> {
  const former = await read(storage, seal, FORMER_TOKEN);
  if (!former) throw new Fault('not-found', 'no-former-token', 'no token was left by a migration');
  if (isInService(former.from, present))
    throw new Fault(
      'conflict',
      'former-in-service',
      `the appliance works with the files of the token ${former.from.label} now: nothing was destroyed`,
    );
  const [newest] = await backups.list();
  const backup = newest && (await backups.verify(newest.file));
  if (!backup || Date.parse(backup.created) < former.time)
    throw new Fault('conflict', 'backup-older', 'make a backup first: the newest was made before the appliance moved to its present token');
  const { label, profile, paths } = former.from;
  for (const path of paths) rmSync(path, { recursive: true, force: true });
  await storage.write(async (unit) => {
    await unit.run('DELETE FROM settings WHERE name = ?', [FORMER_TOKEN]);
    await audit.append(unit, { action: 'token.destroy', outcome: 'done', actor: by, facts: { label: word(label) } });
  });
  if (profile === 'softhsm') return { destroyed: label };
  return { destroyed: label, byHand: `reset the token ${label} by its vendor’s tool: its keys are still in it` };
}
