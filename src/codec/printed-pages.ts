import { PDFDocument, StandardFonts } from 'pdf-lib';

export interface PrintedLine {
  line: string;
  style?: 'title' | 'head' | 'code';
}

/** A4 pages of plain lines, to be printed and signed by hand. */
export async function printedPages(title: string, lines: readonly PrintedLine[]): Promise<Uint8Array> {
  const pdf = await PDFDocument.create();
  pdf.setTitle(title);
  pdf.setCreator('EKMS');
  const [text, bold, code] = [
    await pdf.embedFont(StandardFonts.Helvetica),
    await pdf.embedFont(StandardFonts.HelveticaBold),
    await pdf.embedFont(StandardFonts.Courier),
  ];
  let page = pdf.addPage([595, 842]);
  let y = 780;
  const put = (line: string, font = text, size = 10) => {
    if (y < 60) {
      page = pdf.addPage([595, 842]);
      y = 780;
    }
    page.drawText(printable(line), { x: 56, y, font, size });
    y -= size + 5;
  };
  for (const { line, style } of lines) {
    if (style === 'title') put(line, bold, 16);
    else if (style === 'head') {
      y -= 8;
      put(line, bold, 11);
    } else put(line, style === 'code' ? code : text, style === 'code' ? 8 : 10);
  }
  return pdf.save();
}

/** The standard fonts know Windows-1252 only; what a line has beyond that is a question mark here. */
const printable = (line: string): string => line.replaceAll(/[^\x20-\x7e\u00a0-\u00ff]/g, '?');
