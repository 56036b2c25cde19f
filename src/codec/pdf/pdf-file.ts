import { Fault, isFault } from '../../foundation/index.js';
import { damaged, excessive } from './faults.js';
import { Allowance, decoded } from './filters.js';
import { LIMITS } from './limits.js';
import { isSpace, Parser } from './parser.js';
import { piecesOf, type Source } from './ports.js';
import { repairedPlaces } from './repair.js';
import { readSections } from './sections.js';
import type { Content, Decryption, Stored } from './stored.js';
import { type Dict, integerOf, isDict, nameOf, Ref, type Value } from './values.js';
import { Window } from './window.js';
import type { Places } from './xref.js';

/** A cross-reference that does not lead to its object: the whole file is looked through instead. */
class Misled extends Fault {
  constructor() {
    super('malformed', 'pdf-damaged', 'the PDF is damaged: its cross-references lead nowhere');
  }
}

const CACHED_CONTAINERS = 4;

/** A document read where it lies: nothing of it is held but where its objects stand. */
export class PdfFile {
  readonly #window: Window;
  readonly #allowance: Allowance;
  readonly #containers = new Map<number, Map<number, Value>>();
  #consumed = 0;
  #places: Places;
  #trailer: Dict;
  #isRepaired = false;
  decryption: Decryption | undefined;

