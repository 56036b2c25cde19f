import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';

/** A secret as it could lie about: the bytes, the limbs of an OpenSSL BIGNUM (least significant first), hexadecimal, base64 at each alignment. */
export function spellings(secret: Buffer): Map<string, Buffer> {
  const base64 = [0, 1, 2].map((skip) => secret.subarray(skip).toString('base64').replace(/=+$/, '').slice(0, -2));
  return new Map([
    ['bytes', secret],
    ['limbs', Buffer.from(secret.toReversed())],
    ['hex', Buffer.from(secret.toString('hex'))],
    ...base64.flatMap((text, skip): [string, Buffer][] => [
      [`base64 from ${skip}`, Buffer.from(text)],
      [`base64url from ${skip}`, Buffer.from(text.replaceAll('+', '-').replaceAll('/', '_'))],
    ]),
  ]);
}

function found(where: string, bytes: Buffer, needles: Map<string, Buffer>): string[] {
  return [...needles].filter(([, needle]) => bytes.includes(needle)).map(([name]) => `${name} in ${where}`);
}

const CHUNK = 16 << 20;

/** Where in the memory of a process one of the needles lies (proc(5): maps, mem). Whoever asks must be allowed to trace it. */
export function searchMemory(pid: number, needles: Map<string, Buffer>): { hits: string[]; searched: number } {
  const overlap = Math.max(...[...needles.values()].map(({ length }) => length));
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const buffer = Buffer.alloc(CHUNK + overlap);
  const hits: string[] = [];
  let searched = 0;
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to, name = ''] = /^([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ \S+ *(.*)$/.exec(line) ?? [];
      if (!from || !to || /^\[v(var|syscall)/.test(name)) continue;
      const end = BigInt(`0x${to}`);
      for (let at = BigInt(`0x${from}`); at < end; at += BigInt(CHUNK)) {
        const length = readAt(memory, buffer, at, Number(end - at < BigInt(buffer.length) ? end - at : BigInt(buffer.length)));
        searched += Math.min(length, CHUNK);
        hits.push(...found(`memory ${name || 'without a name'}`, buffer.subarray(0, length), needles));
      }
    }
  } finally {
    closeSync(memory);
  }
  return { hits: [...new Set(hits)], searched };
}

function readAt(file: number, buffer: Buffer, position: bigint, length: number): number {
  try {
    return readSync(file, buffer, 0, length, position);
  } catch {
    return 0; // unmapped since the list was read
  }
}

/** Which files below this folder hold one of the needles. */
export function searchFiles(folder: string, needles: Map<string, Buffer>): { hits: string[]; searched: number } {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const hits = files.flatMap(({ parentPath, name }) => found(join(parentPath, name), readFileSync(join(parentPath, name)), needles));
  return { hits, searched: files.length };
}
