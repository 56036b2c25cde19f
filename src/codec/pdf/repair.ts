import { Fault, isFault } from '../../foundation/index.js';
import { damaged } from './faults.js';
import type { Source } from './ports.js';
import type { Stored } from './stored.js';
import { type Dict, isDict, nameOf, Ref } from './values.js';
import type { Window } from './window.js';
import { Places } from './xref.js';

const STEP = 2 ** 20;
/** Longer than any `12345678 65535 obj`. */
const OVERLAP = 64;
const HEADS = /(?<![0-9])(\d{1,7})[\0\t\n\f\r ]+(\d{1,5})[\0\t\n\f\r ]+obj(?![a-zA-Z])|\btrailer(?=[\s<])/g;

/**
 * Finds the objects by looking through the whole file, for when its cross-references are damaged. Later ones win, as with every reader. It mends what is
 * damaged, never what is missing: a file whose end is gone is `pdf-truncated`.
 */
export function repairedPlaces(
  source: Source,
  window: Window,
  readAt: (at: number) => Stored,
  packedIn: (container: Stored) => number[],
): { places: Places; trailer: Dict } {
  const places = new Places();
  const trailer: Dict = new Map();
  let catalog: Ref | undefined;
  let end = 0;
  const broken = new Set<number>();
  for (const head of heads(source)) {
    // What looks like an object inside a stream is content.
    if (head.at < end) continue;
    if (head.number === undefined) {
      const dict = attempt(() => window.parse(head.at + 'trailer'.length, (parser) => parser.value()));
      if (isDict(dict)) for (const [key, value] of dict) trailer.set(key, value);
      continue;
    }
    const { number, generation, at } = head;
    const stored = attempt(() => readAt(at));
    end = stored?.data ? stored.data.at + stored.data.length : at + 1;
    if (!stored) {
      broken.add(number);
      continue;
    }
    broken.delete(number);
    places.set(number, { kind: 'direct', at, generation }, true);
    if (!isDict(stored.value)) continue;
    const type = nameOf(stored.value.get('Type'));
    if (type === 'Catalog') catalog = new Ref(number, generation);
    if (type === 'XRef') for (const key of TRAILER) if (stored.value.has(key)) trailer.set(key, stored.value.get(key) ?? null);
    if (type !== 'ObjStm' || !stored.data) continue;
    if (trailer.has('Encrypt')) throw damaged('its cross-references are, and it is encrypted');
    for (const inside of packedIn(stored)) places.set(inside, { kind: 'packed', container: number, index: 0 }, true);
  }
  if (places.end === 0) throw damaged('there are no objects in it');
  // Before what is broken: a cut goes through an object as a rule.
  if (ENDS.every((word) => window.find(word, end) < 0))
    throw new Fault('malformed', 'pdf-truncated', 'the PDF is cut short: its end is missing');
  // What is left out would be gone with the original.
  for (const number of broken) throw damaged(`its object ${number} cannot be read`);
  if (!trailer.has('Root') && catalog) trailer.set('Root', catalog);
  return { places, trailer };
}

const TRAILER = ['Root', 'Info', 'ID', 'Encrypt'] as const;
const ENDS = ['startxref', '%%EOF', 'trailer'] as const;

type Head = { at: number; number?: undefined } | { at: number; number: number; generation: number };

function* heads(source: Source): Generator<Head> {
  for (let from = 0; from < source.size; from += STEP) {
    const before = Math.min(from, OVERLAP);
    const text = source.read(from - before, STEP + before + OVERLAP).toString('latin1');
    for (const match of text.matchAll(HEADS)) {
      // One that begins or ends in the overlap is of the neighbouring step, but for what only both together show.
      if (match.index < before || match.index >= before + STEP) continue;
      const at = from - before + match.index;
      yield match[1] === undefined ? { at } : { at, number: Number(match[1]), generation: Math.min(65_535, Number(match[2])) };
    }
  }
}

/** Undefined where the file is damaged right there; what is excessive stays so. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (isFault(error) && error.kind === 'malformed') return undefined;
    throw error;
  }
}
