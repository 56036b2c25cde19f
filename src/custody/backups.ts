import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type AuditActor, type AuditLog, type Clock, Fault, isFault, newId, type Storage } from '../foundation/index.js';
import { openSnapshot, type Snapshot, type StorageSettings, syncFolder } from '../storage/index.js';
import { parsePackage, type Token } from '../tokens/index.js';
import { encodeContent } from './backup-content.js';
import { openBackupFile, writeBackupFile } from './backup-file.js';

export interface BackupSettings {
  directory: string;
  /** Newest ones that stay. */
  keep: number;
  /** Hours between two backups of the schedule; 0: none by itself. */
  everyHours: number;
  database: StorageSettings;
  token: { label: string; module: string; profile: string };
  /** Text of ekms.yaml. */
  configuration: () => string;
}

export interface ListedBackup {
  file: string;
  bytes: number;
  modified: string;
}

/** In `settings`: when the last backup was made, and when a restore was last drilled. */
export const CUSTODY_SETTINGS = { backup: 'custody.backup', drill: 'custody.drill' } as const;

const SUFFIX = '.ekms-backup';

/** Backups of the whole appliance, made while it serves, for its custodians to open. */
export class Backups {
  #making: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly clock: Clock,
    private readonly root: Buffer,
    private readonly settings: BackupSettings,
  ) {}

  /** One at a time. Throws `no-custodians` where no ceremony was held. The file has its name only when it is whole and on the disk. */
  create(by: AuditActor): Promise<{ id: string; file: string; bytes: number }> {
    const made = this.#making.then(() => this.#create(by));
    this.#making = made.catch(() => undefined);
    return made;
  }

  async #create(by: AuditActor): Promise<{ id: string; file: string; bytes: number }> {
    await packageOf(this.token); // before anything is made
    const id = newId();
    const created = this.clock.now().toISOString();
    const { directory } = this.settings;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    // With its milliseconds: two of one second are in their order too.
    const name = `${created.replace(/[-:.]/g, '')}-${id.slice(0, 8)}${SUFFIX}`;
    const staged = join(directory, `.${name}.part`);
    const { custody, journal, snapshot } = await takenTogether(this.token, () => openSnapshot(this.settings.database));
    const file = await open(staged, 'wx', 0o600);
    try {
      const about = { journal: journal.toString('utf8'), configuration: this.settings.configuration() };
      const { bytes, digest } = await writeBackupFile(
        file,
        {
          head: { type: 'ekms-backup', v: 1, id, created, token: this.settings.token, custody },
          recipient: parsePackage(custody).package.backup.recipient,
          content: encodeContent(about, snapshot),
        },
        (of) => this.token.attest('backup', { backup: id, created, digest: of, entries: snapshot.entries }),
      );
      await file.sync();
      await file.close();
      await rename(staged, join(directory, name));
      await syncFolder(directory);
      await this.storage.write(async (unit) => {
        await this.audit.append(unit, {
          action: 'backup.create',
          outcome: 'done',
          actor: by,
          subject: id,
          facts: { bytes, digest, entries: snapshot.entries },
        });
        await remember(unit, CUSTODY_SETTINGS.backup, { id, time: this.clock.now().getTime() });
      });
      this.#forgetOld(name);
      return { id, file: join(directory, name), bytes };
    } finally {
      await snapshot.close();
      await file.close().catch(() => undefined);
      rmSync(staged, { force: true });
    }
  }

  /** Newest first. */
  list(): ListedBackup[] {
    const { directory } = this.settings;
    let names: string[];
    try {
      names = readdirSync(directory).filter((name) => name.endsWith(SUFFIX) && !name.startsWith('.'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
    return names
      .sort()
      .reverse()
      .map((name) => {
        const { size, mtime } = statSync(join(directory, name));
        return { file: join(directory, name), bytes: size, modified: mtime.toISOString() };
      });
  }

  /** Reads it from end to end against this appliance's signature. Whether its custodians can open it, only a drill tells. Throws `backup-damaged`. */
  async verify(file: string): Promise<{ id: string; created: string; entries: number; digest: string }> {
    const backup = await openBackupFile(file, this.root);
    await backup.close();
    return { id: backup.head.id, created: backup.head.created, entries: Number(backup.statement['entries']), digest: backup.digest };
  }

  /** For the schedule: makes one when the last is older than it should be. An appliance without custodians makes none. */
  async createDue(): Promise<void> {
    const { everyHours } = this.settings;
    if (everyHours === 0) return;
    const last = await recall<{ time: number }>(this.storage, CUSTODY_SETTINGS.backup);
    if (last && this.clock.now().getTime() - last.time < everyHours * 3_600_000) return;
    try {
      await this.create({ kind: 'system' });
    } catch (error) {
      if (!isFault(error, 'no-custodians')) throw error;
    }
  }

  /** A restore of this backup was tried in a scratch place: `ekms doctor` wants that, without problems, once at least. */
  async drilled(
    backup: string,
    facts: { keys: number; entries: number; seconds: number; problems: number },
    by: AuditActor,
  ): Promise<void> {
    await this.storage.write(async (unit) => {
      await this.audit.append(unit, {
        action: 'custody.drill',
        outcome: facts.problems === 0 ? 'done' : 'failed',
        actor: by,
        subject: backup,
        facts,
      });
      if (facts.problems === 0) await remember(unit, CUSTODY_SETTINGS.drill, { backup, time: this.clock.now().getTime() });
    });
  }

  #forgetOld(made: string): void {
    for (const { file } of outdated(this.list(), this.settings.keep, made)) rmSync(file);
    // What a killed process left half written. One is made at a time, and this one has its name by now.
    for (const name of readdirSync(this.settings.directory))
      if (name.endsWith(`${SUFFIX}.part`)) rmSync(join(this.settings.directory, name));
  }
}

/** All but so many of the newest, and never the one that was just made: the clock may have been ahead once, and others look newer since. */
export const outdated = (listed: readonly ListedBackup[], keep: number, made: string): ListedBackup[] =>
  listed.slice(keep).filter(({ file }) => basename(file) !== made);

/** Before it is said that keys change faster than a backup is begun. */
const TRIES = 5;

/**
 * Package, journal and rows that fit one another: every key that journal and rows name is in the package, for that was the same before and after them. Rejects
 * with `no-custodians`, `backup-overtaken`.
 */
export async function takenTogether(
  token: Pick<Token, 'custody' | 'journalCopy'>,
  openRows: () => Promise<Snapshot>,
): Promise<{ custody: string; journal: Buffer; snapshot: Snapshot }> {
  for (let n = 0; n < TRIES; n++) {
    const custody = await packageOf(token);
    // The journal before the rows: a record that changes in between is newer in the rows, never older than the journal's word.
    const journal = await token.journalCopy();
    const snapshot = await openRows();
    const after = await token.custody().catch(async (error: unknown) => {
      await snapshot.close();
      throw error;
    });
    if (after === custody) return { custody, journal, snapshot };
    await snapshot.close();
  }
  throw new Fault('unavailable', 'backup-overtaken', 'the appliance’s own keys were being changed: make the backup again', 10);
}

async function packageOf(token: Pick<Token, 'custody'>): Promise<string> {
  const custody = await token.custody();
  if (custody === null)
    throw new Fault(
      'conflict',
      'no-custodians',
      'this appliance was made without custodians, so nobody could open a backup: make one by "ekms ceremony" for what must last',
    );
  return custody;
}

export async function remember(
  unit: { run(sql: string, parameters: (string | number)[]): Promise<number> },
  name: string,
  value: object,
): Promise<void> {
  await unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
    name,
    JSON.stringify(value),
  ]);
}

export async function recall<T extends object>(reader: Pick<Storage, 'one'>, name: string): Promise<T | undefined> {
  const row = await reader.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [name]);
  return row && (JSON.parse(row.value) as T); // only `remember` writes under these names
}
