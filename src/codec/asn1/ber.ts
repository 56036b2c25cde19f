import { Fault } from '../../foundation/index.js';

/** One BER element (X.690 §8.1). `whole` is it as it stands, `content` its content octets; of an indefinite length, without the end-of-contents. */
export interface Element {
  /** The identifier octet: class, constructed bit and number. */
  tag: number;
  whole: Buffer;
  content: Buffer;
}

export const TAG = { integer: 0x02, bitString: 0x03, octetString: 0x04, oid: 0x06, sequence: 0x30, set: 0x31 } as const;

/** Deeper than any real message, shallow enough for the stack: nested indefinite lengths cost a scan each. */
const MAX_DEPTH = 32;

const malformed = (why: string) => new Fault('malformed', 'asn1-malformed', `these bytes are not well-formed BER (X.690): ${why}`);

/**
 * BER and not only DER: mails made by streaming programs carry indefinite lengths and octet strings in pieces (RFC 5652 §6.1 asks no DER of them).
 * Reads the element at `at`; what follows it is the caller's.
 */
export function readElement(bytes: Buffer, at = 0, depth = 0): Element {
  if (depth > MAX_DEPTH) throw malformed('nested too deeply');
  const tag = bytes[at];
  const first = bytes[at + 1];
  if (tag === undefined || first === undefined) throw malformed('cut short');
  if ((tag & 0x1f) === 0x1f) throw malformed('a tag number above 30');
  if (first === 0x80) return readIndefinite(bytes, at, tag, depth);
  const more = first < 0x80 ? 0 : first & 0x7f;
  if (more > 4 || at + 2 + more > bytes.length) throw malformed('a length that cannot be');
  const length = more === 0 ? first : bytes.readUIntBE(at + 2, more);
  const start = at + 2 + more;
  if (length > bytes.length - start) throw malformed('cut short');
  return { tag, whole: bytes.subarray(at, start + length), content: bytes.subarray(start, start + length) };
}

function readIndefinite(bytes: Buffer, at: number, tag: number, depth: number): Element {
  if ((tag & 0x20) === 0) throw malformed('an indefinite length on a primitive element');
  let next = at + 2;
  while (bytes[next] !== 0 || bytes[next + 1] !== 0) next += readElement(bytes, next, depth + 1).whole.length;
  return { tag, whole: bytes.subarray(at, next + 2), content: bytes.subarray(at + 2, next) };
}

/** The element that fills `bytes` to the last one. */
export function readWhole(bytes: Buffer): Element {
  const element = readElement(bytes);
  if (element.whole.length !== bytes.length) throw malformed('trailing bytes');
  return element;
}

export function children(element: Element): Element[] {
  const found: Element[] = [];
  for (let at = 0; at < element.content.length; ) {
    const child = readElement(element.content, at);
    found.push(child);
    at += child.whole.length;
  }
  return found;
}

/** Takes the children of a structure one after another; optional ones by their tag. */
export class Fields {
  readonly #elements: Element[];
  #next = 0;

  constructor(structure: Element) {
    this.#elements = children(structure);
  }

  static of(structure: Element | undefined, tag: number): Fields {
    if (structure?.tag !== tag) throw malformed(`tag 0x${tag.toString(16)} was expected`);
    return new Fields(structure);
  }

  take(...tags: readonly number[]): Element {
    const element = this.#elements[this.#next];
    if (!element || (tags.length > 0 && !tags.includes(element.tag))) throw malformed('a field is missing or of another type');
    this.#next++;
    return element;
  }

  optional(...tags: readonly number[]): Element | undefined {
    const element = this.#elements[this.#next];
    return element && tags.includes(element.tag) ? this.take() : undefined;
  }

  /** Whatever is left. */
  rest(): Element[] {
    const rest = this.#elements.slice(this.#next);
    this.#next = this.#elements.length;
    return rest;
  }
}

/** The octets of an OCTET STRING, also when it comes constructed of pieces (X.690 §8.7.3). */
export function octetsOf(element: Element, depth = 0): Buffer {
  if ((element.tag & 0x20) === 0) return element.content;
  if (depth > MAX_DEPTH) throw malformed('nested too deeply');
  return Buffer.concat(children(element).map((piece) => octetsOf(piece, depth + 1)));
}

/** The bits of a BIT STRING of whole octets, without the octet that counts unused bits. */
export function bitsOf(element: Element): Buffer {
  if (element.tag !== TAG.bitString || element.content.length === 0) throw malformed('no BIT STRING');
  return element.content.subarray(1);
}

/** Arcs may exceed 2^53: those under 2.25 are 128-bit UUIDs (ITU-T X.667). */
export function oidOf(element: Element): string {
  if (element.tag !== TAG.oid || element.content.length === 0 || ((element.content.at(-1) ?? 0) & 0x80) !== 0)
    throw malformed('no OBJECT IDENTIFIER');
  const arcs: bigint[] = [];
  let arc = 0n;
  for (const octet of element.content) {
    arc = (arc << 7n) | BigInt(octet & 0x7f);
    if (octet & 0x80) continue;
    arcs.push(arc);
    arc = 0n;
  }
  const [joint = 0n, ...others] = arcs;
  const root = joint < 40n ? 0n : joint < 80n ? 1n : 2n;
  return [root, joint - root * 40n, ...others].join('.');
}

/** A small INTEGER ≥ 0. */
export function numberOf(element: Element): number {
  if (element.tag !== TAG.integer || element.content.length === 0 || element.content.length > 4) throw malformed('no small INTEGER');
  return element.content.readIntBE(0, element.content.length);
}

/** UTCTime or GeneralizedTime in Z (RFC 5280 §4.1.2.5). */
export function timeOf(element: Element): Date {
  const text = element.content.toString('latin1');
  // RFC 5280 §4.1.2.5.1: two digits from 50 upwards are of the last century.
  const full = element.tag === 0x17 ? `${text.slice(0, 2) >= '50' ? '19' : '20'}${text}` : text;
  const fields = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(full);
  const time = new Date(fields ? `${fields[1]}-${fields[2]}-${fields[3]}T${fields[4]}:${fields[5]}:${fields[6]}Z` : Number.NaN);
  if (Number.isNaN(time.getTime())) throw malformed('no time');
  return time;
}
