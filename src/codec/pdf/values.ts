/** A name, decoded: `#20` is a space here. */
export class Name {
  constructor(readonly text: string) {}
}

/** An indirect reference. */
export class Ref {
  constructor(
    readonly number: number,
    readonly generation: number,
  ) {}
}

/** A number as it was spelled, where a JavaScript number would spell it otherwise: reals, leading zeros. */
export class Spelled {
  constructor(readonly text: string) {}
}

export type Dict = Map<string, Value>;
/** Any object of ISO 32000-2 §7.3 but a stream; strings are their bytes. */
export type Value = null | boolean | number | Spelled | Name | Buffer | Ref | Value[] | Dict;

export const isDict = (value: Value | undefined): value is Dict => value instanceof Map;
export const nameOf = (value: Value | undefined): string | undefined => (value instanceof Name ? value.text : undefined);
export const integerOf = (value: Value | undefined): number | undefined =>
  typeof value === 'number' ? value : value instanceof Spelled && Number.isInteger(Number(value.text)) ? Number(value.text) : undefined;

/** Spelling of a value, in Latin-1. `seal` is what becomes of strings: encrypted ones where the document is; left out, they stand as they are. */
export function spell(value: Value, seal?: (bytes: Buffer) => Buffer): string {
  if (value === null) return 'null';
  if (typeof value === 'boolean' || typeof value === 'number') return String(value);
  if (value instanceof Spelled) return value.text;
  if (value instanceof Name) return spellName(value.text);
  if (value instanceof Ref) return `${value.number} ${value.generation} R`;
  if (Buffer.isBuffer(value)) return spellString(seal ? seal(value) : value);
  if (Array.isArray(value)) return `[${value.map((item) => spell(item, seal)).join(' ')}]`;
  // ISO 32000-2 §7.6.2: a signature's Contents are never encrypted.
  const isSignature = value.has('ByteRange') && value.has('Contents');
  let text = '<<';
  for (const [key, item] of value) text += `${spellName(key)} ${spell(item, isSignature && key === 'Contents' ? undefined : seal)}`;
  return `${text}>>`;
}

const spelledNames = new Map<string, string>();

function spellName(text: string): string {
  const known = spelledNames.get(text);
  if (known !== undefined) return known;
  const spelled = `/${text.replace(/[^!-~]|[()<>[\]{}/%#]/g, (character) => `#${character.charCodeAt(0).toString(16).padStart(2, '0')}`)}`;
  if (spelledNames.size < 4096) spelledNames.set(text, spelled);
  return spelled;
}

function spellString(bytes: Buffer): string {
  const escaped = bytes.toString('latin1').replace(/[()\\\r]/g, (character) => (character === '\r' ? '\\r' : `\\${character}`));
  return `(${escaped})`;
}
