import { randomBytes } from 'node:crypto';
import { Fault } from '../../foundation/index.js';
import { damaged } from './faults.js';
import type { PdfFile } from './pdf-file.js';
import type { Sink } from './ports.js';
import { ownFilter } from './security/opening.js';
import type { NewSecurity } from './security/public-key.js';
import { AesV3 } from './security/sealing.js';
import type { Stored } from './stored.js';
import { type Dict, integerOf, isDict, Name, nameOf, Ref, type Value } from './values.js';
import { Writer } from './writer.js';

export interface RewritePlan {
  /** Left out, the new document is not encrypted. */
  security?: NewSecurity;
  /** Signatures do not survive: `break` is said by somebody who knows. */
  signatures: 'refuse' | 'break';
  /** Called with bytes of the source that are done, of all. */
  progress?: ((done: number, all: number) => void) | undefined;
}

export type Warning = 'repaired' | 'signatures-broken' | 'certification-broken' | 'pdf-a' | 'usage-rights-broken' | 'damaged-parts';

export interface Rewritten {
  pages: number;
  objects: number;
  warnings: Warning[];
}

/**
 * Writes `file`, opened where it was encrypted, as a new document with all of its objects: every saved change flattened into one, nothing that an earlier
 * state held and the last one does not. Throws `pdf-signed`, and what reading throws.
 */
export function rewrite(file: PdfFile, sink: Sink, plan: RewritePlan): Rewritten {
  return file.withRepair(
    () => write(file, sink, plan),
    () => sink.restart(),
  );
}

function write(file: PdfFile, sink: Sink, plan: RewritePlan): Rewritten {
  const catalog = file.dict(file.trailer.get('Root'));
  const pages = file.dict(catalog?.get('Pages'));
  if (!catalog || !pages) throw damaged('it has no pages');
  const warnings = new Set<Warning>();
  if (file.isRepaired) warnings.add('repaired');
  if (isPdfA(file, catalog)) warnings.add('pdf-a');
  const rights = file.dict(catalog.get('Perms'));
  if (rights?.has('DocMDP')) warnings.add('certification-broken');
  if (rights?.has('UR3') || rights?.has('UR')) warnings.add('usage-rights-broken');
  const { security } = plan;
  const sealer = security && new AesV3(security.key);
  const everything = security?.components === 'attachments' ? undefined : sealer;
  const attachments = security?.components === 'attachments' ? embeddedFiles(file) : undefined;
  const sealerOf = (object: Stored, dict: Dict) => {
    if (attachments) return attachments.has(object.number) ? sealer : undefined;
    return security?.components === 'all-but-metadata' && nameOf(dict.get('Type')) === 'Metadata' ? undefined : sealer;
  };
  const writer = new Writer(sink, versionOf(file, catalog), file.end, { strings: everything, structure: everything });
  let objects = 0;
  for (const object of file.objects()) {
    const { number, generation, value } = object;
    if (isDict(value)) {
      if (value.has('Linearized')) continue; // speaks of the file as it was
      if (isSignature(value) || [...value.values()].some((inner) => isDict(inner) && isSignature(inner))) {
        if (plan.signatures === 'refuse')
          throw new Fault(
            'conflict',
            'pdf-signed',
            'the PDF is signed, and its signatures would not survive: encrypt before signing, or say that they may break',
          );
        warnings.add('signatures-broken');
      }
    }
    objects++;
    if (!object.data || !isDict(value)) {
      writer.value(number, generation, value);
      continue;
    }
    plan.progress?.(object.data.at, file.source.size);
    const content = file.content({ ...object, data: object.data });
    const dict = withoutCrypt(value);
    const sealing = sealerOf(object, dict);
    if (attachments?.has(number)) dict.set('Type', new Name('EmbeddedFile')); // by which readers know what to open
    if (everything && !sealing) identityFilter(dict);
    writer.stream(number, generation, dict, content.length, content.pieces, sealing);
  }
  writer.finish(trailerOf(file, writer, security));
  if (file.decryption && file.decryption.damagedParts > 0) warnings.add('damaged-parts');
  plan.progress?.(file.source.size, file.source.size);
  return { pages: Math.max(0, integerOf(file.resolve(pages.get('Count'))) ?? 0), objects, warnings: [...warnings] };
}

