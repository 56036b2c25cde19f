import { createHash, X509Certificate } from 'node:crypto';
import { constants, createReadStream, existsSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import {
  type IncomingLines,
  LinesWithOwners,
  type TransferHead,
  type TransferLine,
  transferEnd,
  transferHead,
  transferLine,
  verifyStatement,
} from '../custody/index.js';
import { base64url, Fault, isFault } from '../foundation/index.js';
import { syncFolder } from '../storage/index.js';

const LF = 0x0a;
/** What one line may have: a key with hundreds of certificates. */
const MOST_LINE = 8 * 2 ** 20;
const malformed = (why: string) => new Fault('malformed', 'transfer-file-malformed', `this is not a whole transfer file: ${why}`);

/** Each line with the offset behind it; what has no end is not given. */
async function* linesOf(path: string): AsyncGenerator<{ bytes: Buffer; end: number }> {
  let rest: Buffer = Buffer.alloc(0);
  let end = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let at = rest.indexOf(LF); at >= 0; at = rest.indexOf(LF)) {
      end += at + 1;
      yield { bytes: rest.subarray(0, at), end };
      rest = rest.subarray(at + 1);
    }
    if (rest.length > MOST_LINE) throw malformed('a line has no end');
  }
}

function json(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    throw malformed('a line is no JSON');
  }
}

/** DER of a certificate. Throws `certificate-malformed`. */
export function rootIn(bytes: Buffer): Buffer {
  try {
    return new X509Certificate(bytes).raw;
  } catch {
    throw new Fault('malformed', 'certificate-malformed', 'the sender’s root is no certificate (PEM or DER)');
  }
}

export interface ReadTransfer {
  /** The sender's authorities, DER. */
  authorities: Buffer[];
  keys: number;
  /** SHA-256 of the file, base64url. */
  file: string;
  /** Those between first and last, and whose they become. */
  lines: IncomingLines;
}

/** Reads it from end to end and holds it against its sender's signature, before anything is believed of it. @param root the sender's root certificate (PEM or DER) */
export async function verifyTransfer(path: string, root: Buffer, owners: ReadonlyMap<string, string> = new Map()): Promise<ReadTransfer> {
  const hash = createHash('sha256');
  const lines = new LinesWithOwners(owners);
  let keys = 0;
  let head: TransferHead | undefined;
  let last: Buffer | undefined;
  for await (const { bytes } of linesOf(path)) {
    if (last !== undefined) {
      hash.update(last).update('\n');
      if (head) {
        const line = transferLine.safeParse(json(last));
        if (!line.success) throw malformed('a line is not of a key');
        lines.add(last.toString(), line.data);
        keys++;
      } else {
        const first = transferHead.safeParse(json(last));
        if (!first.success) throw malformed('its first line is not one');
        head = first.data;
      }
    }
    last = bytes;
  }
  const end = transferEnd.safeParse(last && json(last));
  if (!head || !end.success) throw malformed('its last line is missing: it is not finished');
  const said = verifyStatement(end.data.statement, 'transfer', rootIn(root));
  const fits =
    said['digest'] === base64url(hash.copy().digest()) &&
    said['keys'] === keys &&
    end.data.end === keys &&
    said['transfer'] === head.request.transfer;
  if (!fits) throw malformed('it was changed since its sender signed it');
  return {
    authorities: head.authorities.map((text) => Buffer.from(text, 'base64')),
    keys,
    file: base64url(
      hash
        .update(last ?? '')
        .update('\n')
        .digest(),
    ),
    lines: lines.all,
  };
}

/** The lines between first and last of a file that `verifyTransfer` has passed. Throws `transfer-file-malformed`. */
export async function* keysOf(path: string): AsyncGenerator<{ text: string; line: TransferLine }> {
  let isFirst = true;
  for await (const { bytes } of linesOf(path)) {
    const value = json(bytes);
    if (!isFirst && !transferEnd.safeParse(value).success) {
      const line = transferLine.safeParse(value);
      if (!line.success) throw malformed('a line is not of a key');
      yield { text: bytes.toString(), line: line.data };
    }
    isFirst = false;
  }
}

export interface Sender {
  /** The next keys behind the given one. */
  page(after: string | undefined): Promise<TransferLine[]>;
  /** The appliance's signature over the file. */
  close(of: { digest: string; keys: number }): Promise<string>;
  say(words: string): void;
}

/** Writes a transfer into a file, or goes on with one that was cut off: what is in it whole stays, and is not asked for again. */
export async function writeTransfer(path: string, first: TransferHead, sender: Sender): Promise<{ keys: number; problems: string[] }> {
  const hash = createHash('sha256');
  const problems: string[] = [];
  let keys = 0;
  let after: string | undefined;
  let whole = 0;
  const see = (line: TransferLine) => {
    keys++;
    after = line.key;
    if ('problem' in line) problems.push(`${line.key}: ${line.problem}`);
  };
  const head = `${JSON.stringify(first)}\n`;
  if (existsSync(path))
    for await (const { bytes, end } of linesOf(path)) {
      if (whole === 0) {
        if (`${bytes}\n` !== head) throw other(path);
      } else {
        const said = lineIn(bytes);
        // What a power cut left behind the last line that is whole is asked for again.
        if (!said) break;
        if ('end' in said) return { keys, problems };
        see(said);
      }
      hash.update(bytes).update('\n');
      whole = end;
    }
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    // Nothing yet, or half of the first line; what has no line at all may be anybody's.
    if (whole === 0 && !(await begins(file, head))) throw other(path);
    await file.truncate(whole);
    if (whole === 0) await syncFolder(dirname(resolve(path)));
    const put = async (text: string) => {
      await writeAt(file, text, whole);
      hash.update(text);
      whole += Buffer.byteLength(text);
    };
    if (whole === 0) await put(head);
    for (let lines = await sender.page(after); lines.length > 0; lines = await sender.page(after)) {
      await put(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
      await file.datasync();
      for (const line of lines) see(line);
      sender.say(`${keys} keys`);
    }
    const statement = await sender.close({ digest: base64url(hash.digest()), keys });
    await writeAt(file, `${JSON.stringify({ end: keys, statement })}\n`, whole);
    await file.sync();
    return { keys, problems };
  } finally {
    await file.close();
  }
}

const other = (path: string) => new Fault('conflict', 'transfer-file-other', `${path} holds something else: name a new file`);

async function begins(file: FileHandle, text: string): Promise<boolean> {
  const { size } = await file.stat();
  const bytes = Buffer.from(text);
  if (size > bytes.length) return false;
  const { buffer } = await file.read(Buffer.alloc(size), 0, size, 0);
  return buffer.equals(bytes.subarray(0, size));
}

/** Of a file that is being written; undefined for what is no line of it. */
function lineIn(bytes: Buffer): TransferLine | z.output<typeof transferEnd> | undefined {
  try {
    return z.union([transferEnd, transferLine]).safeParse(json(bytes)).data;
  } catch (error) {
    if (isFault(error, 'transfer-file-malformed')) return undefined;
    throw error;
  }
}

async function writeAt(file: FileHandle, text: string, at: number): Promise<void> {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
}