  private constructor(readonly source: Source) {
    this.#window = new Window(source, (bytes) => this.#consume(bytes));
    this.#allowance = new Allowance(source.size);
    if (source.read(0, 1024).indexOf('%PDF-') < 0) throw new Fault('malformed', 'pdf-not', 'this is not a PDF');
    try {
      const { places, trailer } = readSections(this.#window, (at) => this.#readStream(at));
      [this.#places, this.#trailer] = [places, trailer];
      this.#assertRooted();
    } catch (error) {
      if (!isFault(error, 'pdf-damaged') && !isFault(error, 'pdf-unsupported')) throw error;
      [this.#places, this.#trailer] = [undefined as unknown as Places, new Map()]; // set by the next line
      this.#repair();
    }
  }

  /** Throws `pdf-not`, `pdf-damaged`, `pdf-truncated`, `pdf-excessive`. */
  static open(source: Source): PdfFile {
    return new PdfFile(source);
  }

  get trailer(): Dict {
    return this.#trailer;
  }

  get isRepaired(): boolean {
    return this.#isRepaired;
  }

  /** One more than the highest object number. */
  get end(): number {
    return this.#places.end;
  }

  /** The Encrypt dictionary, its strings as they are. */
  encryptDict(): Dict | undefined {
    const entry = this.trailer.get('Encrypt');
    const value = entry instanceof Ref ? this.#readDirect(entry.number)?.value : entry;
    if (entry !== undefined && entry !== null && !isDict(value)) throw damaged('its Encrypt entry is no dictionary');
    return isDict(value) ? value : undefined;
  }

  /** Runs `work`; where the cross-references mislead it, once more after the file was looked through. */
  withRepair<T>(work: () => T, again: () => void): T {
    try {
      return work();
    } catch (error) {
      if (this.#isRepaired || !isFault(error, 'pdf-damaged')) throw error;
      this.#repair();
      again();
      return work();
    }
  }

  /** The value that a reference leads to, through as many as 32 others. */
  resolve(value: Value | undefined): Value | undefined {
    let found = value;
    for (let hops = 0; found instanceof Ref; hops++) {
      if (hops > 32) throw damaged('references lead in a circle');
      found = this.object(found.number)?.value;
    }
    return found;
  }

  dict(value: Value | undefined): Dict | undefined {
    const found = this.resolve(value);
    return isDict(found) ? found : undefined;
  }

  /** One object, decrypted but for its stream. */
  object(number: number): Stored | undefined {
    const place = this.#places.get(number);
    if (!place) return undefined;
    if (place.kind === 'direct') return this.#opened(this.#readDirect(number));
    const value = this.#container(place.container).get(number);
    return value === undefined ? undefined : { number, generation: 0, value, isPacked: true };
  }

  /** All objects, in the order of the file; never those that only carry others. */
  *objects(): Generator<Stored> {
    const packed = this.#places.packed();
    const encrypt = this.trailer.get('Encrypt');
    for (const number of this.#places.direct()) {
      if (encrypt instanceof Ref && encrypt.number === number) continue;
      const stored = this.#readDirect(number);
      if (!stored) continue;
      const type = isDict(stored.value) ? nameOf(stored.value.get('Type')) : undefined;
      if (stored.data && (type === 'XRef' || type === 'ObjStm')) continue;
      const opened = this.#opened(stored);
      if (opened) yield opened;
    }
    for (const [container, numbers] of packed) {
      const values = this.#container(container);
      for (const number of numbers) {
        const value = values.get(number);
        if (value !== undefined) yield { number, generation: 0, value, isPacked: true };
      }
      this.#containers.delete(container);
    }
  }

  /** The content of a stream as it was before encryption; its filters stay as they are. */
  content(object: Stored & { data: { at: number; length: number } }): Content {
    if (this.decryption) return this.decryption.openStream(object, this.source);
    return { length: object.data.length, pieces: piecesOf(this.source, object.data.at, object.data.length) };
  }

  #opened(stored: Stored | undefined): Stored | undefined {
    if (stored && this.decryption) this.decryption.openStrings(stored);
    return stored;
  }

  #readDirect(number: number): Stored | undefined {
    const place = this.#places.get(number);
    if (place?.kind !== 'direct') return undefined;
    return this.#readAt(place.at, number);
  }

  #readAt(at: number, number?: number): Stored {
    const stored = this.#window.parse(at, (parser) => {
      const found = parser.whole();
      const generation = parser.whole();
      if (found === undefined || generation === undefined || !parser.takes('obj') || (number !== undefined && found !== number))
        throw new Misled();
      if (parser.takes('endobj')) return { number: found, generation, value: null, isPacked: false, end: this.#window.placeOf(parser) };
      const value = parser.value();
      const hasStream = isDict(value) && parser.takes('stream');
      if (hasStream) {
        if (parser.bytes[parser.at] === 0x0d) parser.at++;
        if (parser.bytes[parser.at] === 0x0a) parser.at++;
      }
      return { number: found, generation, value, isPacked: false, hasStream, end: this.#window.placeOf(parser) };
    });
    const { end, hasStream, ...object } = stored as Stored & { end: number; hasStream?: boolean };
    this.#consume(end - at);
    if (!hasStream || !isDict(object.value)) return object;
    const length = this.#streamLength(object.value, end);
    this.#consume(length);
    return { ...object, data: { at: end, length } };
  }

  /** What overlapping objects read again and again adds up to. */
  #consume(bytes: number): void {
    this.#consumed += bytes;
    // Everything may be read twice, once to look and once to write, and again after a repair.
    if (this.#consumed > (2 + LIMITS.overlap) * this.source.size + 2 ** 22) throw excessive('its objects overlap');
  }

  #streamLength(dict: Dict, at: number): number {
    const entry = dict.get('Length');
    const announced = entry instanceof Ref ? this.#lengthObject(entry.number) : integerOf(entry);
    if (announced !== undefined && announced >= 0 && at + announced <= this.source.size && this.#endsAt(at + announced)) return announced;
    const end = this.#window.find('endstream', at);
    if (end < 0) throw new Fault('malformed', 'pdf-truncated', 'the PDF ends inside a stream');
    const [before, last] = this.source.read(end - 2, 2);
    const ending = last === 0x0a ? (before === 0x0d ? 2 : 1) : last === 0x0d ? 1 : 0;
    return Math.max(0, end - ending - at);
  }

  #lengthObject(number: number): number | undefined {
    const place = this.#places?.get(number);
    if (place?.kind !== 'direct') return place ? integerOf(this.object(number)?.value) : undefined;
    try {
      return this.#window.parse(place.at, (parser) =>
        parser.whole() === number && parser.whole() !== undefined && parser.takes('obj') ? parser.whole() : undefined,
      );
    } catch {
      return undefined;
    }
  }

  #endsAt(at: number): boolean {
    const bytes = this.source.read(at, 16);
    let start = 0;
    while (isSpace(bytes[start])) start++;
    return start <= 3 && bytes.toString('latin1', start, start + 9) === 'endstream';
  }

  #readStream(at: number): { dict: Dict; content: Buffer; number: number } {
    const stored = this.#readAt(at);
    if (!stored.data || !isDict(stored.value)) throw damaged('a cross-reference stream is none');
    return { dict: stored.value, content: this.#structural(stored), number: stored.number };
  }

  #structural(stored: Stored): Buffer {
    if (!stored.data || !isDict(stored.value)) throw damaged('an object stream is none');
    if (stored.data.length > LIMITS.inflatedBytes) throw excessive(`a structural stream of more than ${LIMITS.inflatedBytes} bytes`);
    const raw = this.#window.bytes(stored.data.at, stored.data.length);
    const isOpen = nameOf(stored.value.get('Type')) === 'XRef';
    return decoded(this.decryption && !isOpen ? this.decryption.openWhole(stored, raw) : raw, stored.value, this.#allowance);
  }

  /** ISO 32000-2 §7.5.7 */
  #container(number: number): Map<number, Value> {
    const known = this.#containers.get(number);
    if (known) return known;
    const stored = this.#readDirect(number);
    if (!stored || !isDict(stored.value)) throw damaged('an object stream is missing');
    const values = packedValues(stored.value, this.#structural(stored));
    if (this.#containers.size >= CACHED_CONTAINERS)
      for (const oldest of [...this.#containers.keys()].slice(0, 1)) this.#containers.delete(oldest);
    this.#containers.set(number, values);
    return values;
  }

  #assertRooted(): void {
    if (this.encryptDict()) return; // an encrypted catalog is looked at when it is open
    const catalog = this.dict(this.trailer.get('Root'));
    if (!catalog?.has('Pages')) throw new Misled();
  }

  #repair(): void {
    this.#isRepaired = true;
    this.#containers.clear();
    this.#consumed = 0;
    const found = repairedPlaces(
      this.source,
      this.#window,
      (at) => this.#readAt(at),
      (container) => packedNumbers(container.value as Dict, this.#structural(container)).map(([number]) => number),
    ); // a container's value is a dictionary
    [this.#places, this.#trailer] = [found.places, found.trailer];
    this.#assertRooted();
  }
}

function packedNumbers(dict: Dict, content: Buffer): [number: number, offset: number][] {
  const count = integerOf(dict.get('N')) ?? 0;
  const first = integerOf(dict.get('First')) ?? 0;
  if (count < 0 || count > LIMITS.values) throw excessive(`an object stream of ${count} objects`);
  const header = new Parser(content, 0, true);
  const found: [number, number][] = [];
  for (let index = 0; index < count; index++) {
    const [number, offset] = [header.whole(), header.whole()];
    if (number === undefined || offset === undefined) break;
    found.push([number, first + offset]);
  }
  return found;
}

function packedValues(dict: Dict, content: Buffer): Map<number, Value> {
  const values = new Map<number, Value>();
  let read = 0;
  for (const [number, offset] of packedNumbers(dict, content)) {
    if (offset >= content.length) {
      values.set(number, null);
      continue;
    }
    const parser = new Parser(content, offset, true);
    values.set(number, parser.value());
    read += parser.at - offset;
    if (read > 2 * content.length) throw excessive('objects in an object stream overlap');
  }
  return values;
}
