import { randomBytes } from 'node:crypto';
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { access, type FileHandle, mkdir, open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Fault, fromBase64, isFault, sha256 } from '../foundation/index.js';
import { type GivenCertificate, type GivenKey, SecondPlace, type StoredKey, type TakenKey } from '../keys/index.js';
import { replaceFile, syncFolder } from '../storage/index.js';
import {
  type CustodyPackage,
  completed,
  contradicted,
  keksOf,
  type PoolRecord,
  parsePackage,
  type Sealed,
  type SealedPackage,
  type SucceedingAuthority,
  type Token,
} from '../tokens/index.js';

const MARK = 'ekms-escrow';
const FILE = 'escrow.journal';
const PACKAGE = 'custody-package';
/** What `Token.sealBytes` binds each line to. */
const CONTEXT = 'EKMS escrow journal v1';

/** A line before it is sealed (docs/formats/escrow-journal.md). Bytes travel as base64. */
export type EscrowLine =
  | { t: 'pair'; record: PoolRecord; mac: Buffer; publicKey: Buffer; wrapped: Buffer }
  | ({ t: 'key' } & GivenKey)
  | ({ t: 'certificate' } & GivenCertificate)
  | ({ t: 'import' } & TakenKey)
  | { t: 'change'; key: StoredKey };

/** Lines written at once: some hundred KiB, which one call writes. */
const TOGETHER = 64;

interface Waiting {
  text: string;
  resolve: () => void;
  reject: (error: unknown) => void;
}

const away = (why: string): Fault =>
  new Fault(
    'unavailable',
    'second-place-away',
    `the second place for keys cannot be written (${why}): no key is born and no certificate issued until it is back`,
    30,
  );

const UNMOUNTED = 'its mark is missing: is it mounted?';
const unmounted = (): Fault => away(UNMOUNTED);

/**
 * The append-only escrow journal on another mount: `durability: two`. Its folder carries a mark that `ekms escrow prepare` put there: without it the mount is
 * away, and what is written would land on the first disk.
 */
export class EscrowJournal extends SecondPlace {
  #waiting: Waiting[] = [];
  #draining: Promise<void> | undefined;
  #trouble: string | undefined;
  /** That it knows keys which the token does not. A line that is written says nothing of that. */
  #ahead: string | undefined;
  #packing: Promise<void> | undefined;
  /** Keys, by their labels, of which the custodians' copy lies here. */
  readonly #packed = new Set<string>();

  constructor(
    private readonly folder: string,
    private readonly token: Pick<Token, 'sealBytes' | 'custody'>,
  ) {
    super();
  }

