import { deflateSync } from 'node:zlib';
import { encrypted } from './documents.js';

const latin1 = (text: string) => Buffer.from(text, 'latin1');
const CATALOG = '<</Type/Catalog/Pages 2 0 R>>';
const PAGES = '<</Type/Pages/Kids[]/Count 0>>';

/** A file of these objects, numbered from 1, with a table that fits. */
export function pdfOf(objects: readonly (string | Buffer)[], trailer = ''): Buffer {
  const pieces: Buffer[] = [latin1('%PDF-1.7\n')];
  let at = 9;
  const offsets = objects.map((object, index) => {
    const body = Buffer.concat([latin1(`${index + 1} 0 obj\n`), Buffer.isBuffer(object) ? object : latin1(object), latin1('\nendobj\n')]);
    pieces.push(body);
    at += body.length;
    return at - body.length;
  });
  const rows = offsets.map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`).join('');
  pieces.push(
    latin1(
      `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${rows}trailer\n<</Size ${objects.length + 1}/Root 1 0 R${trailer}>>\nstartxref\n${at}\n%%EOF\n`,
    ),
  );
  return Buffer.concat(pieces);
}

const stream = (dict: string, content: Buffer): Buffer =>
  Buffer.concat([latin1(`<<${dict}/Length ${content.length}>>\nstream\n`), content, latin1('\nendstream')]);
const flate = (dict: string, content: Buffer): Buffer => stream(`${dict}/Filter/FlateDecode`, deflateSync(content));

/** A file whose cross-references are a stream: of these entries, type 1 or 2. */
function withXrefStream(
  objects: readonly (string | Buffer)[],
  entries: readonly [number, number, number][],
  dict = '',
  rows?: Buffer,
): Buffer {
  const pieces: Buffer[] = [latin1('%PDF-1.7\n')];
  let at = 9;
  const offsets = objects.map((object, index) => {
    const body = Buffer.concat([latin1(`${index + 1} 0 obj\n`), Buffer.isBuffer(object) ? object : latin1(object), latin1('\nendobj\n')]);
    pieces.push(body);
    at += body.length;
    return at - body.length;
  });
  const number = objects.length + entries.length + 1;
  const all: [number, number, number][] = [[0, 0, 0], ...offsets.map((offset): [number, number, number] => [1, offset, 0]), ...entries];
  const table = Buffer.alloc(all.length * 7);
  all.forEach(([type, a, b], index) => {
    table.writeUInt8(type, index * 7);
    table.writeUInt32BE(a, index * 7 + 1);
    table.writeUInt16BE(b, index * 7 + 5);
  });
  const head = dict.includes('/W') ? '' : '/W[1 4 2]';
  pieces.push(
    latin1(`${number} 0 obj\n`),
    flate(`/Type/XRef/Size ${number}/Root 1 0 R${head}${dict}`, rows ?? table),
    latin1(`\nendobj\nstartxref\n${at}\n%%EOF\n`),
  );
  return Buffer.concat(pieces);
}

const sized = (dict: string, text: Buffer) => withXrefStream([CATALOG, PAGES, flate(`/Type/ObjStm${dict}`, text)], [[2, 3, 0]]);
const zeros = (mb: number) => Buffer.alloc(mb * 2 ** 20, '0 ');
const nested = (open: string, times: number, close = '') => pdfOf([CATALOG, PAGES, `${open.repeat(times)}${close.repeat(times)}`]);
/** What is in the trailer's Encrypt. */
const locked = (dict: string) => pdfOf([CATALOG, PAGES, dict], '/Encrypt 3 0 R');
const pubsec = (recipients: string, more = '/V 5/StmF/F/StrF/F') =>
  locked(`<</Filter/Adobe.PubSec/SubFilter/adbe.pkcs7.s5${more}/CF<</F<</CFM/AESV3/Recipients ${recipients}>>>>>>`);
const sections = (count: number, last: (first: number) => number): Buffer => {
  let text = '%PDF-1.7\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n';
  const first = text.length;
  let previous = last(first);
  for (let index = 0; index < count; index++) {
    const here = text.length;
    text += `xref\n0 0\ntrailer\n<</Size 3/Root 1 0 R/Prev ${previous}>>\n`;
    previous = here;
  }
  return latin1(`${text}startxref\n${previous}\n%%EOF\n`);
};

/** Files that want more than a document needs, or never end. Each must be refused by name, or come to nothing. */
export const BOMBS: Readonly<Record<string, () => Buffer>> = {
  'object stream of 100 MB': () => sized('/N 1/First 4', zeros(100)),
  'object stream of 15 MB of numbers in one array': () => sized('/N 1/First 4', Buffer.concat([latin1('4 0 ['), zeros(15)])),
  'object stream of a billion objects': () => sized('/N 1000000000/First 4', latin1('4 0 null')),
  'object stream of a million objects at one place': () =>
    sized('/N 900000/First 7200000', Buffer.concat([latin1('4 0     '.repeat(900_000)), latin1(`[${'1 '.repeat(1000)}]`)])),
  'object stream with First beyond its end': () => sized('/N 1/First 99999999', latin1('4 0 null')),
  'object stream with a negative count': () => sized('/N -5/First 4', latin1('4 0 null')),
  'object stream with deep arrays': () => sized('/N 1/First 4', latin1(`4 0 ${'['.repeat(1_000_000)}`)),
  'forty object streams of 15 MB': () => {
    const content = deflateSync(zeros(15));
    return withXrefStream(
      [CATALOG, PAGES, ...Array.from({ length: 40 }, () => stream('/Type/ObjStm/N 1/First 4/Filter/FlateDecode', content))],
      Array.from({ length: 40 }, (_, n): [number, number, number] => [2, n + 3, 0]),
    );
  },
  'object stream inside itself': () => withXrefStream([CATALOG, PAGES], [[2, 3, 0]]),
  'object stream that is the catalog': () => withXrefStream([CATALOG, PAGES], [[2, 1, 0]]),
  'object stream with a filter of no name': () =>
    withXrefStream([CATALOG, PAGES, stream('/Type/ObjStm/N 1/First 4/Filter/LZWDecode', latin1('x'))], [[2, 3, 0]]),
  'object stream of garbage': () =>
    withXrefStream([CATALOG, PAGES, stream('/Type/ObjStm/N 1/First 4/Filter/FlateDecode', Buffer.alloc(100, 7))], [[2, 3, 0]]),
  'a thousand filters on an object stream': () =>
    withXrefStream(
      [CATALOG, PAGES, stream(`/Type/ObjStm/N 1/First 4/Filter[${'/FlateDecode'.repeat(1000)}]`, deflateSync(zeros(1)))],
      [[2, 3, 0]],
    ),
  'predictor of a billion columns': () =>
    withXrefStream(
      [CATALOG, PAGES, flate('/Type/ObjStm/N 1/First 4/DecodeParms<</Predictor 12/Columns 1000000000>>', latin1('4 0 null'))],
      [[2, 3, 0]],
    ),
  'cross-reference stream of 100 MB': () => withXrefStream([CATALOG], [], '', zeros(100)),
  'cross-reference stream of an endless section': () => withXrefStream([CATALOG], [], '/Index[0 99999999999]', zeros(15)),
  'cross-reference stream of negative sections': () => withXrefStream([CATALOG], [], '/Index[-5 -5]'),
  'cross-reference stream of fields without width': () => withXrefStream([CATALOG], [], '/W[0 0 0]'),
  'cross-reference stream of wide fields': () => withXrefStream([CATALOG], [], '/W[99 99 99]'),
  'cross-reference stream with a million sections': () => withXrefStream([CATALOG], [], `/Index[${'8000000 1 '.repeat(500_000)}]`),
  'sections in a circle': () => sections(2, (first) => first),
  'a section that is its own former': () => sections(1, (first) => first),
  'five thousand sections': () => sections(5000, () => 99_999_999),
  'former section outside of the file': () => sections(1, () => 999_999_999),
  'a table of a billion objects': () =>
    latin1(`%PDF-1.7\nxref\n0 1000000000\n0000000000 65535 f \ntrailer\n<</Root 1 0 R>>\nstartxref\n9\n%%EOF\n`),
  'a table that begins at a billion': () =>
    latin1(`%PDF-1.7\nxref\n1000000000 1\n0000000009 00000 n \ntrailer\n<</Root 1 0 R>>\nstartxref\n9\n%%EOF\n`),
  'a stream beside the table that is the table': () =>
    latin1('%PDF-1.7\nxref\n0 0\ntrailer\n<</Root 1 0 R/XRefStm 9>>\nstartxref\n9\n%%EOF\n'),
  'arrays a million deep': () => nested('[', 1_000_000, ']'),
  'dictionaries a million deep': () => nested('<</A', 1_000_000),
  'arrays without an end': () => nested('[', 5_000_000),
  'a string without an end': () => nested('(', 20_000_000),
  'a hexadecimal string without an end': () => pdfOf([CATALOG, PAGES, `<${'41'.repeat(10_000_000)}`]),
  'a name of 20 MB': () => pdfOf([CATALOG, PAGES, `/${'a'.repeat(20_000_000)}`]),
  'a comment of 20 MB': () => pdfOf([CATALOG, PAGES, `%${'a'.repeat(20_000_000)}`]),
  'an array of two million numbers': () => pdfOf([CATALOG, PAGES, `[${'1 '.repeat(2_000_000)}]`]),
  'a dictionary of two million keys': () =>
    pdfOf([CATALOG, PAGES, `<<${Array.from({ length: 1_100_000 }, (_, n) => `/k${n} 1`).join('')}>>`]),
  'page tree that is its own root': () => pdfOf(['<</Type/Catalog/Pages 1 0 R>>']).subarray(0, -300),
  'catalog by a circle of references': () => pdfOf(['2 0 R', '1 0 R']),
  'catalog that is a number': () => pdfOf(['1', PAGES]),
  'pages by a circle of references': () => pdfOf(['<</Type/Catalog/Pages 2 0 R>>', '3 0 R', '2 0 R']),
  'objects inside one another': () => {
    let text = '%PDF-1.7\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n';
    const offsets: number[] = [9, text.indexOf('2 0 obj')];
    for (let number = 3; number < 20_000; number++) {
      offsets.push(text.length);
      text += `${number} 0 obj (`;
    }
    text += ')'.repeat(20_000);
    const rows = offsets.map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`).join('');
    return latin1(
      `${text}\nxref\n0 ${offsets.length + 1}\n0000000000 65535 f \n${rows}trailer\n<</Root 1 0 R>>\nstartxref\n${text.length + 1}\n%%EOF\n`,
    );
  },
  'a hundred thousand objects that do not end, without a table': () =>
    latin1(`%PDF-1.7\n${Array.from({ length: 100_000 }, (_, n) => `${n + 1} 0 obj (`).join('\n')}\ntrailer\n%%EOF\n`),
  'fifty thousand streams that do not end, without a table': () =>
    latin1(`%PDF-1.7\n${Array.from({ length: 50_000 }, (_, n) => `${n + 1} 0 obj <</Length 5>> stream\n`).join('\n')}\ntrailer\n%%EOF\n`),
  'a million numbers, and no object': () => latin1(`%PDF-1.7\n${'1 0 '.repeat(2_000_000)}\ntrailer\n%%EOF\n`),
  'spaces, and no object': () => latin1(`%PDF-1.7\n1${' '.repeat(5_000_000)}0${' '.repeat(5_000_000)}\ntrailer\n%%EOF\n`),
  'a stream whose length is its own': () => pdfOf([CATALOG, PAGES, '<</Length 3 0 R>>\nstream\nabc']),
  'encryption that is its own': () => pdfOf([CATALOG, PAGES], '/Encrypt 1 0 R'),
  'encryption by nobody knows what': () => locked('<</Filter/Other.Handler/V 1>>'),
  'encryption of version 99': () => pubsec('[<3000>]', '/V 99/StmF/F/StrF/F'),
  'a million empty recipients': () => pubsec(`[${'<>'.repeat(1_000_000)}]`),
  'recipients of 8 MB': () => pubsec(`[<${'30'.repeat(8_000_000)}>]`),
  'recipients that are no CMS': () => pubsec('[<3003020101>]'),
  'recipients nested without end': () => pubsec(`[<${'3080'.repeat(100_000)}>]`),
  'a crypt filter that is not there': () => pubsec('[<3000>]', '/V 5/StmF/G/StrF/G'),
  'ours, cut in half': () => {
    const { bytes } = encrypted(pdfOf([CATALOG, PAGES]));
    return bytes.subarray(0, bytes.length / 2);
  },
  'a page of the web': () => latin1('<!doctype html><title>404</title>'),
  'a ZIP': () => Buffer.from('504b0304140000000800', 'hex'),
  'a header and no more': () => latin1('%PDF-1.7\n'),
  'cut inside a stream': () => pdfOf([CATALOG, PAGES, stream('', Buffer.alloc(5000, 'a'))]).subarray(0, 3000),
  'cut before its table': () => {
    const bytes = pdfOf([CATALOG, PAGES, stream('', Buffer.alloc(5000, 'a'))]);
    return bytes.subarray(0, bytes.lastIndexOf('xref\n0') - 1);
  },
  'deep arrays in the trailer': () => pdfOf([CATALOG, PAGES], `/X ${'['.repeat(100_000)}`),
  'an encryption dictionary that is not there': () => pdfOf([CATALOG, PAGES], '/Encrypt [1 2]'),
  nothing: () => Buffer.alloc(0),
  'a megabyte of noise': () => Buffer.from(Array.from({ length: 2 ** 20 }, (_, n) => (n * 7919) & 0xff)),
};
