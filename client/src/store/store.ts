import { randomBytes } from 'node:crypto';
import { open, readFile, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod/mini';
import { Fault, fromBase64 } from '../../../src/foundation/index.js';
import { appendLine, makePrivateFolder, readPrivate, writeWhole } from './files.js';
import { type Derivation, deriveKey, newDerivation, readSealed, type Sealed, seal } from './seal.js';
import { type State, state } from './state.js';

const keptReceipt = z.object({
  at: z.string(),
  key: z.string(),
  act: z.enum(['deliver', 'decrypt']),
  index: z.int().check(z.nonnegative()),
  leaf: z.string(),
});
/** What a release left behind: the audit log's leaf of it, to be checked against the log later. */
export type KeptReceipt = Omit<z.infer<typeof keptReceipt>, 'at'>;

const knownLog = z.strictObject({
  v: z.literal(1),
  /** By whose signature: C2SP verifier key. */
  key: z.string(),
  /** The newest head that held, a signed note. */
  checkpoint: z.string(),
  /** By key: number and leaf of the last entry that was seen. */
  uses: z.record(z.string(), z.strictObject({ use: z.int().check(z.positive()), leaf: z.string() })),
  /** Receipts from before this moment are of a log that was given up. */
  from: z.exactOptional(z.string()),
});
export type KnownLog = z.infer<typeof knownLog>;

/** The device's own folder, `$MESIGN_HOME`: docs/formats/mesign-store.md. */
export class Store {
  readonly #home: string;
  readonly #phrase: string | undefined;
  #opened: { kdf: Derivation; key: Buffer } | undefined;

  /** @param phrase the pass phrase; without one the key file in the folder opens the store */
  constructor(home: string, phrase: string | undefined) {
    this.#home = home;
    this.#phrase = phrase;
  }

  get home(): string {
    return this.#home;
  }

  /** Throws `already-enrolled` if this folder is a device's already. */
  async assertVacant(): Promise<void> {
    if (await readPrivate(this.#path('store.json')))
      throw new Fault(
        'conflict',
        'already-enrolled',
        `${this.#home} already belongs to an enrolled device: remove it first with "mesign devices remove", or set MESIGN_HOME to another folder`,
      );
  }

  /** Keeps a new device. Until this resolves, the folder holds nothing of it. */
  async create(content: State): Promise<void> {
    await makePrivateFolder(this.#home);
    const kdf = newDerivation(this.#phrase === undefined ? 'file' : 'scrypt');
    if (kdf.name === 'file') await writeWhole(this.#path('key'), `${randomBytes(32).toString('base64url')}\n`);
    this.#opened = { kdf, key: await this.#keyFor(kdf) };
    await this.#write(content);
    // Another enrolment may be with another appliance: its log is another.
    await unlink(this.#path('log.json')).catch(() => undefined);
  }

  async read(): Promise<State> {
    const path = this.#path('store.json');
    const bytes = await readPrivate(path);
    if (!bytes) throw new Fault('misconfigured', 'not-enrolled', `no device is enrolled in ${this.#home}: run "mesign enroll" first`);
    const sealed = readSealed(bytes.toString('utf8'), path);
    this.#opened ??= { kdf: sealed.kdf, key: await this.#keyFor(sealed.kdf) };
    return this.#parse(sealed, this.#opened.key);
  }

  /** Reads, changes and writes as one act among all processes of this folder. */
  async update(change: (before: State) => State): Promise<State> {
    return this.locked(async () => {
      const after = change(await this.read());
      await this.#write(after);
      return after;
    });
  }

  /** Only one process at a time; a lock whose process is gone is taken over. */
  async locked<T>(work: () => Promise<T>): Promise<T> {
    const isNew = await makePrivateFolder(this.#home);
    const path = this.#path('lock');
    for (let waited = 0; !(await tryLock(path)); waited += 100) {
      if (waited >= 15_000)
        throw new Fault('unavailable', 'store-busy', `another mesign is at work in ${this.#home}: try again, or delete ${path} if none is`);
      await sleep(100);
    }
    try {
      return await work();
    } finally {
      await unlink(path).catch(() => undefined);
      // Goes only if it is empty: work that failed leaves no folder behind that it found missing.
      if (isNew) await rmdir(this.#home).catch(() => undefined);
    }
  }

  async keepReceipt(receipt: KeptReceipt, at: Date): Promise<void> {
    await appendLine(this.#path('receipts.jsonl'), JSON.stringify({ at: at.toISOString(), ...receipt }));
  }

  /** All receipts, oldest first. A line that a crash cut short is left out. */
  async receipts(): Promise<(KeptReceipt & { at: string })[]> {
    const text = (await readPrivate(this.#path('receipts.jsonl')))?.toString('utf8') ?? '';
    return text.split('\n').flatMap((line) => {
      try {
        return [keptReceipt.parse(JSON.parse(line))];
      } catch {
        return [];
      }
    });
  }

  /** What was seen of the appliance's log before; undefined where nothing was. */
  async knownLog(): Promise<KnownLog | undefined> {
    const text = (await readPrivate(this.#path('log.json')))?.toString('utf8');
    if (text === undefined) return undefined;
    try {
      return knownLog.parse(JSON.parse(text));
    } catch {
      throw new Fault(
        'misconfigured',
        'log-memory-damaged',
        `${this.#path('log.json')}, which remembers the log, is damaged: keep it for IT, and take it away to begin anew`,
      );
    }
  }

  async keepLog(known: KnownLog): Promise<void> {
    await writeWhole(this.#path('log.json'), JSON.stringify(known));
  }

  /** Evidence of a log that did not hold. */
  async keepAlarm(evidence: object, at: Date): Promise<void> {
    await appendLine(this.#path('log-alarms.jsonl'), JSON.stringify({ at: at.toISOString(), ...evidence }));
  }

  /** Forgets device and keys. Receipts stay: they are about the past. */
  async remove(): Promise<void> {
    for (const name of ['store.json', 'key']) await unlink(this.#path(name)).catch(() => undefined);
  }

  /** Whether a store is here that no pass phrase protects. */
  async opensByKeyFile(): Promise<boolean> {
    const path = this.#path('store.json');
    const bytes = await readPrivate(path);
    return bytes !== undefined && readSealed(bytes.toString('utf8'), path).kdf.name === 'file';
  }

  #path(name: string): string {
    return join(this.#home, name);
  }

  async #keyFor(kdf: Derivation): Promise<Buffer> {
    if (kdf.name === 'scrypt') {
      if (this.#phrase === undefined)
        throw new Fault(
          'misconfigured',
          'passphrase-missing',
          `${this.#home} is protected by a pass phrase: give it with --passphrase-file FILE`,
        );
      return deriveKey(kdf, this.#phrase);
    }
    const text = (await readPrivate(this.#path('key')))?.toString('latin1').trim();
    const key = text === undefined ? undefined : fromBase64(text, 'base64url');
    if (key?.length !== 32)
      throw new Fault(
        'misconfigured',
        'key-file-missing',
        `the key file ${this.#path('key')} is missing or damaged: without it this store cannot be opened`,
      );
    return key;
  }

  #parse(sealed: Sealed, key: Buffer): State {
    const plain = sealed.open(key);
    if (!plain) {
      const what = sealed.kdf.name === 'scrypt' ? 'the pass phrase is wrong, or' : 'the key file belongs to another store, or';
      throw new Fault('forbidden', 'passphrase-wrong', `${this.#path('store.json')} does not open: ${what} the file was changed`);
    }
    return state.parse(JSON.parse(plain.toString('utf8')));
  }

  async #write(content: State): Promise<void> {
    if (!this.#opened) throw new Error('a store is written only after it was opened');
    const plain = Buffer.from(JSON.stringify(content));
    await writeWhole(this.#path('store.json'), seal(this.#opened.key, this.#opened.kdf, plain));
    plain.fill(0);
  }
}

async function tryLock(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx', 0o600);
    await file.writeFile(String(process.pid));
    await file.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const owner = Number(await readFile(path, 'latin1').catch(() => ''));
  if (owner > 0 && !isAlive(owner)) await unlink(path).catch(() => undefined);
  return false;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