  /** Why it cannot be written, as of the last try; undefined while it can. */
  override get trouble(): string | undefined {
    return isMarked(this.folder) ? (this.#ahead ?? this.#trouble) : `${this.folder} does not carry its mark: is it mounted?`;
  }

  override born({ record, mac }: Sealed<PoolRecord>, blob: { publicKey: Buffer; wrapped: Buffer }): Promise<void> {
    return this.#append({ t: 'pair', record, mac, ...blob });
  }

  override given(given: GivenKey): Promise<void> {
    return this.#append({ t: 'key', ...given });
  }

  override certified(certificate: GivenCertificate): Promise<void> {
    return this.#append({ t: 'certificate', ...certificate });
  }

  override taken(taken: TakenKey): Promise<void> {
    return this.#append({ t: 'import', ...taken });
  }

  override changed(key: StoredKey): Promise<void> {
    return this.#append({ t: 'change', key });
  }

  override succeeding(name: SucceedingAuthority, n: number): Promise<void> {
    return this.#pack(`ekms/sign/${name}/${n}`);
  }

  override async requireKnown(next: 'kek' | 'authority'): Promise<void> {
    const text = await this.token.custody();
    if (!isMarked(this.folder)) throw unmounted();
    if (text === null) return;
    const now = parsePackage(text).package;
    this.#requireContained(now);
    if (next === 'kek') this.#requireFree(now);
  }

  /** Restored for the custodians of before a reissue: lines from after it name a key-encryption key that the token never had by the number that its next would get. */
  #requireFree(now: CustodyPackage): void {
    const last = Math.max(...keksOf(now).map(Number));
    const taken = this.#packages().find((path) => {
      const held = parsedOrNone(this.#read(path));
      return held?.certificates.root.equals(now.certificates.root) && keksOf(held).some((id) => Number(id) > last);
    });
    if (taken !== undefined)
      throw new Fault(
        'conflict',
        'kek-name-taken',
        `${taken} names a later key-encryption key than the token knows: a restore went back to before the shares were issued anew. Make a backup, then move that file and ${FILE} away together`,
      );
  }

  /** Those of every ceremony. */
  #packages(): string[] {
    try {
      return readdirSync(this.folder)
        .filter((name) => name === PACKAGE || /^custody-package-[0-9a-f]{32}$/.test(name))
        .map((name) => join(this.folder, name));
    } catch (error) {
      throw this.#failed(error);
    }
  }

  async #append(line: EscrowLine): Promise<void> {
    const kek = kekOf(line);
    if (kek !== undefined) await this.#pack(`ekms/kek/${kek}`);
    const sealed = await this.token.sealBytes(Buffer.from(JSON.stringify(line, encodeBytes)), CONTEXT);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ text: `${sealed.toString('base64')}\n`, resolve, reject });
      this.#draining ??= this.#drain();
    });
  }

  /** A key is in the second place only with the KEK that it is under: a KEK that was born since the last backup has its copy for the custodians nowhere else. */
  async #pack(label: string): Promise<void> {
    while (!this.#packed.has(label) || !existsSync(join(this.folder, PACKAGE))) {
      this.#packing ??= this.#writePackage(label).finally(() => {
        this.#packing = undefined;
      });
      await this.#packing;
      if (!this.#packed.has(label)) throw away(`the custodians have no copy of ${label}`);
    }
  }

  async #writePackage(wanted: string): Promise<void> {
    let written: string | null | undefined;
    // While a share was slow another node may have written what the token said later: whoever writes last looks again.
    for (let text = await this.token.custody(); text !== written; text = await this.token.custody()) {
      const now = text === null ? undefined : parsePackage(text).package;
      await this.#replacePackage(now, text ?? '');
      // Without custodians nobody could open a copy.
      for (const label of now ? now.keys.map(({ label }) => label) : [wanted]) this.#packed.add(label);
      written = text;
    }
  }

  async #replacePackage(now: CustodyPackage | undefined, text: string): Promise<void> {
    if (!isMarked(this.folder)) throw unmounted();
    if (now) this.#requireContained(now);
    try {
      await this.#putAside(now);
      await replaceFile(join(this.folder, PACKAGE), text);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /**
   * A token that was put back to an earlier day does not take away what its own later self brought here: that may be all there is of it. Nor does one whose next key
   * has got the name of one of those.
   */
  #requireContained(now: CustodyPackage): void {
    const path = join(this.folder, PACKAGE);
    const more = [path, asideOf(path, now.ceremony)].find((each) => {
      const held = parsedOrNone(this.#read(each));
      return held && isOfSame(held, now) && (contradicted(now, held).length > 0 || completed(now, held) !== now);
    });
    this.#ahead =
      more &&
      `${more} knows keys that the token does not: was the token put back, or restored without --escrow? Put the newer one back, or restore by this place; else move that file and ${FILE} away together, and what only they know is lost`;
    if (this.#ahead !== undefined) throw away(this.#ahead);
  }

  /** Empty where there is none. */
  #read(path: string): string {
    try {
      return existsSync(path) ? readFileSync(path, 'utf8') : '';
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error: unknown): Fault {
    this.#trouble = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    return away(this.#trouble);
  }

  /**
   * Backups of before the shares were issued anew open by the former ones, and with them what only that package knows: it stays. So does one that cannot be read: what
   * is damaged in it may not be what somebody needs.
   */
  async #putAside(now: CustodyPackage | undefined): Promise<void> {
    const path = join(this.folder, PACKAGE);
    const held = existsSync(path) ? readFileSync(path, 'utf8') : '';
    const former = parsedOrNone(held)?.ceremony;
    if (!former && held !== '') await rename(path, `${path}-damaged-${sha256(Buffer.from(held)).toString('hex').slice(0, 16)}`);
    if (former && !now?.ceremony.equals(former)) await replaceFile(asideOf(path, former), held);
  }

  /** All lines that wait go to the disk together: a rotation brings them by the dozen, and what is slow is paid once. */
  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const together = this.#waiting.splice(0, TOGETHER);
      try {
        await this.#write(together.map(({ text }) => text).join(''));
        for (const { resolve } of together) resolve();
      } catch (error) {
        for (const { reject } of together) reject(error);
      }
    }
    this.#draining = undefined;
  }

  async #write(text: string): Promise<void> {
    let file: FileHandle | undefined;
    try {
      if (!isMarked(this.folder)) throw new Error(UNMOUNTED);
      const isNew = !existsSync(join(this.folder, FILE));
      file = await open(join(this.folder, FILE), 'a+', 0o600);
      // What a killed writer left half is ended here, so that it spoils no line but its own.
      await file.appendFile(`${(await endsWhole(file)) ? '' : '\n'}${text}`);
      await file.datasync();
      // A file that is new is there after a power cut only once its folder says so.
      if (isNew) await syncFolder(this.folder);
      this.#trouble = undefined;
    } catch (error) {
      throw this.#failed(error);
    } finally {
      await file?.close().catch(() => undefined);
    }
  }
}

