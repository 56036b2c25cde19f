import { damaged, excessive } from './faults.js';
import { LIMITS } from './limits.js';
import { type Dict, Name, Ref, Spelled, type Value } from './values.js';

/** The window ends before the value does: the caller reads more. */
export class WindowTooSmall extends Error {}

const SPACE = 1;
const DELIMITER = 2;
const KIND = new Uint8Array(256);
for (const octet of [0, 9, 10, 12, 13, 32]) KIND[octet] = SPACE;
for (const character of '()<>[]{}/%') KIND[character.charCodeAt(0)] = DELIMITER;

export const isSpace = (octet: number | undefined): boolean => octet !== undefined && KIND[octet] === SPACE;

const names = new Map<string, Name>();
function internedName(text: string): Name {
  const known = names.get(text);
  if (known) return known;
  const name = new Name(text);
  if (names.size < 4096) names.set(text, name);
  return name;
}

/** Reads values (ISO 32000-2 §7.2, §7.3) from a window of the file; forgiving where readers are, bounded everywhere. */
export class Parser {
  #values = 0;

  /** @param isWhole whether nothing follows the window */
  constructor(
    readonly bytes: Buffer,
    public at: number,
    private readonly isWhole: boolean,
  ) {}

  skipSpace(): void {
    const { bytes } = this;
    for (;;) {
      const octet = this.#peek();
      if (octet === 0x25) {
        while (this.at < bytes.length && bytes[this.at] !== 10 && bytes[this.at] !== 13) this.at++;
      } else if (isSpace(octet)) this.at++;
      else return;
    }
  }

  /** The octet here; -1 at the end of the file. */
  #peek(): number {
    if (this.at < this.bytes.length) return this.bytes[this.at] ?? -1;
    if (!this.isWhole) throw new WindowTooSmall();
    return -1;
  }

  /** A run of regular characters; empty at a delimiter. */
  word(): string {
    const { bytes } = this;
    const start = this.at;
    while (this.at < bytes.length && KIND[bytes[this.at] ?? 0] === 0) this.at++;
    if (this.at === bytes.length && !this.isWhole) throw new WindowTooSmall();
    return bytes.toString('latin1', start, this.at);
  }

  /** Takes `word` if it stands here. */
  takes(word: string): boolean {
    this.skipSpace();
    const before = this.at;
    if (this.word() === word) return true;
    this.at = before;
    return false;
  }

  /** A whole number ≥ 0, or undefined and nothing taken. */
  whole(): number | undefined {
    this.skipSpace();
    const before = this.at;
    const text = this.word();
    if (/^\d{1,15}$/.test(text)) return Number(text);
    this.at = before;
    return undefined;
  }

  value(depth = 0): Value {
    if (++this.#values > LIMITS.values) throw excessive(`an object of more than ${LIMITS.values} values`);
    if (depth > LIMITS.depth) throw excessive(`objects more than ${LIMITS.depth} deep in one another`);
    this.skipSpace();
    const octet = this.#peek();
    if (octet === 0x2f) return this.#name();
    if (octet === 0x28) return this.#literal();
    if (octet === 0x3c) {
      if (this.#next() === 0x3c) return this.#dict(depth);
      return this.#hex();
    }
    if (octet === 0x5b) return this.#array(depth);
    if (octet === -1) throw damaged('it ends inside an object');
    return this.#word();
  }

  #next(): number {
    if (this.at + 1 >= this.bytes.length && !this.isWhole) throw new WindowTooSmall();
    return this.bytes[this.at + 1] ?? -1;
  }

  #word(): Value {
    const text = this.word();
    const first = text.charCodeAt(0);
    const isNumeric = (first >= 0x30 && first <= 0x39) || first === 0x2b || first === 0x2d || first === 0x2e;
    if (isNumeric) {
      if (text.length > 15 || !/^(0|-?[1-9]\d*)$/.test(text)) return spelled(text);
      const number = Number(text);
      if (first === 0x2d) return number;
      return this.#reference(number) ?? number;
    }
    if (text === 'true') return true;
    if (text === 'false') return false;
    if (text === 'null') return null;
    throw damaged(text === '' ? 'a delimiter stands where a value belongs' : 'a word stands where a value belongs');
  }

  /** `12 0 R`: two whole numbers and the letter. */
  #reference(number: number): Ref | undefined {
    const { bytes } = this;
    let at = this.at;
    while (isSpace(bytes[at])) at++;
    const start = at;
    while (at < bytes.length && (bytes[at] ?? 0) >= 0x30 && (bytes[at] ?? 0) <= 0x39) at++;
    const end = at;
    while (isSpace(bytes[at])) at++;
    if (at + 1 >= bytes.length && !this.isWhole) throw new WindowTooSmall();
    if (end === start || end - start > 5 || at === end || bytes[at] !== 0x52) return undefined;
    if (at + 1 < bytes.length && KIND[bytes[at + 1] ?? 0] === 0) return undefined;
    this.at = at + 1;
    return new Ref(number, Number(bytes.toString('latin1', start, end)));
  }

  #name(): Name {
    this.at++;
    const text = this.word();
    if (!text.includes('#')) return internedName(text);
    return internedName(text.replace(/#([0-9a-fA-F]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16))));
  }

  #array(depth: number): Value[] {
    this.at++;
    const items: Value[] = [];
    for (;;) {
      this.skipSpace();
      if (this.#peek() === 0x5d) {
        this.at++;
        return items;
      }
      items.push(this.value(depth + 1));
    }
  }

  #dict(depth: number): Dict {
    this.at += 2;
    const dict: Dict = new Map();
    for (;;) {
      this.skipSpace();
      const octet = this.#peek();
      if (octet === 0x3e) {
        if (this.#next() !== 0x3e) throw damaged('a dictionary does not end well');
        this.at += 2;
        return dict;
      }
      if (octet !== 0x2f) throw damaged('a key of a dictionary is no name');
      const key = this.#name().text;
      this.#values++;
      this.skipSpace();
      if (this.#peek() === 0x3e && this.#next() === 0x3e) continue;
      dict.set(key, this.value(depth + 1));
    }
  }

  #hex(): Buffer {
    const end = this.bytes.indexOf(0x3e, this.at);
    if (end < 0) {
      this.at = this.bytes.length;
      if (!this.isWhole) throw new WindowTooSmall();
      throw damaged('it ends inside a string');
    }
    const digits = this.bytes.toString('latin1', this.at + 1, end).replace(/[^0-9a-fA-F]/g, '');
    this.at = end + 1;
    return Buffer.from(digits.length % 2 ? `${digits}0` : digits, 'hex');
  }

  #literal(): Buffer {
    const { bytes } = this;
    const start = this.at + 1;
    let isPlain = true;
    let open = 1;
    let at = start;
    for (; at < bytes.length; at++) {
      const octet = bytes[at];
      if (octet === 0x5c) {
        isPlain = false;
        at++;
      } else if (octet === 0x0d) isPlain = false;
      else if (octet === 0x28) open++;
      else if (octet === 0x29 && --open === 0) break;
    }
    if (at >= bytes.length) {
      this.at = bytes.length;
      if (!this.isWhole) throw new WindowTooSmall();
      throw damaged('it ends inside a string');
    }
    this.at = at + 1;
    return isPlain ? Buffer.from(bytes.subarray(start, at)) : unescaped(bytes.subarray(start, at));
  }
}