function trailerOf(file: PdfFile, writer: Writer, security: NewSecurity | undefined): Dict {
  const root = file.trailer.get('Root');
  if (!(root instanceof Ref)) throw damaged('it has no catalog');
  const trailer: Dict = new Map<string, Value>([['Root', root]]);
  const info = file.trailer.get('Info');
  if (info instanceof Ref) trailer.set('Info', info);
  else if (isDict(info)) {
    // In the trailer its strings would stand in the open.
    const number = writer.newNumber();
    writer.plain(number, 0, info, true);
    trailer.set('Info', new Ref(number, 0));
  }
  const ids = file.resolve(file.trailer.get('ID'));
  const [first] = Array.isArray(ids) ? ids : [];
  const changed = randomBytes(16);
  trailer.set('ID', [Buffer.isBuffer(first) && first.length > 0 ? first : changed, changed]);
  if (security) {
    const number = writer.newNumber();
    writer.plain(number, 0, security.dict, false);
    trailer.set('Encrypt', new Ref(number, 0));
  }
  return trailer;
}

const isSignature = (dict: Dict): boolean => dict.has('ByteRange') && dict.has('Contents');

/** Object streams are of 1.5, encryption to certificates by AES-256 is of 2.0 and of 1.7 with Adobe's extension. */
function versionOf(file: PdfFile, catalog: Dict): string {
  const header = /%PDF-(\d\.\d)/.exec(file.source.read(0, 1024).toString('latin1'))?.[1] ?? '1.7';
  const own = nameOf(catalog.get('Version')) ?? '';
  return header >= '2.0' || /^2\.\d$/.test(own) ? '2.0' : '1.7';
}

function withoutCrypt(dict: Dict): Dict {
  if (ownFilter(dict) === undefined) return new Map(dict);
  const copy = new Map(dict);
  for (const key of ['Filter', 'DecodeParms']) {
    const value = copy.get(key);
    const rest = Array.isArray(value) ? value.slice(1) : [];
    if (rest.length > 0) copy.set(key, rest);
    else copy.delete(key);
  }
  return copy;
}

/** Says that a stream is not encrypted where others are (ISO 32000-2 §7.4.10). */
function identityFilter(dict: Dict): void {
  const list = (value: Value | undefined): Value[] => (Array.isArray(value) ? value : value === undefined ? [] : [value]);
  const filters = list(dict.get('Filter'));
  const parameters = list(dict.get('DecodeParms'));
  dict.set('Filter', [new Name('Crypt'), ...filters]);
  const identity: Dict = new Map<string, Value>([['Name', new Name('Identity')]]);
  dict.set('DecodeParms', [identity, ...filters.map((_, index) => parameters[index] ?? null)]);
}

/** Numbers of the streams that are attached files: their Type is optional, so they are found by what refers to them (ISO 32000-2 §7.11.4). */
function embeddedFiles(file: PdfFile): Set<number> {
  const found = new Set<number>();
  const look = (value: Value): void => {
    if (Array.isArray(value)) for (const item of value) look(item);
    if (!isDict(value)) return;
    const files = file.dict(value.get('EF'));
    if (files) for (const stream of files.values()) if (stream instanceof Ref) found.add(stream.number);
    for (const item of value.values()) look(item);
  };
  for (const object of file.objects()) {
    if (object.data && isDict(object.value) && nameOf(object.value.get('Type')) === 'EmbeddedFile') found.add(object.number);
    look(object.value);
  }
  return found;
}

/** ISO 19005-1 §6.7.11: the part is told in the XMP metadata, which PDF/A wants uncompressed. */
function isPdfA(file: PdfFile, catalog: Dict): boolean {
  const reference = catalog.get('Metadata');
  const metadata = reference instanceof Ref ? file.object(reference.number) : undefined;
  if (!metadata?.data) return false;
  for (const piece of file.content({ ...metadata, data: metadata.data }).pieces) return piece.includes('pdfaid:part');
  return false;
}