const kekOf = (line: EscrowLine): string | undefined => {
  if (line.t === 'pair') return line.record.kek;
  return line.t === 'certificate' ? undefined : line.key.sealed.record.kek;
};

/** Where the package of an earlier ceremony of the same token lies. */
const asideOf = (path: string, ceremony: Buffer): string => `${path}-${ceremony.toString('hex')}`;

/** Undefined for what is none, or is damaged: nobody could open anything with it. */
function parsedOrNone(text: string): CustodyPackage | undefined {
  if (text === '') return undefined;
  try {
    return parsePackage(text).package;
  } catch (error) {
    if (!isFault(error, 'custody-package-malformed')) throw error;
    return undefined;
  }
}

/** Undefined where there is none. Throws `escrow-missing`, `custody-package-malformed`. */
function readPackageAt(path: string): SealedPackage | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new Fault('not-found', 'escrow-missing', `${path} cannot be read (${code})`);
  }
  try {
    return text === '' ? undefined : parsePackage(text);
  } catch {
    throw new Fault(
      'malformed',
      'custody-package-malformed',
      `the custody package at the second place is damaged: move ${path} away to go on with the backup's; keys under a key-encryption key, and certificates by an authority, that only this one knows are lost then`,
    );
  }
}

/**
 * The package at the second place of the custodians that `known` is for; undefined where there is none. Its record key is the very entry that `known` has, so the MAC that the token
 * judges it by is one that nobody else can make. Throws `escrow-missing` for what is no second place, or none that this user may read; `custody-package-malformed`.
 */
export function packageBeside(folder: string, known: CustodyPackage): SealedPackage | undefined {
  if (!isMarked(folder))
    throw new Fault('not-found', 'escrow-missing', `${folder} is no second place: is it mounted, and may this user read it?`);
  const path = join(folder, PACKAGE);
  const [newest, former] = [readPackageAt(path), readPackageAt(asideOf(path, known.ceremony))];
  return [newest, former].find((sealed) => sealed && isOfSame(sealed.package, known));
}

function isOfSame(one: CustodyPackage, other: CustodyPackage): boolean {
  const same = (part: (of: CustodyPackage) => unknown) => JSON.stringify(part(one)) === JSON.stringify(part(other));
  return (
    same(({ ceremony, threshold, shares, custodyKey, certificates: { root } }) => [ceremony, threshold, shares, custodyKey, root]) &&
    same(({ keys }) => keys.filter(({ label }) => label === 'ekms/records'))
  );
}

async function endsWhole(file: FileHandle): Promise<boolean> {
  const { size } = await file.stat();
  if (size === 0) return true;
  const last = Buffer.alloc(1);
  await file.read(last, 0, 1, size - 1);
  return last[0] === 0x0a;
}

/** Whether this is the second place itself, and not the folder that it is to be mounted on. */
const isMarked = (folder: string): boolean => existsSync(join(folder, MARK));

/** The same without holding up whoever else is served: a share may hang. */
export const isMounted = (folder: string): Promise<boolean> =>
  access(join(folder, MARK)).then(
    () => true,
    () => false,
  );

