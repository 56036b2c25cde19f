import { createDecipheriv, createHash } from 'node:crypto';
import { damaged } from '../faults.js';
import { piecesOf, type Source } from '../ports.js';
import type { Content, Decryption, Stored } from '../stored.js';
import { type Dict, isDict, nameOf, type Value } from '../values.js';
import { rc4 } from './rc4.js';

export type Method = 'none' | 'rc4' | 'aes-128' | 'aes-256';

/** A crypt filter with its key. */
export interface CryptFilter {
  method: Method;
  key: Buffer;
}

export interface Filters {
  named: ReadonlyMap<string, CryptFilter>;
  streams: string;
  strings: string;
  embedded: string;
  encryptsMetadata: boolean;
}

export const IDENTITY = 'Identity';
const BLOCK = 16;

/** Opens strings and streams of an encrypted document (ISO 32000-2 §7.6.3), each by the filter that it is under. */
export class Opening implements Decryption {
  damagedParts = 0;

  constructor(private readonly filters: Filters) {}

  openStrings(object: Stored): void {
    const filter = this.#filter(this.filters.strings);
    if (object.isPacked || filter.method === 'none') return;
    object.value = openedStrings(object.value, (bytes) => this.#string(bytes, filter, object));
  }

  openWhole(object: Stored, bytes: Buffer): Buffer {
    const filter = this.#filterOf(object);
    if (filter.method === 'none') return bytes;
    return this.#string(bytes, filter, object);
  }

  /** The length is known before the content: padding is looked at first. */
  openStream(object: Stored & { data: { at: number; length: number } }, source: Source): Content {
    const { at, length } = object.data;
    const filter = this.#filterOf(object);
    if (filter.method === 'none') return { length, pieces: piecesOf(source, at, length) };
    const key = keyFor(filter, object);
    if (filter.method === 'rc4') {
      // RC4 documents are of a time of small files; one stream is held.
      return { length, pieces: [rc4(key, source.read(at, length))] };
    }
    const blocks = Math.floor(length / BLOCK) - 1;
    if (length % BLOCK !== 0 || blocks < 0) this.damagedParts += length === 0 ? 0 : 1;
    if (blocks <= 0) return { length: 0, pieces: [] };
    const name = cipherName(filter.method);
    const tail = source.read(at + (blocks - 1) * BLOCK, 2 * BLOCK);
    const last = createDecipheriv(name, key, tail.subarray(0, BLOCK)).setAutoPadding(false).update(tail.subarray(BLOCK));
    const padding = paddingOf(last);
    if (padding === 0) this.damagedParts++;
    const plain = blocks * BLOCK - padding;
    return { length: plain, pieces: decrypted(source, at, blocks, plain, name, key) };
  }

  #string(bytes: Buffer, filter: CryptFilter, object: Stored): Buffer {
    const key = keyFor(filter, object);
    if (filter.method === 'rc4') return rc4(key, bytes);
    const blocks = Math.floor(bytes.length / BLOCK) - 1;
    if (bytes.length % BLOCK !== 0) this.damagedParts++;
    if (blocks <= 0) return Buffer.alloc(0);
    const decipher = createDecipheriv(cipherName(filter.method), key, bytes.subarray(0, BLOCK)).setAutoPadding(false);
    const plain = decipher.update(bytes.subarray(BLOCK, (blocks + 1) * BLOCK));
    const padding = paddingOf(plain);
    if (padding === 0) this.damagedParts++;
    return plain.subarray(0, plain.length - padding);
  }

  #filterOf(object: Stored): CryptFilter {
    const dict = isDict(object.value) ? object.value : new Map<string, Value>();
    const type = nameOf(dict.get('Type'));
    const own = ownFilter(dict);
    if (own !== undefined) return this.#filter(own);
    if (type === 'XRef' || (type === 'Metadata' && !this.filters.encryptsMetadata)) return this.#filter(IDENTITY);
    return this.#filter(type === 'EmbeddedFile' ? this.filters.embedded : this.filters.streams);
  }

  #filter(name: string): CryptFilter {
    if (name === IDENTITY) return { method: 'none', key: Buffer.alloc(0) };
    const filter = this.filters.named.get(name);
    if (!filter) throw damaged('it names a crypt filter that it does not have');
    return filter;
  }
}

/** The filter that a stream names for itself (ISO 32000-2 §7.4.10); it stands first. */
export function ownFilter(dict: Dict): string | undefined {
  const filter = dict.get('Filter');
  const [first] = Array.isArray(filter) ? filter : [filter];
  if (nameOf(first) !== 'Crypt') return undefined;
  const parameters = dict.get('DecodeParms');
  const [parameter] = Array.isArray(parameters) ? parameters : [parameters];
  return (isDict(parameter) && nameOf(parameter.get('Name'))) || IDENTITY;
}

const cipherName = (method: Method) => (method === 'aes-128' ? 'aes-128-cbc' : 'aes-256-cbc');

/** 1 to 16; 0 where it does not fit. */
function paddingOf(plain: Buffer): number {
  const padding = plain.at(-1) ?? 0;
  return padding >= 1 && padding <= BLOCK ? padding : 0;
}

/** ISO 32000-2 §7.6.3.2, algorithm 1: before AES-256, each object has a key of its own. */
function keyFor(filter: CryptFilter, object: Stored): Buffer {
  if (filter.method === 'aes-256') return filter.key;
  const id = Buffer.alloc(5);
  id.writeUIntLE(object.number, 0, 3);
  id.writeUIntLE(object.generation, 3, 2);
  const hash = createHash('md5').update(filter.key).update(id);
  if (filter.method === 'aes-128') hash.update('sAlT', 'latin1');
  return hash.digest().subarray(0, Math.min(16, filter.key.length + 5));
}

function* decrypted(source: Source, at: number, blocks: number, plain: number, name: string, key: Buffer): Generator<Buffer> {
  const decipher = createDecipheriv(name, key, Buffer.from(source.read(at, BLOCK))).setAutoPadding(false);
  let left = plain;
  for (const piece of piecesOf(source, at + BLOCK, blocks * BLOCK)) {
    const bytes = decipher.update(piece);
    yield bytes.length > left ? bytes.subarray(0, left) : bytes;
    left -= Math.min(left, bytes.length);
  }
}

function openedStrings(value: Value, open: (bytes: Buffer) => Buffer): Value {
  if (Buffer.isBuffer(value)) return open(value);
  if (Array.isArray(value)) return value.map((item) => openedStrings(item, open));
  if (!isDict(value)) return value;
  const isSignature = value.has('ByteRange') && value.has('Contents');
  for (const [key, item] of value) if (!(isSignature && key === 'Contents')) value.set(key, openedStrings(item, open));
  return value;
}
