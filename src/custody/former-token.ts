import { rmSync } from 'node:fs';
import { type AuditActor, type AuditLog, Fault, type Storage } from '../foundation/index.js';
import { openBackupFile } from './backup-file.js';
import { type Backups, recall, remember } from './backups.js';

/** In `settings`: a switch to another token whose entry is not written yet. */
export const SWITCHED_TOKEN = 'custody.token-migration';
/** In `settings`: the token that was left, until two persons destroy it. */
export const FORMER_TOKEN = 'custody.former-token';

/** A token that the appliance works with, or worked with. */
export interface Place {
  label: string;
  module: string;
  profile: string;
  /** Files and folders that are this token's alone. */
  paths: string[];
}

export interface Switch {
  from: Place;
  /** Label of the token that took over. */
  to: string;
  /** What was opened under it. */
  keys: number;
  pairs: number;
  time: number;
}

interface Log {
  storage: Storage;
  audit: AuditLog;
}

/** Labels are an operator's words; an entry takes only some of their letters. */
const word = (label: string): string => label.replaceAll(/[^A-Za-z0-9._-]/g, '_');

/**
 * Writes the entry about a switch, if one was made and is not written. Resolves with it.
 * @param label of the token that is worked with now
 */
export async function settleMigration({ storage, audit }: Log, label: string, by: AuditActor): Promise<Switch | undefined> {
  const done = await recall<Switch>(storage, SWITCHED_TOKEN);
  // Cut before the configuration was switched: nothing has happened yet.
  if (done?.to !== label) return undefined;
  await storage.write(async (unit) => {
    await unit.run('DELETE FROM settings WHERE name = ?', [SWITCHED_TOKEN]);
    await remember(unit, FORMER_TOKEN, done);
    const facts = { from: word(done.from.label), to: word(done.to), keys: done.keys, pairs: done.pairs };
    await audit.append(unit, { action: 'token.migrate', outcome: 'done', actor: by, facts });
  });
  return done;
}

/** Destroys the token that was left, once a backup was made since and read from end to end. Throws `no-former-token`, `backup-older`. */
export async function destroyFormer(
  { storage, audit, backups, root }: Log & { backups: Backups; root: Buffer },
  by: AuditActor,
): Promise<{ destroyed: string; byHand?: string }> {
  const former = await recall<Switch>(storage, FORMER_TOKEN);
  if (!former) throw new Fault('not-found', 'no-former-token', 'no token was left by a migration');
  const [newest] = backups.list();
  const backup = newest && (await openBackupFile(newest.file, root));
  await backup?.close();
  if (!backup || Date.parse(backup.head.created) < former.time)
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
