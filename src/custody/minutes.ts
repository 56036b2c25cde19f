import { PDFDocument, StandardFonts } from 'pdf-lib';
import { base64url, sha256 } from '../foundation/index.js';
import type { CustodyPackage } from '../tokens/index.js';

export interface MinutesFacts {
  appliance: string;
  token: { label: string; module: string };
  /** Who was in the room, as they were named. */
  present: readonly string[];
  custody: CustodyPackage;
  /** Steps with the time (ISO) at which each was done. */
  steps: readonly { time: string; done: string }[];
}

/** The minutes' facts as the appliance signs them: digests, no names of people but the custodians'. */
export function minutesStatement({ appliance, token, custody }: MinutesFacts, pdf: Uint8Array) {
  return {
    appliance,
    token: token.label,
    ceremony: base64url(custody.ceremony),
    threshold: custody.threshold,
    custodians: custody.shares.map(({ name, recipient, digest }) => ({ name, recipient, digest: base64url(digest) })),
    root: base64url(sha256(custody.certificates.root)),
    pdf: base64url(sha256(pdf)),
  };
}

/** A4 pages to be read aloud, signed by those present, and kept with the shares. */
export async function minutesPdf(facts: MinutesFacts): Promise<Uint8Array> {
  const pdf = await PDFDocument.create();
  pdf.setTitle('Minutes of the key ceremony');
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
  for (const { line, style } of minutesLines(facts)) {
    if (style === 'title') put(line, bold, 16);
    else if (style === 'head') {
      y -= 8;
      put(line, bold, 11);
    } else put(line, style === 'code' ? code : text, style === 'code' ? 8 : 10);
  }
  return pdf.save();
}

interface Line {
  line: string;
  style?: 'title' | 'head' | 'code';
}

function minutesLines({ appliance, token, present, custody, steps }: MinutesFacts): Line[] {
  const fingerprint = (bytes: Uint8Array) =>
    (
      sha256(bytes)
        .toString('hex')
        .match(/.{1,8}/g) ?? []
    ).join(' ');
  return [
    { line: 'Minutes of the key ceremony', style: 'title' },
    { line: `Appliance ${appliance}; token ${token.label} (${token.module})` },
    { line: `Held ${custody.created}` },
    { line: `Ceremony ${custody.ceremony.toString('hex')}`, style: 'code' },
    { line: 'Custodians', style: 'head' },
    { line: `Any ${custody.threshold} of ${custody.shares.length} shares open the backups and make the token again. Fewer say nothing.` },
    ...custody.shares.flatMap(({ name, recipient, digest }, index): Line[] => [
      { line: `${index + 1}. ${name}${recipient === 'paper' ? ', on paper' : ''}` },
      { line: `   sealed to ${recipient}`, style: 'code' },
      { line: `   share ${digest.toString('hex')}`, style: 'code' },
    ]),
    { line: 'Keys made', style: 'head' },
    ...custody.keys.map(({ label, kind }): Line => ({ line: `${label} (${kind})`, style: 'code' })),
    { line: 'Certificates, SHA-256', style: 'head' },
    ...Object.entries(custody.certificates).flatMap(([name, der]): Line[] => [{ line: name }, { line: fingerprint(der), style: 'code' }]),
    { line: 'Steps', style: 'head' },
    ...steps.map(({ time, done }): Line => ({ line: `${time}  ${done}` })),
    { line: 'Present', style: 'head' },
    ...(present.length > 0 ? present : ['']).flatMap((name): Line[] => [{ line: '' }, { line: `${name}  ______________________________` }]),
  ];
}

/** The standard fonts know Windows-1252 only; what a name has beyond that is told as a question mark here, and as it is in the statement. */
const printable = (line: string): string => line.replaceAll(/[^\x20-\x7e\u00a0-\u00ff]/g, '?');
