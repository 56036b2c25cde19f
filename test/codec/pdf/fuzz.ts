import { openTransport } from '../../../src/codec/cms/index.js';
import { permissionBits, publicKeySecurity, rewrite } from '../../../src/codec/pdf/index.js';
import { isFault } from '../../../src/foundation/index.js';
import { MemorySink, testCertificate, testKey, unlocked } from './documents.js';

/** A generator that one number repeats (mulberry32). */
export function dice(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const WORDS = [
  'obj',
  'endobj',
  'stream',
  'endstream',
  'xref',
  'trailer',
  'startxref',
  '<<',
  '>>',
  '[',
  ']',
  '(',
  ')',
  '/Length',
  '/Prev',
  '/N',
  '/First',
  '/W',
  '/Size',
  '/Kids',
  'R',
  '0 0 R',
  '1 0 R',
  '99999999999',
  '-1',
  '%PDF-1.7',
  '#00',
];

/** One document bent: octets changed, cut, doubled, moved, words put in, numbers made large. */
export function mutated(original: Buffer, roll: (below: number) => number): Buffer {
  let bytes = Buffer.from(original);
  for (let times = 1 + roll(4); times > 0; times--) {
    const at = roll(bytes.length || 1);
    const length = 1 + roll(64);
    const kind = roll(7);
    if (kind === 0) bytes[at] = roll(256);
    else if (kind === 1) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    else if (kind === 2) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at)]);
    else if (kind === 3)
      bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(WORDS[roll(WORDS.length)] ?? ''), bytes.subarray(at + roll(8))]);
    else if (kind === 4) bytes = bytes.subarray(0, Math.max(1, bytes.length - roll(2 * length)));
    else if (kind === 5)
      for (let index = 0; index < length && at + index < bytes.length; index++)
        bytes[at + index] = (bytes[at + index] ?? 0) ^ (1 << roll(8));
    else {
      // A digit somewhere becomes another: lengths, offsets, numbers of objects.
      for (let index = at; index < bytes.length; index++)
        if ((bytes[index] ?? 0) >= 0x30 && (bytes[index] ?? 0) <= 0x39) {
          bytes[index] = 0x30 + roll(10);
          break;
        }
    }
  }
  return bytes;
}

/** What the key opened before: most mutations leave that be, and RSA would take most of the time. */
const opened = new Map<string, Buffer | undefined>();
const openOnce: typeof openTransport = (key, transport, encryptedKey) => {
  const name = `${transport.scheme} ${encryptedKey.toString('latin1')}`;
  if (opened.size > 1000) opened.clear();
  if (!opened.has(name)) opened.set(name, openTransport(key, transport, encryptedKey));
  return opened.get(name);
};

export interface Told {
  outcome: string;
  milliseconds: number;
}

const security = publicKeySecurity(
  [{ certificates: [testCertificate], permissions: permissionBits('owner') }],
  { transport: 'pkcs1', cipher: 'aes-256-cbc' },
  'all',
);

/** Encrypts what is plain, decrypts what opens. Whatever is not a Fault comes out as what it is. */
export function tried(bytes: Buffer): Told {
  const began = process.threadCpuUsage();
  let outcome: string;
  try {
    const file = unlocked(bytes, testKey, openOnce);
    rewrite(file, new MemorySink(), { ...(file.decryption ? {} : { security }), signatures: 'break' });
    outcome = 'done';
  } catch (error) {
    if (isFault(error)) outcome = error.code;
    else if (error instanceof Error && error.message === 'the key opens none of the envelopes') outcome = 'not-opened';
    else outcome = `DEFECT ${error instanceof Error ? error.stack : String(error)}`;
  }
  // Of CPU: what else the machine does says nothing of a document.
  const { user, system } = process.threadCpuUsage(began);
  return { outcome, milliseconds: (user + system) / 1000 };
}