function spelled(text: string): Spelled | number {
  // Whatever stands for a number is kept as it is; readers agree that what is none counts as 0.
  return /^[+-]*\d*\.?\d*(-\d*)?$/.test(text) || /^[+-]?[\d.]+[eE][+-]?\d+$/.test(text) ? new Spelled(text) : 0;
}

const ESCAPES: Readonly<Record<number, number>> = { 110: 10, 114: 13, 116: 9, 98: 8, 102: 12 };

/** ISO 32000-2 §7.3.4.2 */
function unescaped(raw: Buffer): Buffer {
  const bytes = Buffer.alloc(raw.length);
  let length = 0;
  for (let at = 0; at < raw.length; at++) {
    let octet = raw[at] ?? 0;
    if (octet === 0x0d) {
      if (raw[at + 1] === 0x0a) at++;
      octet = 0x0a;
    } else if (octet === 0x5c) {
      octet = raw[++at] ?? 0;
      if (octet === 0x0d || octet === 0x0a) {
        if (octet === 0x0d && raw[at + 1] === 0x0a) at++;
        continue;
      }
      if (octet >= 0x30 && octet <= 0x37) {
        let code = octet - 0x30;
        for (let more = 0; more < 2 && (raw[at + 1] ?? 0) >= 0x30 && (raw[at + 1] ?? 0) <= 0x37; more++)
          code = code * 8 + (raw[++at] ?? 0) - 0x30;
        octet = code & 0xff;
      } else octet = ESCAPES[octet] ?? octet;
    }
    bytes[length++] = octet;
  }
  return bytes.subarray(0, length);
}
