import { randomBytes } from 'node:crypto';
import { PDFDocument, PDFHexString, PDFName, PDFString, StandardFonts } from 'pdf-lib';

/** `more`: random bytes on each page, as text. A document with all that must survive: text, fonts, Info, XMP, an attachment, a form, outlines, page labels, structure. */
export async function richPdf({
  pages = 3,
  objectStreams = true,
  attachment = Buffer.from('the attached words'),
  more = 0,
} = {}): Promise<Buffer> {
  const document = await PDFDocument.create();
  const font = await document.embedFont(StandardFonts.Helvetica);
  for (let number = 1; number <= pages; number++)
    document.addPage([300, 400]).drawText(`Page ${number}: the quarterly figures are secret${randomBytes(more).toString('base64')}`, {
      x: 20,
      y: 350,
      size: 12,
      font,
    });
  document.setTitle('Quarterly figures (draft) \\ 季度');
  document.setAuthor('Anna Example');
  document.setSubject('secret');
  await document.attach(attachment, 'figures.csv', { mimeType: 'text/csv', description: 'the figures' });
  const field = document.getForm().createTextField('approved.by');
  field.setText('Anna');
  field.addToPage(document.getPage(0), { x: 20, y: 200, width: 100, height: 20 });
  const { context } = document;
  const outlines = context.nextRef();
  const item = context.obj({
    Title: PDFHexString.fromText('First chapter'),
    Parent: outlines,
    Dest: [document.getPage(0).ref, PDFName.of('Fit')],
  });
  const itemRef = context.register(item);
  context.assign(outlines, context.obj({ Type: 'Outlines', First: itemRef, Last: itemRef, Count: 1 }));
  document.catalog.set(PDFName.of('Outlines'), outlines);
  document.catalog.set(PDFName.of('PageLabels'), context.obj({ Nums: [0, { S: 'r' }, 1, { S: 'D', P: PDFString.of('A-') }] }));
  document.catalog.set(PDFName.of('StructTreeRoot'), context.register(context.obj({ Type: 'StructTreeRoot' })));
  const xmp =
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><secret/></x:xmpmeta><?xpacket end="w"?>';
  document.catalog.set(PDFName.of('Metadata'), context.register(context.stream(xmp, { Type: 'Metadata', Subtype: 'XML' })));
  return Buffer.from(await document.save({ useObjectStreams: objectStreams }));
}
