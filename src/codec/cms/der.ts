/**
 * As much DER (X.690) as CMS structures need. Written by hand, because certificates and their issuer names must go in byte for byte as they
 * were signed, which a library that parses and encodes again does not promise.
 */
const SEQUENCE = 0x30;
const SET = 0x31;

export function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  if (content.length < 0x80) return Buffer.concat([Buffer.of(tag, content.length), content]);
  const digits = content.length.toString(16);
  const length = Buffer.from(digits.length % 2 ? `0${digits}` : digits, 'hex');
  return Buffer.concat([Buffer.of(tag, 0x80 | length.length), length, content]);
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => tlv(SEQUENCE, ...parts);
/** X.690 §11.6: the elements of a SET OF stand in ascending order of their encodings. */
export const setOf = (...elements: readonly Uint8Array[]): Buffer => tlv(SET, ...elements.toSorted(Buffer.compare));
export const octets = (bytes: Uint8Array): Buffer => tlv(0x04, bytes);
/** Constructed context tag: EXPLICIT around a whole element, or IMPLICIT around the content of a constructed one. */
export const context = (number: number, ...parts: readonly Uint8Array[]): Buffer => tlv(0xa0 | number, ...parts);

/** INTEGER ≥ 0 from big-endian bytes. */
export function unsigned(bytes: Uint8Array): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const digits = bytes.subarray(start);
  return tlv(0x02, (digits[0] ?? 0) & 0x80 || digits.length === 0 ? Buffer.of(0) : Buffer.alloc(0), digits);
}

export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return tlv(0x06, Buffer.from([first * 40 + second, ...rest].flatMap(base128)));
}

function base128(arc: number): number[] {
  const digits = [arc & 0x7f];
  for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) digits.unshift((left & 0x7f) | 0x80);
  return digits;
}

/** One element: `whole` is it as it stands, `content` what is inside. */
export interface Element {
  tag: number;
  content: Buffer;
  whole: Buffer;
}

/** The elements that fill `bytes` exactly; undefined when they do not. Callers that need strict DER encode again and compare. */
export function elements(bytes: Uint8Array): Element[] | undefined {
  const found: Element[] = [];
  let rest = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  while (rest.length > 0) {
    const first = rest[1];
    if (first === undefined || first > 0x84) return undefined;
    const more = first < 0x80 ? 0 : first & 0x7f;
    if (first === 0x80 || rest.length < 2 + more) return undefined;
    const length = more === 0 ? first : rest.readUIntBE(2, more);
    const end = 2 + more + length;
    if (rest.length < end) return undefined;
    found.push({ tag: rest[0] ?? 0, content: rest.subarray(2 + more, end), whole: rest.subarray(0, end) });
    rest = rest.subarray(end);
  }
  return found;
}

/** Walks down: `at(der, 0, 1, 2)` is the third element inside the second inside the first. */
export function at(bytes: Uint8Array, ...path: readonly number[]): Element | undefined {
  let found: Element | undefined;
  for (const index of path) {
    found = elements(found ? found.content : bytes)?.[index];
    if (!found) return undefined;
  }
  return found;
}
