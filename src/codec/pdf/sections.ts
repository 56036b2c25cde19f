import { damaged, excessive } from './faults.js';
import { LIMITS } from './limits.js';
import { type Dict, integerOf, isDict } from './values.js';
import type { Window } from './window.js';
import { Places } from './xref.js';

type ReadStream = (at: number) => { dict: Dict; content: Buffer };

/** Follows the sections of cross-references from the newest back (ISO 32000-2 §7.5.4, §7.5.8): tables, streams, and tables with a stream beside. */
export function readSections(window: Window, readStream: ReadStream): { places: Places; trailer: Dict } {
  const places = new Places();
  const seen = new Set<number>();
  let trailer: Dict | undefined;
  for (let at: number | undefined = startOf(window); at !== undefined; ) {
    if (seen.has(at)) throw damaged('its cross-references lead in a circle');
    if (seen.size >= LIMITS.sections) throw excessive(`more than ${LIMITS.sections} sections of cross-references`);
    seen.add(at);
    const dict: Dict = isTable(window, at) ? readTable(window, at, places, readStream) : readStreamSection(readStream(at), places);
    trailer ??= dict;
    at = integerOf(dict.get('Prev'));
    if (at === 0) at = undefined; // some programs write this for none
  }
  if (!trailer) throw damaged('it has no trailer');
  return { places, trailer };
}

function startOf(window: Window): number {
  const length = Math.min(window.size, 2048);
  const tail = window.bytes(window.size - length, length).toString('latin1');
  const found = /startxref\s+(\d{1,15})/.exec(tail.slice(Math.max(0, tail.lastIndexOf('startxref'))));
  if (!found) throw damaged('the end of the file does not say where its cross-references are');
  return Number(found[1]);
}

const isTable = (window: Window, at: number): boolean => window.parse(at, (parser) => parser.takes('xref'));

function readTable(window: Window, at: number, places: Places, readStream: ReadStream): Dict {
  const free: number[] = [];
  let next = window.parse(at, (parser) => {
    parser.takes('xref');
    return window.placeOf(parser);
  });
  for (;;) {
    const head = window.parse(next, (parser) => {
      if (parser.takes('trailer')) return { trailer: parser.value() };
      const [first, count] = [parser.whole(), parser.whole()];
      if (first === undefined || count === undefined) throw damaged('a table of cross-references is malformed');
      return { first, count, at: window.placeOf(parser) };
    });
    if (head.trailer !== undefined) {
      if (!isDict(head.trailer)) throw damaged('its trailer is no dictionary');
      const beside = integerOf(head.trailer.get('XRefStm'));
      // ISO 32000-2 §7.5.8.4: what the table calls free may stand in the stream beside it.
      if (beside !== undefined) readStreamSection(readStream(beside), places);
      for (const number of free) places.set(number, 'free');
      return head.trailer;
    }
    next = readEntries(window, head as { first: number; count: number; at: number }, places, free);
  }
}

/** Entries are read as words, not by their 20 bytes: many programs get the line ends wrong. */
function readEntries(
  window: Window,
  { first, count, at }: { first: number; count: number; at: number },
  places: Places,
  free: number[],
): number {
  if (first + count > LIMITS.objects) throw excessive(`object number ${first + count}`);
  let next = at;
  for (let done = 0; done < count; ) {
    next = window.parse(next, (parser) => {
      for (let batch = 0; batch < 256 && done < count; batch++, done++) {
        const [offset, generation] = [parser.whole(), parser.whole()];
        if (offset === undefined || generation === undefined) throw damaged('a table of cross-references is malformed');
        if (parser.takes('n')) {
          // An offset of 0 is an object that was never written.
          if (offset === 0) free.push(first + done);
          else places.set(first + done, { kind: 'direct', at: offset, generation });
        } else if (parser.takes('f')) free.push(first + done);
        else throw damaged('a table of cross-references is malformed');
      }
      return window.placeOf(parser);
    });
  }
  return next;
}

function readStreamSection({ dict, content }: { dict: Dict; content: Buffer }, places: Places): Dict {
  const widths = dict.get('W');
  const [kind = -1, second = -1, third = -1] = Array.isArray(widths) ? widths.map((width) => integerOf(width) ?? -1) : [];
  if ([kind, second, third].some((width) => width < 0 || width > 8)) throw damaged('a cross-reference stream is malformed');
  const size = integerOf(dict.get('Size')) ?? 0;
  const index = dict.get('Index');
  const ranges = Array.isArray(index) ? index.map((value) => integerOf(value) ?? -1) : [0, size];
  const width = kind + second + third;
  if (width === 0) throw damaged('a cross-reference stream is malformed');
  // Eight bytes are what some write; a place beyond 2^48 is in no file.
  const field = (at: number, length: number) =>
    length === 0
      ? 0
      : length <= 6
        ? content.readUIntBE(at, length)
        : content.readUIntBE(at, length - 6) * 2 ** 48 + content.readUIntBE(at + length - 6, 6);
  let at = 0;
  for (let range = 0; range + 1 < ranges.length; range += 2) {
    const [first = -1, count = -1] = [ranges[range], ranges[range + 1]];
    if (first < 0 || count < 0) throw damaged('a cross-reference stream is malformed');
    for (let number = first; number < first + count && at + width <= content.length; number++, at += width) {
      const type = kind === 0 ? 1 : field(at, kind);
      const [a, b] = [field(at + kind, second), field(at + kind + second, third)];
      if (type === 0 || (type === 1 && a === 0)) places.set(number, 'free');
      else if (type === 1) places.set(number, { kind: 'direct', at: a, generation: Math.min(b, 65_535) });
      else if (type === 2) places.set(number, { kind: 'packed', container: Math.min(a, LIMITS.objects), index: Math.min(b, 2 ** 24 - 1) });
    }
  }
  return dict;
}
