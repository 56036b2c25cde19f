import { z } from 'zod';
import { fromBase64 } from '../../foundation/index.js';
import { faultOnWire } from './token-faults.js';

/**
 * What travels on the token socket (docs/formats/token-journal.md, "The channel"): a 4-byte big-endian length, then UTF-8 text: one line of
 * JSON (the head), LF, JSON (the body). Bytes in a body are `{"$b": base64}`. Only JSON is ever parsed from the peer: a deserialiser that makes
 * objects of its own would let a compromised API process choose them.
 */
export const FRAME_LIMIT = 16 * 2 ** 20; // bytes: a CRL of some 100,000 entries

export interface Frame {
  head: string;
  body: string;
}

export function encodeFrame(head: object, body: string): Buffer {
  const text = `${JSON.stringify(head)}\n${body}`;
  const length = Buffer.byteLength(text);
  if (length > FRAME_LIMIT) throw new RangeError('a frame of this size does not pass the token socket');
  const frame = Buffer.allocUnsafe(4 + length);
  frame.writeUInt32BE(length);
  frame.write(text, 4);
  return frame;
}

/** Cuts a byte stream into frames. Throws on what cannot be one; the connection is then to be closed, since nothing after it can be trusted. */
export class FrameReader {
  private chunks: Buffer[] = [];
  private held = 0;

  push(chunk: Buffer): Frame[] {
    this.chunks.push(chunk);
    this.held += chunk.length;
    const frames: Frame[] = [];
    for (;;) {
      const length = this.length();
      if (length === undefined || this.held < 4 + length) return frames;
      const all = this.joined();
      frames.push(cut(all.toString('utf8', 4, 4 + length)));
      this.chunks = all.length > 4 + length ? [all.subarray(4 + length)] : [];
      this.held = all.length - 4 - length;
    }
  }

  private length(): number | undefined {
    if (this.held < 4) return undefined;
    const first = this.chunks[0];
    const length = (first && first.length >= 4 ? first : this.joined()).readUInt32BE();
    if (length > FRAME_LIMIT) throw new RangeError('frame too long');
    return length;
  }

  private joined(): Buffer {
    const all = this.chunks.length === 1 ? this.chunks[0] : undefined;
    const joined = all ?? Buffer.concat(this.chunks);
    this.chunks = [joined];
    return joined;
  }
}

function cut(text: string): Frame {
  const end = text.indexOf('\n');
  if (end < 0) throw new RangeError('frame without a head');
  return { head: text.slice(0, end), body: text.slice(end + 1) };
}

export const requestHead = z.strictObject({ id: z.int().nonnegative(), op: z.string().max(32) });

export const answerHead = z.strictObject({ id: z.int().nonnegative(), fault: faultOnWire.optional() });

export function encodeBody(value: unknown): string {
  return JSON.stringify(value === undefined ? null : tagged(value));
}

/** Throws (SyntaxError, RangeError) on what is not such a body. */
export function decodeBody(text: string): unknown {
  return untagged(JSON.parse(text));
}

function tagged(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $b: Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64') };
  if (Array.isArray(value)) return value.map(tagged);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, tagged(inner)]));
}

function untagged(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(untagged);
  if (value === null || typeof value !== 'object') return value;
  const members = Object.entries(value);
  if (members.length === 1 && members[0]?.[0] === '$b') {
    const bytes = typeof members[0][1] === 'string' ? fromBase64(members[0][1], 'base64') : undefined;
    if (!bytes) throw new RangeError('bytes that are not base64');
    return bytes;
  }
  // fromEntries defines properties, so that a member named __proto__ stays a member.
  return Object.fromEntries(members.map(([name, inner]) => [name, untagged(inner)]));
}
