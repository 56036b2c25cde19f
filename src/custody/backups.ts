import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { fromBase64, verifyConsistency } from '../codec/merkle/index.js';
import { type AuditActor, type AuditLog, type Clock, Fault, isFault, newId, type Storage, sha256 } from '../foundation/index.js';
import { openSnapshot, type Snapshot, type StorageSettings, syncFolder } from '../storage/index.js';
import { type AuditHead, parsePackage, type Token } from '../tokens/index.js';
import { BACKUP_SUFFIX, backupName, backupsIn, openChain, readChain } from './backup-chain.js';
import { encodeContent, type KnownPages } from './backup-content.js';
import { baseOf, type OpenBackup, openBackupFile, readBackupHead, writeBackupFile } from './backup-file.js';
import { KeptPages, pagesDigest } from './kept-pages.js';

export interface BackupSettings {
  directory: string;
  /** Newest ones that stay, with those they build on. */
  keep: number;
  /** Hours between two backups of the schedule; 0: none by itself. */
  everyHours: number;
  /** Every so many-th is a full one; 1: each. */
  fullEvery: number;
  database: StorageSettings;
  token: { label: string; module: string; profile: string };
  /** Text of ekms.yaml. */
  configuration: () => string;
}

export interface ListedBackup {
  file: string;
  bytes: number;
  modified: string;
  /** Null where its first line cannot be read. */
  id: string | null;
  /** Names of the files that it builds on, oldest first; a restore needs them all. Null where one is not there. */
  needs: string[] | null;
}

export interface MadeBackup {
  id: string;
  file: string;
  bytes: number;
  /** Names of the files that it builds on, oldest first; empty for a full one. */
  needs: string[];
}

export interface VerifiedBackup {
  id: string;
  created: string;
  entries: number;
  digest: string;
  /** It and all that it builds on, oldest first. */
  chain: { file: string; id: string; created: string; entries: number }[];
}

/** The log's tree as it is now. */
export interface LogProofs {
  /** RFC 9162 §2.1.4. */
  consistency(from: number, size: number): Promise<Buffer[]>;
}

/** In `settings`: when the last backup was made, when a restore was last drilled, and which backups were found damaged when another was to build on them. */
export const CUSTODY_SETTINGS = { backup: 'custody.backup', drill: 'custody.drill', spoilt: 'custody.backup-spoilt' } as const;

/** A backup that is there and not what the appliance wrote. */
export interface SpoiltBackup {
  /** Name of its file. */
  name: string;
  words: string;
  /** When it was found, in milliseconds. */
  time: number;
}

/** Nobody's damage: whoever took the file away knows. */
const GONE = ['backup-missing', 'backup-base-missing'];

/** Backups of the whole appliance, made while it serves, for its custodians to open. */
export class Backups {
  #making: Promise<unknown> = Promise.resolve();

