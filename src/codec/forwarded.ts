/** The two header fields in which an HTTP proxy names who asked it. */
export type ForwardedField = 'forwarded' | 'x-forwarded-for';

/** Characters of all lines together: hundreds of hops. */
const MOST = 4_096;
/** RFC 7239 §4: a pair, and what ends it: `;` before the element's next pair, `,` before the next element. */
const PAIR =
  /[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)|"((?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*)")[ \t]*([;,]|$)/y;

/**
 * The addresses that a field names, as written, the nearest proxy's word last; empty for an element that names none (`unknown`, obfuscated). Undefined
 * when a Forwarded is not what the grammar says: an open quotation mark further left would change what stands right of it.
 * @param values one per field line, in their order
 */
export function forwardedFor(field: ForwardedField, values: readonly string[]): string[] | undefined {
  const text = values.join(',');
  if (text.length > MOST) return undefined;
  return field === 'forwarded' ? elements(text) : text.split(',').map((element) => address(element.trim(), true));
}

function elements(text: string): string[] | undefined {
  const found: string[] = [];
  let names = new Map<string, string>();
  const pairs = new RegExp(PAIR);
  for (;;) {
    const [, name, token, quoted, end] = pairs.exec(text) ?? [];
    if (name === undefined || names.has(name.toLowerCase())) return undefined; // §4: each parameter once per element
    names.set(name.toLowerCase(), token ?? (quoted ?? '').replace(/\\(.)/g, '$1'));
    if (end === ';') continue;
    found.push(address(names.get('for') ?? '', false));
    names = new Map();
    if (end === '') return found;
  }
}

/** §6: IPv6 stands in brackets; a port may follow. X-Forwarded-For has no grammar of its own; bare IPv6 is usual there. */
function address(node: string, bareSix: boolean): string {
  const [, six, four, bare] = /^(?:\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|(\d[0-9.]*)(?::\d{1,5})?|([0-9A-Fa-f:.]+))$/.exec(node) ?? [];
  return six ?? four ?? (bareSix ? (bare ?? '') : '');
}
