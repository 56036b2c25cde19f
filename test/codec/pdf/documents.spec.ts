import { expect, jest, test } from '@jest/globals';
import { lockOf, PdfFile, permissionBits, permissionsOf, publicKeySecurity, rewrite } from '../../../src/codec/pdf/index.js';
import { richPdf } from '../../support/rich-pdf.js';
import { pdfOf } from './bombs.js';
import { decrypted, encrypted, MemorySink, sourceOf, testCertificate, unlocked } from './documents.js';

jest.setTimeout(60_000);

const refused = (code: string) => expect.objectContaining({ code });
const SIGNED = pdfOf([
  '<</Type/Catalog/Pages 2 0 R/AcroForm<</SigFlags 3/Fields[3 0 R]>>/Perms<</DocMDP 4 0 R>>>>',
  '<</Type/Pages/Kids[]/Count 0>>',
  '<</FT/Sig/V 4 0 R>>',
  '<</Type/Sig/ByteRange[0 1 2 3]/Contents<abcdef>>>',
]);

test('a signed document is refused, unless somebody says that its signatures may break; then they are told, and their bytes stay', () => {
  expect(() => encrypted(SIGNED)).toThrow(refused('pdf-signed'));
  const sink = new MemorySink();
  const security = publicKeySecurity(
    [{ certificates: [testCertificate], permissions: permissionBits('owner') }],
    { transport: 'pkcs1', cipher: 'aes-256-cbc' },
    'all',
  );
  const told = rewrite(PdfFile.open(sourceOf(SIGNED)), sink, { security, signatures: 'break' });
  expect(told.warnings).toEqual(['certification-broken', 'signatures-broken']);
  const signature = unlocked(sink.bytes).object(4)?.value;
  expect(signature instanceof Map && signature.get('Contents')).toEqual(Buffer.from('abcdef', 'hex'));
});

test('attachments alone: the document is open, what is attached is not', async () => {
  const plain = await richPdf({ objectStreams: false, attachment: Buffer.alloc(5000, 'the attached words ') });
  const { bytes } = encrypted(plain, 'attachments');
  expect(bytes.includes('/EFF')).toBe(true);
  const back = decrypted(bytes).bytes;
  const contentOf = (file: PdfFile) =>
    [...file.objects()]
      .flatMap((object) =>
        object.data
          ? [Buffer.concat([...file.content({ ...object, data: object.data }).pieces].map((piece) => Buffer.from(piece))).toString('hex')]
          : [],
      )
      .sort();
  expect(contentOf(PdfFile.open(sourceOf(back)))).toEqual(contentOf(PdfFile.open(sourceOf(plain))));
});

test('a saved change hides what was before it: nothing of that is in the encrypted document', () => {
  const first = pdfOf(['<</Type/Catalog/Pages 2 0 R>>', '<</Type/Pages/Kids[]/Count 0>>', '(the first words)', '(gone)']);
  const start = first.length;
  const update = `3 0 obj\n(the last words)\nendobj\nxref\n3 2\n${String(start).padStart(10, '0')} 00000 n \n0000000000 00001 f \ntrailer\n<</Size 5/Root 1 0 R/Prev ${first.lastIndexOf('xref\n0')}>>\nstartxref\n${start + '3 0 obj\n(the last words)\nendobj\n'.length}\n%%EOF\n`;
  const open = unlocked(encrypted(Buffer.concat([first, Buffer.from(update)])).bytes);
  expect(open.object(3)?.value).toEqual(Buffer.from('the last words'));
  expect(open.object(4)).toBeUndefined();
});

test('a hybrid file: what its table calls free stands in the stream beside it', () => {
  const hidden = '5 0 obj\n(in the stream)\nendobj\n';
  const head = '%PDF-1.5\n1 0 obj\n<</Type/Catalog/Pages 2 0 R/X 5 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n';
  const at = head.length;
  const rows = Buffer.alloc(5);
  rows.writeUInt8(1, 0);
  rows.writeUInt32BE(at, 1);
  const beside = at + hidden.length;
  const table = `6 0 obj\n<</Type/XRef/W[1 4 0]/Index[5 1]/Size 7/Length 5>>\nstream\n${rows.toString('latin1')}\nendstream\nendobj\n`;
  const offset = (word: string) => String(head.indexOf(word)).padStart(10, '0');
  const text = `${head}${hidden}${table}xref\n0 3\n0000000000 65535 f \n${offset('1 0 obj')} 00000 n \n${offset('2 0 obj')} 00000 n \n5 1\n0000000000 00000 f \ntrailer\n<</Size 7/Root 1 0 R/XRefStm ${beside}>>\nstartxref\n${beside + table.length}\n%%EOF\n`;
  const file = PdfFile.open(sourceOf(Buffer.from(text, 'latin1')));
  expect(file.isRepaired).toBe(false);
  expect(file.object(5)?.value).toEqual(Buffer.from('in the stream'));
});

test('damaged cross-references are mended and told; what is missing is refused', () => {
  const sound = pdfOf(['<</Type/Catalog/Pages 2 0 R>>', '<</Type/Pages/Kids[]/Count 0>>', '(words)']);
  const shifted = Buffer.concat([sound.subarray(0, 9), Buffer.from('% a line that moves everything\n'), sound.subarray(9)]);
  const { bytes, told } = encrypted(shifted);
  expect(told.warnings).toEqual(['repaired']);
  expect(unlocked(bytes).object(3)?.value).toEqual(Buffer.from('words'));
  expect(() => encrypted(shifted.subarray(0, shifted.lastIndexOf('xref\n0')))).toThrow(refused('pdf-truncated'));
  expect(() => encrypted(Buffer.from(sound.toString('latin1').replace('(words)', '(words('), 'latin1'))).toThrow(refused('pdf-damaged'));
});

test('2,000 pages of 1.3 kB do not grow by more than a twentieth', async () => {
  const plain = await richPdf({ pages: 2000, more: 900 });
  expect(encrypted(plain).bytes.length).toBeLessThan(1.05 * plain.length);
});

test('permissions come back as they were set', () => {
  expect(permissionsOf(permissionBits(['print', 'copy']))).toEqual({ isOwner: false, allowed: ['print', 'copy'] });
  expect(permissionsOf(permissionBits('owner')).isOwner).toBe(true);
});

test('a document is known for what it is', async () => {
  const plain = await richPdf();
  expect([plain, encrypted(plain).bytes].map((bytes) => lockOf(PdfFile.open(sourceOf(bytes))).kind)).toEqual(['none', 'public-key']);
});
