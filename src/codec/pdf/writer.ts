import { constants, deflateSync } from 'node:zlib';
import type { Sink } from './ports.js';
import { type Dict, Name, spell, type Value } from './values.js';

/** How a new document's strings and streams are encrypted; see security/. */
export interface Sealer {
  string(bytes: Buffer): Buffer;
  /** Length of what `stream` makes of `length` bytes. */
  lengthOf(length: number): number;
  stream(pieces: Iterable<Buffer>): Iterable<Buffer>;
}

/** Objects of one object stream, and their bytes: more compress no better and make readers inflate more than they need. */
const PACK_OBJECTS = 200;
const PACK_BYTES = 64 * 1024;
const BUFFERED = 2 ** 20;

type Entry = { number: number; type: 1 | 2; a: number; b: number };

/** Writes a document from its first byte to its last: objects without streams go into object streams, so that a file does not grow (ISO 32000-2 §7.5.7). */
export class Writer {
  #at = 0;
  #buffered: Buffer[] = [];
  #bufferedBytes = 0;
  readonly #entries: Entry[] = [];
  #pack: { number: number; text: string }[] = [];
  #packBytes = 0;
  #next: number;

  /** @param first the first object number that is free for objects of ours */
  constructor(
    private readonly sink: Sink,
    version: string,
    first: number,
    private readonly seal: { strings: Sealer | undefined; structure: Sealer | undefined },
  ) {
    this.#next = first;
    this.#raw(Buffer.from(`%PDF-${version}\n%\xe2\xe3\xcf\xd3\n`, 'latin1'));
  }

  newNumber(): number {
    return this.#next++;
  }

  value(number: number, generation: number, value: Value): void {
    if (generation !== 0) {
      this.plain(number, generation, value, true);
      return;
    }
    const text = spell(value);
    this.#pack.push({ number, text });
    this.#packBytes += text.length;
    if (this.#pack.length >= PACK_OBJECTS || this.#packBytes >= PACK_BYTES) this.#flushPack();
  }

  /** An object that stands by itself. */
  plain(number: number, generation: number, value: Value, isSealed: boolean): void {
    this.#begin(number, generation);
    this.#text(`${spell(value, isSealed ? this.#stringSeal : undefined)}\nendobj\n`);
  }

  /** @param sealer undefined for a stream that stays as it is */
  stream(
    number: number,
    generation: number,
    dict: Dict,
    length: number,
    pieces: Iterable<Buffer>,
    sealer: Sealer | undefined,
    isSealed = true,
  ): void {
    this.#begin(number, generation);
    const whole = new Map(dict).set('Length', sealer ? sealer.lengthOf(length) : length);
    this.#text(`${spell(whole, isSealed ? this.#stringSeal : undefined)}\nstream\n`);
    for (const piece of sealer ? sealer.stream(pieces) : pieces) this.#raw(piece);
    this.#text('\nendstream\nendobj\n');
  }

  /** Cross-references and the end. */
  finish(trailer: Dict): void {
    this.#flushPack();
    const number = this.newNumber();
    const at = this.#at;
    this.#entries.push({ number, type: 1, a: at, b: 0 });
    const entries = this.#entries.sort((x, y) => x.number - y.number);
    const width = Math.max(3, Math.ceil(Math.log2(at + 2) / 8));
    const row = 1 + width + 2;
    const { index, rows } = sections(entries);
    // PNG's "up": most rows differ from the one above in a byte or two.
    const table = Buffer.alloc(rows.length * (row + 1));
    rows.forEach((entry, position) => {
      const start = position * (row + 1);
      table[start] = 2;
      table[start + 1] = entry.type;
      table.writeUIntBE(entry.a, start + 2, width);
      table.writeUIntBE(entry.b, start + 2 + width, 2);
    });
    for (let position = rows.length - 1; position > 0; position--)
      for (let column = 1; column <= row; column++) {
        const here = position * (row + 1) + column;
        table[here] = (table[here] ?? 0) - (table[here - row - 1] ?? 0);
      }
    const content = deflateSync(table);
    const dict: Dict = new Map<string, Value>([
      ['Type', new Name('XRef')],
      ['Size', this.#next],
      ['W', [1, width, 2]],
      ['Index', index],
      ['Filter', new Name('FlateDecode')],
      [
        'DecodeParms',
        new Map<string, Value>([
          ['Predictor', 12],
          ['Columns', row],
        ]),
      ],
      ...trailer,
    ]);
    this.stream(number, 0, dict, content.length, [content], undefined, false);
    this.#entries.pop();
    this.#text(`startxref\n${at}\n%%EOF\n`);
    this.#flush();
  }

  #stringSeal = (bytes: Buffer): Buffer => this.seal.strings?.string(bytes) ?? bytes;

  #flushPack(): void {
    if (this.#pack.length === 0) return;
    const container = this.newNumber();
    let [head, body] = ['', ''];
    this.#pack.forEach(({ number, text }, index) => {
      head += `${number} ${body.length} `;
      body += `${text}\n`;
      this.#entries.push({ number, type: 2, a: container, b: index });
    });
    const content = deflateSync(Buffer.from(head + body, 'latin1'), { level: constants.Z_DEFAULT_COMPRESSION });
    const dict: Dict = new Map<string, Value>([
      ['Type', new Name('ObjStm')],
      ['N', this.#pack.length],
      ['First', head.length],
      ['Filter', new Name('FlateDecode')],
    ]);
    this.#pack = [];
    this.#packBytes = 0;
    this.stream(container, 0, dict, content.length, [content], this.seal.structure);
  }

  #begin(number: number, generation: number): void {
    this.#entries.push({ number, type: 1, a: this.#at, b: generation });
    this.#text(`${number} ${generation} obj\n`);
  }

  #text(text: string): void {
    this.#raw(Buffer.from(text, 'latin1'));
  }

  #raw(bytes: Buffer): void {
    this.#at += bytes.length;
    if (bytes.length >= BUFFERED / 4) {
      this.#flush();
      this.sink.write(bytes);
      return;
    }
    this.#buffered.push(Buffer.from(bytes));
    this.#bufferedBytes += bytes.length;
    if (this.#bufferedBytes >= BUFFERED) this.#flush();
  }

  #flush(): void {
    if (this.#bufferedBytes > 0) this.sink.write(Buffer.concat(this.#buffered));
    this.#buffered = [];
    this.#bufferedBytes = 0;
  }
}

/** Runs of numbers, as the Index entry has them; object 0 heads the free ones. */
function sections(entries: readonly Entry[]): { index: number[]; rows: { type: number; a: number; b: number }[] } {
  const rows: { type: number; a: number; b: number }[] = [{ type: 0, a: 0, b: 65_535 }];
  const index = [0, 1];
  let last = 0;
  for (const entry of entries) {
    if (entry.number === 0) continue;
    if (entry.number === last + 1) index[index.length - 1] = (index.at(-1) ?? 0) + 1;
    else index.push(entry.number, 1);
    last = entry.number;
    rows.push(entry);
  }
  return { index, rows };
}
