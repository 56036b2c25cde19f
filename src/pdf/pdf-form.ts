import { basename } from 'node:path';
import { z } from 'zod';
import type { GuardedRequest } from '../access/index.js';
import { parsePermissions } from '../codec/pdf/index.js';
import { Fault, parsed, shapes } from '../foundation/index.js';
import type { PdfDesk, Upload, Wish } from './pdf-desk.js';
import { PrivateFile } from './private-file.js';
import { foreignCertificate } from './recipients.js';

/** Documents of one request. */
const MOST_FILES = 50;
const MOST_CERTIFICATES = 20;
const CERTIFICATE_BYTES = 64 * 1024;
/** Bytes of a field that is no file: 200 recipients with their permissions. */
const FIELD_BYTES = 64 * 1024;

const listed = z.array(z.strictObject({ email: z.string().max(320), permissions: z.string().max(200).optional() })).max(1000);
const components = z.enum(['all', 'all-but-metadata', 'attachments']);
const signatures = z.enum(['refuse', 'break']);
/** By the name of its document: 16, 24 or 32 bytes. */
const opening = z.record(z.string(), shapes.base64(32));

export interface PdfForm {
  documents: (Upload & { name: string })[];
  wish: Wish;
}

/** Reads a form with its documents, each into a private file; on a fault none is left open. */
/** What a form asks for where nothing is encrypted. */
const NOTHING: Wish = { people: [], foreign: [], allowed: 'owner', components: 'all', signatures: 'refuse' };

export async function readForm(
  request: GuardedRequest,
  desk: PdfDesk,
  what: 'document alone' | 'with recipients' = 'with recipients',
): Promise<PdfForm> {
  const fields = new Map<string, string>();
  const documents: PdfForm['documents'] = [];
  const certificates: Buffer[] = [];
  try {
    for await (const part of partsOf(request, desk.settings.most)) {
      if (part.type === 'field') {
        if (part.valueTruncated || typeof part.value !== 'string')
          throw new Fault('too-large', 'field-too-large', `the field ${nameOfField(part.fieldname)} is too long`);
        fields.set(part.fieldname, [fields.get(part.fieldname), part.value].filter((text) => text !== undefined).join(','));
      } else if (part.fieldname === 'file') {
        const name = soundName(part.filename);
        if (documents.some((other) => other.name === name)) throw unfit('two documents have the same name');
        documents.push(await received(part.file, name, desk));
      } else if (part.fieldname === 'certificate') certificates.push(await collected(part.file));
      else throw new Fault('malformed', 'body-malformed', `there is no file field ${nameOfField(part.fieldname)}`);
    }
    if (documents.length === 0) throw new Fault('malformed', 'file-missing', 'the form has no document: a field "file" with a PDF');
    for (const [name, key] of Object.entries(parsed(opening, json(fields.get('opening') ?? '{}', 'opening'), 'opening'))) {
      const document = documents.find((one) => one.name === name);
      if (!document) throw new Fault('malformed', 'body-malformed', 'opening: there is no document of this name');
      document.key = key;
    }
    return { documents, wish: what === 'document alone' ? NOTHING : wishOf(fields, certificates, desk) };
  } catch (error) {
    await closeAll(documents);
    throw formFault(error);
  }
}

export async function closeAll(documents: readonly Upload[]): Promise<void> {
  await Promise.all(documents.map(({ file }) => file.close()));
}

function partsOf(request: GuardedRequest, most: number) {
  if (!request.isMultipart()) throw new Fault('malformed', 'media-type', 'this route takes multipart/form-data');
  return request.parts({
    preservePath: true, // a path in a name is refused, not mended
    limits: { fileSize: most + 1, files: MOST_FILES + MOST_CERTIFICATES, fields: 20, fieldSize: FIELD_BYTES, parts: 100, headerPairs: 50 },
  });
}

async function received(content: AsyncIterable<Buffer>, name: string, desk: PdfDesk): Promise<Upload & { name: string }> {
  const file = PrivateFile.create(desk.settings.folder);
  try {
    return { file, digest: await file.fill(content, desk.settings.most), name };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function collected(content: AsyncIterable<Buffer>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of content) {
    pieces.push(piece);
    if (pieces.reduce((sum, one) => sum + one.length, 0) > CERTIFICATE_BYTES)
      throw new Fault('too-large', 'field-too-large', 'a certificate is smaller');
  }
  return Buffer.concat(pieces);
}

function wishOf(fields: ReadonlyMap<string, string>, certificates: readonly Buffer[], desk: PdfDesk): Wish {
  const allowed = parsePermissions(fields.get('permissions') ?? 'full');
  const asked = fields.get('recipients') ?? '';
  const named: z.output<typeof listed> = asked.trimStart().startsWith('[')
    ? parsed(listed, json(asked, 'recipients'), 'recipients')
    : asked.split(',').map((email) => ({ email: email.trim() }));
  const people = named
    .filter(({ email }) => email !== '')
    .flatMap((one) => {
      const own = one.permissions === undefined ? allowed : parsePermissions(one.permissions);
      return desk.membersOf([one.email]).map((address) => ({ address, allowed: own }));
    });
  if (people.length + certificates.length === 0)
    throw new Fault('malformed', 'recipients-missing', 'name who may open the document: a field "recipients"');
  return {
    people,
    foreign: certificates.map((bytes) => foreignCertificate(bytes, desk.now)),
    allowed,
    components: parsed(components, fields.get('encrypt') ?? 'all', 'encrypt'),
    signatures: parsed(signatures, fields.get('signatures') ?? 'refuse', 'signatures'),
  };
}

function json(text: string, field: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Fault('malformed', 'body-malformed', `${field}: this is not JSON`);
  }
}

/** A name and nothing more: what comes from a form becomes the name of a file somewhere. */
function soundName(name: string | undefined): string {
  if (!name || name !== basename(name) || name.startsWith('.') || name.length > 200)
    throw unfit('a document has a plain name, without a folder');
  for (const character of name)
    if (character < ' ' || character === '\x7f' || '\\/:*?"<>|'.includes(character))
      throw unfit('a document has a plain name, without special characters');
  return name;
}

const unfit = (why: string) => new Fault('malformed', 'file-name-unfit', why);
const nameOfField = (name: string): string => name.replace(/[^\w-]/g, '?').slice(0, 40);

/** What the parser of forms refuses, in our codes. */
function formFault(error: unknown): unknown {
  if (error instanceof Fault || !(error instanceof Error)) return error;
  const { code = '' } = error as Error & { code?: string };
  if (code === 'ERR_STREAM_PREMATURE_CLOSE') return new Fault('malformed', 'request-malformed', 'the form ended before its end');
  if (code === '' && /multipart|boundary|unexpected end|part terminated|header/i.test(error.message))
    return new Fault('malformed', 'request-malformed', 'the form is malformed');
  if (code.startsWith('FST_') && /LIMIT|TOO_LARGE/.test(code))
    return new Fault('too-large', 'body-too-large', 'the form has too many parts, or too large ones');
  if (code.startsWith('FST_')) return new Fault('malformed', 'request-malformed', 'the form is malformed');
  return error;
}
