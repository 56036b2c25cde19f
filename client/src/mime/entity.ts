import { Fault } from '../../../src/foundation/index.js';

/** A MIME entity (RFC 2045 §2.4) as bytes: header fields unfolded, the body exactly as it stands. */
export interface Entity {
  fields: readonly { name: string; value: string }[];
  body: Buffer;
}

export interface MediaType {
  /** Lower case, `type/subtype`. */
  type: string;
  parameters: ReadonlyMap<string, string>;
}

const LF = 0x0a;
const CR = 0x0d;
/** RFC 5322 §2.2: printable ASCII but the colon. */
const FIELD = /^([!-9;-~]+)[ \t]*:(.*)$/s;
const MAX_HEADER = 1 << 20;

const malformed = (why: string) => new Fault('malformed', 'mime-malformed', `this mail is not well-formed MIME: ${why}`);

/** Lenient in one thing: bytes that do not begin with a header field are a body without header. */
export function parseEntity(bytes: Buffer): Entity {
  const fields: { name: string; value: string }[] = [];
  let at = 0;
  while (at < bytes.length) {
    const { line, next } = lineAt(bytes, at);
    if (line.length === 0) return { fields, body: bytes.subarray(next) };
    const text = line.toString('latin1');
    const last = fields.at(-1);
    const field = FIELD.exec(text);
    if (/^[ \t]/.test(text) && last) last.value += text;
    else if (field?.[1] && field[2] !== undefined) fields.push({ name: field[1].toLowerCase(), value: field[2] });
    else return { fields: [], body: bytes };
    if (next > MAX_HEADER) throw malformed('its header is longer than 1 MiB');
    at = next;
  }
  return { fields, body: bytes.subarray(bytes.length) };
}

/** The line at `at` without its end, and where the next begins. */
function lineAt(bytes: Buffer, at: number): { line: Buffer; next: number } {
  const feed = bytes.indexOf(LF, at);
  if (feed < 0) return { line: bytes.subarray(at), next: bytes.length };
  const end = feed > at && bytes[feed - 1] === CR ? feed - 1 : feed;
  return { line: bytes.subarray(at, end), next: feed + 1 };
}

/** The one field of that name; two of them are refused, since readers would differ about which counts. */
export function fieldOf(entity: Entity, name: string): string | undefined {
  const found = entity.fields.filter((field) => field.name === name.toLowerCase());
  if (found.length > 1) throw malformed(`it has ${found.length} fields "${name}"`);
  return found[0]?.value.trim();
}

/** RFC 2045 §5.2: without a readable Content-Type it is text/plain. */
export function mediaTypeOf(entity: Entity): MediaType {
  const value = fieldOf(entity, 'content-type') ?? '';
  const [type = ''] = value.split(';', 1);
  const parameters = new Map<string, string>();
  const pattern = /;\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]*))/g;
  pattern.lastIndex = type.length;
  for (const [, name = '', quoted, token] of value.matchAll(pattern)) {
    const key = name.toLowerCase();
    if (parameters.has(key)) throw malformed(`its Content-Type has the parameter "${key}" twice`);
    parameters.set(key, quoted?.replace(/\\(.)/g, '$1') ?? token ?? '');
  }
  return { type: /^[^\s/]+\/[^\s/]+$/.test(type.trim()) ? type.trim().toLowerCase() : 'text/plain', parameters };
}

/** The body without its Content-Transfer-Encoding (RFC 2045 §6). */
export function decodedBody(entity: Entity): Buffer {
  const encoding = (fieldOf(entity, 'content-transfer-encoding') ?? '7bit').toLowerCase();
  if (encoding === 'base64') return Buffer.from(entity.body.toString('latin1'), 'base64');
  if (encoding === 'quoted-printable') return decodeQuotedPrintable(entity.body.toString('latin1'));
  if (['7bit', '8bit', 'binary'].includes(encoding)) return entity.body;
  throw malformed(`its Content-Transfer-Encoding "${encoding}" is unknown`);
}

/** RFC 2045 §6.7: white space at the end of a line came on the way. */
function decodeQuotedPrintable(text: string): Buffer {
  const lines = text.split('\n').map((line) => line.trimEnd());
  const plain = lines
    .join('\n')
    .replaceAll('=\n', '')
    .replace(/=([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(plain, 'latin1');
}

/** The parts of a multipart body, byte for byte: the line end before a boundary belongs to the boundary (RFC 2046 §5.1.1). */
export function partsOf(entity: Entity): Buffer[] {
  const boundary = mediaTypeOf(entity).parameters.get('boundary');
  if (!boundary || boundary.length > 70) throw malformed('a multipart without a usable boundary');
  const mark = Buffer.from(`--${boundary}`, 'latin1');
  const { body } = entity;
  const parts: Buffer[] = [];
  let start: number | undefined;
  for (let at = body.indexOf(mark); at >= 0; at = body.indexOf(mark, at + mark.length)) {
    if (at > 0 && body[at - 1] !== LF) continue;
    const { line, next } = lineAt(body, at);
    const rest = line.subarray(mark.length).toString('latin1');
    if (!/^(--)?[ \t]*$/.test(rest)) continue;
    if (start !== undefined) {
      const feed = at - 1;
      const end = feed > start && body[feed - 1] === CR ? feed - 1 : feed;
      parts.push(body.subarray(start, Math.max(start, end)));
    }
    if (rest.startsWith('--')) return parts;
    start = next;
  }
  throw malformed('a multipart that does not end');
}

/** Every line end as CRLF: the form over which mails are signed (RFC 8551 §3.1.1), whatever a mailbox made of it. */
export function canonicalLines(bytes: Buffer): Buffer {
  const pieces: Buffer[] = [];
  const CRLF = Buffer.from('\r\n');
  let at = 0;
  for (let feed = bytes.indexOf(LF); feed >= 0; feed = bytes.indexOf(LF, at)) {
    pieces.push(bytes.subarray(at, feed > at && bytes[feed - 1] === CR ? feed - 1 : feed), CRLF);
    at = feed + 1;
  }
  pieces.push(bytes.subarray(at));
  return Buffer.concat(pieces);
}