/** Marks a folder as the second place. Refuses one on the same file system as the home: a second place on the first disk is none. */
export async function prepareEscrow(folder: string, home: string, sameDisk = false): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (!sameDisk && statSync(folder).dev === statSync(home).dev)
    throw new Fault('conflict', 'escrow-same-disk', `${folder} is on the same file system as ${home}: mount another disk or a share there`);
  const file = await open(join(folder, MARK), 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') throw new Fault('conflict', 'escrow-prepared', `${folder} is a second place already`);
    throw error;
  });
  await file.writeFile(`${randomBytes(16).toString('hex')}\n`);
  await file.sync();
  await file.close();
  await syncFolder(folder);
}

export const isSameDisk = (folder: string, home: string): boolean => existsSync(folder) && statSync(folder).dev === statSync(home).dev;

/**
 * Every line that this token sealed, in order, and undefined for one that was cut or is not its own. One at a time: after years there are more of them
 * than fit into memory. Throws `escrow-missing`.
 */
export async function* readEscrow(folder: string, token: Pick<Token, 'openBytes'>): AsyncGenerator<EscrowLine | undefined> {
  const path = join(folder, FILE);
  if (!existsSync(path)) throw new Fault('not-found', 'escrow-missing', `there is no escrow journal in ${folder}`);
  for await (const text of createInterface({ input: createReadStream(path, 'latin1'), crlfDelay: Number.POSITIVE_INFINITY }))
    if (text !== '') yield await openLine(text, token);
}

async function openLine(text: string, token: Pick<Token, 'openBytes'>): Promise<EscrowLine | undefined> {
  const sealed = fromBase64(text, 'base64');
  if (!sealed) return undefined;
  try {
    return JSON.parse((await token.openBytes(sealed, CONTEXT)).toString(), decodeBytes) as EscrowLine; // the seal says that EscrowJournal wrote it
  } catch (error) {
    if (!(error instanceof Fault) || error.kind === 'unavailable') throw error;
    return undefined;
  }
}

function encodeBytes(_: string, value: unknown): unknown {
  const bytes = value as { type?: string; data?: number[] } | null;
  return bytes?.type === 'Buffer' && bytes.data ? { b: Buffer.from(bytes.data).toString('base64') } : value;
}

function decodeBytes(_: string, value: unknown): unknown {
  const bytes = value as { b?: unknown } | null;
  return bytes !== null && typeof bytes === 'object' && typeof bytes.b === 'string' && Object.keys(bytes).length === 1
    ? ownBytes(bytes.b)
    : value;
}

/** Bytes in memory of their own: a piece of Node's shared slabs would keep what else was read into them. */
function ownBytes(text: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text, 'base64'));
  return bytes.subarray(0, bytes.write(text, 'base64'));
}

const since = (line: { since?: number } | undefined): number => line?.since ?? 0;

/** What the journal tells of: the newest version of each key, with whom it was given to or taken for. */
export class KeysInEscrow {
  /** By key, in the order of giving. */
  readonly given = new Map<string, Omit<GivenKey, 'key'>>();
  /** By public key. Of one that was taken in twice the one claimed last counts: the other one never came into the database. */
  readonly taken = new Map<string, Omit<TakenKey, 'key'> & { id: string }>();
  readonly newest = new Map<string, StoredKey>();
  readonly certificates: GivenCertificate[] = [];

  /** The next line. A pair that nobody was given is nothing that comes back, and is not kept here. */
  see(line: EscrowLine): void {
    if (line.t === 'certificate') this.certificates.push(line);
    // Nor is what a later version wrote, which this one does not know.
    if (line.t !== 'key' && line.t !== 'import' && line.t !== 'change') return;
    const { id, publicKey } = line.key.sealed.record;
    if (line.t === 'key') this.given.set(id, { n: line.n, binding: line.binding, certificate: line.certificate });
    if (line.t === 'import' && since(line) >= since(this.taken.get(publicKey)))
      this.taken.set(publicKey, {
        ...{ id, binding: line.binding, certificates: line.certificates, since: since(line) },
        ...(line.life ? { life: line.life } : {}),
      });
    this.#seeKey(line.key);
  }

  #seeKey(key: StoredKey): void {
    const { id, version } = key.sealed.record;
    const known = this.newest.get(id);
    if (!known || known.sealed.record.version <= version) this.newest.set(id, key);
  }

  /** Of a key that was given or taken. */
  newestOf(id: string): StoredKey {
    const key = this.newest.get(id);
    if (!key) throw new Error(`no line tells of key ${id}`);
    return key;
  }
}
