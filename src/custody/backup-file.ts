import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import { type AgeHeader, checkHeader, makeHeader, openPayload, readHeader, sealPayload } from '../codec/age.js';
import { base64url, Fault, isFault } from '../foundation/index.js';
import { parsePackage, type SealedPackage } from '../tokens/index.js';
import { type BackupBase, baseShape } from './backup-content.js';
import { verifyStatement } from './statement.js';

/**
 * A backup in one file (docs/formats/backup.md): a line of JSON that anybody may read, an age file for the custodians' common key, and the
 * appliance's signature over both. So damage and foreign files are told without any share, and M custodians open it, by EKMS or by `age`.
 */
const whole = z.strictObject({
  type: z.literal('ekms-backup'),
  v: z.literal(1),
  id: z.string(),
  created: z.string(),
  /** What the token is called and which module it was in, so that it can be made again before anything is opened. */
  token: z.strictObject({ label: z.string(), module: z.string(), profile: z.string() }),
  custody: z.string(),
});
/** An incremental one has a version of its own: whoever does not know what it builds on must not take it for a whole one. */
const head = z.discriminatedUnion('v', [whole, whole.extend({ v: z.literal(2), base: baseShape })]);
export type BackupHead = z.output<typeof head>;

/** What this backup builds on; undefined where it is whole by itself. */
export const baseOf = (of: BackupHead): BackupBase | undefined => ('base' in of ? of.base : undefined);

/** What the appliance stated of a backup. */
const statement = z.object({
  backup: z.string(),
  created: z.string(),
  digest: z.string(),
  /** Of the log. */
  entries: z.int(),
  base: baseShape.optional(),
  /** The last head of the log that was signed before; null before the first, absent in older backups. */
  head: z.object({ origin: z.string(), size: z.int(), root: z.string() }).nullish(),
  /** SHA-256 over the digests of all pages that the backup has with those it builds on. */
  pages: z.string().optional(),
});
export type BackupStatement = z.output<typeof statement>;

/** What the first line of a backup may have: the custody package, some 20 KiB. */
const MOST_HEAD = 2 ** 20;
/** Digits of the footer's length, and the LF before which they stand. */
const FOOTER_DIGITS = 6;
const READ = 2 ** 18;
const LF = 0x0a;

const damaged = (why: string): Fault => new Fault('malformed', 'backup-damaged', `this backup is damaged or no backup: ${why}`);

/** Writes into an open file. @param sign gives the statement for the digest of all that was written before */
export async function writeBackupFile(
  file: FileHandle,
  of: { head: BackupHead; recipient: string; content: AsyncIterable<Buffer> },
  sign: (digest: string) => Promise<string>,
): Promise<{ bytes: number; digest: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  const put = async (part: Buffer) => {
    hash.update(part);
    bytes += part.length;
    await file.writeFile(part);
  };
  const { header, fileKey } = makeHeader(of.recipient);
  await put(Buffer.from(`${JSON.stringify(of.head)}\n`));
  await put(header);
  for await (const part of sealPayload(fileKey, of.content)) await put(part);
  fileKey.fill(0);
  const digest = base64url(hash.digest());
  const statement = await sign(digest);
  const footer = Buffer.from(`${statement}${String(statement.length).padStart(FOOTER_DIGITS, '0')}\n`);
  await file.writeFile(footer);
  return { bytes: bytes + footer.length, digest };
}

/** What a backup says of itself, and what was signed of it. */
export interface BackupEnds {
  file: string;
  head: BackupHead;
  custody: SealedPackage;
  statement: BackupStatement;
}

export interface OpenBackup extends BackupEnds {
  header: AgeHeader;
  /** The plain content. Throws `age-damaged`, `backup-damaged` when the file changed since it was checked. */
  content(fileKey: Buffer): AsyncGenerator<Buffer>;
  close(): Promise<void>;
}

/**
 * Reads the whole file once and holds it against its signature, before anything is believed of it. Throws `backup-damaged`, `backup-missing`, `statement-invalid`.
 * @param root the root (DER) that it must have been signed under; without it the one that the backup itself names, which then proves only that it is whole
 */