  readonly #pages: KeptPages;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly clock: Clock,
    private readonly root: Buffer,
    private readonly log: LogProofs,
    private readonly settings: BackupSettings,
  ) {
    this.#pages = new KeptPages(join(settings.database.home, 'backup-pages'));
  }

  /**
   * One at a time. It holds what changed since the one before where that is there and followed by fewer than `fullEvery` already. Throws `no-custodians` where no
   * ceremony was held. The file has its name only when it is whole and on the disk.
   */
  create(by: AuditActor, { full = false }: { full?: boolean } = {}): Promise<MadeBackup> {
    const made = this.#making.then(() => this.#create(by, full));
    this.#making = made.catch(() => undefined);
    return made;
  }

  async #create(by: AuditActor, full: boolean): Promise<MadeBackup> {
    await packageOf(this.token); // before anything is made
    const id = newId();
    const created = this.clock.now().toISOString();
    const { directory } = this.settings;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const name = backupName(created, id);
    const staged = join(directory, `.${name}.part`);
    const log = await this.token.auditHead();
    const before = full ? undefined : await this.#base(log);
    const { custody, journal, snapshot } = await takenTogether(this.token, () => openSnapshot(this.settings.database));
    const { recipient } = parsePackage(custody).package.backup;
    const { migrations, tables, entries } = snapshot;
    const isBase = before?.recipient === recipient && before.entries <= entries && isSame(before.of, { migrations, tables });
    const base = isBase ? before : undefined;
    const digests: Buffer[] = [];
    const file = await open(staged, 'wx', 0o600);
    try {
      const about = { journal: journal.toString('utf8'), configuration: this.settings.configuration() };
      const head = { type: 'ekms-backup' as const, id, created, token: this.settings.token, custody };
      const named = base && { id: base.id, digest: base.digest };
      const { bytes, digest } = await writeBackupFile(
        file,
        {
          head: named ? { ...head, v: 2, base: named } : { ...head, v: 1 },
          recipient,
          content: encodeContent(about, snapshot, { base, kept: (of) => digests.push(of) }),
        },
        (of) =>
          this.token.attest('backup', {
            ...{ backup: id, created, digest: of, entries, pages: pagesDigest(digests) },
            head: log && { ...log },
            ...(named ? { base: named } : {}),
          }),
      );
      await file.sync();
      await file.close();
      await rename(staged, join(directory, name));
      await syncFolder(directory);
      // Until then the next one builds on what this one built on.
      await this.#pages.keep({ backup: id, digest, name, migrations, tables }, digests);
      await this.storage.write(async (unit) => {
        await this.audit.append(unit, {
          action: 'backup.create',
          outcome: 'done',
          actor: by,
          subject: id,
          facts: { bytes, digest, entries, ...(named ? { base: named.digest } : {}) },
        });
        await remember(unit, CUSTODY_SETTINGS.backup, { id, time: this.clock.now().getTime() });
      });
      await this.#forgetOld(name);
      return { id, file: join(directory, name), bytes, needs: base ? base.chain : [] };
    } finally {
      await snapshot.close();
      await file.close().catch(() => undefined);
      rmSync(staged, { force: true });
    }
  }

  /**
   * What the next one may build on: whole from end to end, with all that it builds on itself, of the same log, and not followed by too many. What is there and damaged is
   * remembered for doctor.
   */
  async #base(log: AuditHead | null): Promise<Base | undefined> {
    const known = this.settings.fullEvery === 1 ? undefined : await this.#pages.read();
    if (!known) return undefined;
    const { of, pages, has } = known;
    let at = join(this.settings.directory, of.name);
    try {
      const chain = await readChain(at, { root: this.root });
      const newest = chain.at(-1);
      if (!newest || chain.length >= this.settings.fullEvery) return undefined;
      const { statement, custody } = newest;
      const isKnown = statement.backup === of.backup && statement.digest === of.digest && statement.pages === pages;
      if (!isKnown || !(await this.#goesOn(statement.head, log))) return undefined;
      for (const { file } of chain) {
        at = file;
        await (await openBackupFile(file, this.root)).close();
      }
      await this.#foundWhole(chain);
      const { recipient } = custody.package.backup;
      const { entries } = statement;
      return { id: of.backup, digest: of.digest, has, of, recipient, entries, chain: chain.map(({ file }) => basename(file)) };
    } catch (error) {
      if (!isFault(error)) throw error;
      await this.#found(at, error); // then all is kept anew
      return undefined;
    }
  }

  async #found(file: string, { code, message }: Fault): Promise<void> {
    if (GONE.includes(code)) return;
    const spoilt: SpoiltBackup = { name: basename(file), words: message, time: this.clock.now().getTime() };
    await this.storage.write(async (unit) => {
      const others = (await spoiltBackups(unit)).filter(({ name }) => name !== spoilt.name);
      await remember(unit, CUSTODY_SETTINGS.spoilt, [...others, spoilt]);
    });
  }

  async #goesOn(before: AuditHead | null | undefined, log: AuditHead | null): Promise<boolean> {
    if (!before || log?.origin !== before.origin) return false;
    const [earlier, later] = [treeHead(before), treeHead(log)];
    return earlier.size <= later.size && verifyConsistency(sha256, earlier, later, await this.log.consistency(earlier.size, later.size));
  }

  /** Newest first. */
  async list(): Promise<ListedBackup[]> {
    const found: (Omit<ListedBackup, 'needs'> & { base?: string | undefined })[] = [];
    for (const file of await backupsIn(this.settings.directory)) {
      const { size, mtime } = statSync(file);
      const head = await readBackupHead(file);
      found.push({ file, bytes: size, modified: mtime.toISOString(), id: head?.id ?? null, base: head && baseOf(head)?.id });
    }
    // First lines are not signed: they may name one another in a circle.
    const needs = (base: string | undefined, deep = 0): string[] | null => {
      if (base === undefined) return [];
      const before = found.find(({ id }) => id === base);
      const more = before && deep < found.length ? needs(before.base, deep + 1) : null;
      return before && more ? [...more, basename(before.file)] : null;
    };
    return found.map(({ base, ...each }) => ({ ...each, needs: each.id === null ? null : needs(base) }));
  }

  /**
   * Reads it and all that it builds on from end to end against this appliance's signature. Whether its custodians can open it, only a drill tells. Throws
   * as `openChain`.
   */
  async verify(file: string, bases: readonly string[] = []): Promise<VerifiedBackup> {
    const chain = await openChain(file, { root: this.root, bases });
    for (const each of chain) await each.close();
    const told = chain.map(({ file, head: { id, created }, statement: { entries } }) => ({ file, id, created, entries }));
    const { head, statement } = chain.at(-1) as OpenBackup; // it is never empty
    await this.#requireRising(chain);
    await this.#foundWhole(chain);
    return { id: head.id, created: head.created, entries: statement.entries, digest: statement.digest, chain: told };
  }

  /** Those that were found damaged, and were put back from a copy or had a disk that gave them back again. */
  async #foundWhole(chain: readonly { file: string }[]): Promise<void> {
    const whole = new Set(chain.map(({ file }) => resolve(file)));
    const isWhole = ({ name }: SpoiltBackup) => whole.has(resolve(this.settings.directory, name));
    if (!(await spoiltBackups(this.storage)).some(isWhole)) return;
    await this.storage.write(async (unit) => {
      const left = (await spoiltBackups(unit)).filter((each) => !isWhole(each));
      await remember(unit, CUSTODY_SETTINGS.spoilt, left);
    });
  }

  /** As far as this appliance's own log reaches: that of each is the beginning of that of the next. */
  async #requireRising(chain: readonly OpenBackup[]): Promise<void> {
    const log = await this.token.auditHead();
    for (const [n, { file, statement }] of chain.entries()) {
      const [head, next] = [statement.head, chain[n + 1]?.statement.head ?? log];
      const isOurs = log !== null && log.origin === head?.origin && log.origin === next?.origin && next.size <= log.size;
      if (isOurs && !(await this.#goesOn(head, next)))
        throw new Fault('malformed', 'backup-chain-broken', `the log in ${file} is not the beginning of the one that came after it`);
    }
  }

  /** For the schedule: makes one when the last is older than it should be, or is there and damaged. An appliance without custodians makes none. */
  async createDue(): Promise<void> {
    const { everyHours } = this.settings;
    if (everyHours === 0) return;
    const last = await recall<{ time: number }>(this.storage, CUSTODY_SETTINGS.backup);
    const isYoung = (time: number) => this.clock.now().getTime() - time < everyHours * 3_600_000;
    if (last && isYoung(last.time)) {
      // One more between two of the schedule, and no more: a disk that spoils them all is not to be filled with them.
      const spoilt = await spoiltBackups(this.storage);
      if (spoilt.some(({ time }) => isYoung(time)) || !(await this.#isSpoilt())) return;
    }
    try {
      await this.create({ kind: 'system' });
    } catch (error) {
      if (!isFault(error, 'no-custodians')) throw error;
    }
  }

  /** Whether the newest, or one that it builds on, is there and damaged, as far as first lines and statements tell; each is read whole when the next one builds on it. */
  async #isSpoilt(): Promise<boolean> {
    const known = await this.#pages.read();
    if (!known) return false;
    const file = join(this.settings.directory, known.of.name);
    try {
      await readChain(file, { root: this.root });
      return false;
    } catch (error) {
      if (!isFault(error)) throw error;
      await this.#found(file, error);
      return !GONE.includes(error.code);
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

  async #forgetOld(made: string): Promise<void> {
    for (const { file } of outdated(await this.list(), this.settings.keep, made)) rmSync(file);
    // What a killed process left half written. One is made at a time, and this one has its name by now.
    for (const name of readdirSync(this.settings.directory))
      if (name.endsWith(`${BACKUP_SUFFIX}.part`)) rmSync(join(this.settings.directory, name));
  }
}

interface Rows {
  migrations: string[];
  tables: string[];
}

/** What a backup may build on. */
interface Base extends KnownPages {
  of: Rows;
  recipient: string;
  /** Of its log. */
  entries: number;
  /** Names of its file and of those it builds on, oldest first. */
  chain: string[];
}

const isSame = (a: Rows, b: Rows): boolean => JSON.stringify([a.migrations, a.tables]) === JSON.stringify([b.migrations, b.tables]);

const treeHead = ({ size, root }: AuditHead) => ({ size, root: fromBase64(root) ?? new Uint8Array() });

/**
 * All but so many of the newest, and what those build on; and never the one that was just made: the clock may have been ahead once, and others look newer since.
 * None at all while it cannot be told of each what it builds on: where a first line cannot be read just now, any of them may be the base of a kept one.
 */
export function outdated(listed: readonly ListedBackup[], keep: number, made: string): ListedBackup[] {
  if (listed.some(({ id, needs }) => id === null || needs === null)) return [];
  const stay = listed.filter(({ file }, n) => n < keep || basename(file) === made);
  const needed = new Set(stay.flatMap(({ file, needs }) => [basename(file), ...(needs ?? [])]));
  return listed.filter(({ file }) => !needed.has(basename(file)));
}

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

/** Those that were found damaged and not whole since, in the order of finding. What was written before there was a list is one alone. */
export const spoiltBackups = async (reader: Pick<Storage, 'one'>): Promise<SpoiltBackup[]> =>
  [(await recall<SpoiltBackup | SpoiltBackup[]>(reader, CUSTODY_SETTINGS.spoilt)) ?? []].flat();