export async function openBackupFile(path: string, root?: Buffer): Promise<OpenBackup> {
  const file = await openFile(path);
  try {
    const { first, lf, end, ...ends } = await readEnds(path, file, root);
    const header = readHeader(first.subarray(lf + 1));
    if (!header) throw damaged('it ends in its header');
    const begin = lf + 1 + header.bytes.length;
    const hash = createHash('sha256');
    for await (const part of parts(file, 0, end)) hash.update(part);
    if (ends.statement.digest !== base64url(hash.digest())) throw damaged('it is not what the appliance signed');
    return {
      ...ends,
      header,
      async *content(fileKey) {
        checkHeader(header, fileKey);
        yield* openPayload(fileKey, parts(file, begin, end));
      },
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw isFault(error, 'age-damaged') ? damaged(error.message) : error;
  }
}

/** First line and statement, without what is between them: quick, and no proof that the file is whole. Throws as `openBackupFile`. */
export async function readBackupEnds(path: string, root?: Buffer): Promise<BackupEnds> {
  const file = await openFile(path);
  try {
    const { head, custody, statement } = await readEnds(path, file, root);
    return { file: path, head, custody, statement };
  } finally {
    await file.close();
  }
}

/** The first line alone, believed by nobody; undefined where it cannot be read. */
export async function readBackupHead(path: string): Promise<BackupHead | undefined> {
  const file = await open(path, 'r').catch(() => undefined);
  try {
    return file && headIn(await read(file, 0, Math.min(MOST_HEAD, (await file.stat()).size)))?.head;
  } catch {
    return undefined;
  } finally {
    await file?.close();
  }
}

function headIn(first: Buffer): { head: BackupHead; lf: number } | undefined {
  const lf = first.indexOf(LF);
  const parsed = lf < 0 ? undefined : head.safeParse(json(first.subarray(0, lf)));
  return parsed?.success ? { head: parsed.data, lf } : undefined;
}

async function readEnds(path: string, file: FileHandle, root: Buffer | undefined) {
  const { statement: jws, end } = await footerOf(file, (await file.stat()).size);
  const first = await read(file, 0, Math.min(MOST_HEAD, end));
  const found = headIn(first);
  if (!found) throw damaged('its first line cannot be read');
  const custody = packageIn(found.head);
  const stated = statement.safeParse(verifyStatement(jws, 'backup', root ?? custody.package.certificates.root));
  const [said, signed] = [baseOf(found.head), stated.data?.base];
  if (!stated.success || stated.data.backup !== found.head.id || said?.id !== signed?.id || said?.digest !== signed?.digest)
    throw damaged('it is not what the appliance signed');
  return { file: path, ...found, custody, statement: stated.data, first, end };
}

function packageIn({ custody }: BackupHead): SealedPackage {
  try {
    return parsePackage(custody);
  } catch (error) {
    throw isFault(error, 'custody-package-malformed') ? damaged(error.message) : error;
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    throw new Fault('not-found', 'backup-missing', `the backup ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

async function footerOf(file: FileHandle, size: number): Promise<{ statement: string; end: number }> {
  const tail = (await read(file, Math.max(0, size - FOOTER_DIGITS - 1), FOOTER_DIGITS + 1)).toString('latin1');
  const length = /^(\d{6})\n$/.exec(tail)?.[1];
  const end = size - FOOTER_DIGITS - 1 - Number(length ?? 0);
  if (length === undefined || end < 0) throw damaged('its end is missing');
  return { statement: (await read(file, end, Number(length))).toString('latin1'), end };
}

async function read(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(buffer, done, length - done, at + done).catch((error: NodeJS.ErrnoException) => {
      throw damaged(`its disk does not give it back (${error.code})`);
    });
    if (bytesRead === 0) throw damaged('it is shorter than it was a moment ago');
    done += bytesRead;
  }
  return buffer;
}

async function* parts(file: FileHandle, from: number, end: number): AsyncGenerator<Buffer> {
  for (let at = from; at < end; at += READ) yield read(file, at, Math.min(READ, end - at));
}

function json(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}
