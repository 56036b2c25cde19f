import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';

/**
 * A document of `pages` pages with `bytes` bytes of pictures in all, which do not compress: what scanners make. Written piece by piece, so that one of a
 * gigabyte needs no memory.
 */
export function scanned(path, pages, bytes) {
  const each = Math.floor(bytes / pages);
  write(path, pages, (page, add) => {
    const text = `q 595 0 0 842 0 0 cm /Im0 Do Q\nBT /F1 9 Tf 40 20 Td (page ${page + 1}) Tj ET`;
    add(`<< /Length ${text.length} >>\nstream\n${text}\nendstream`);
    const width = Math.max(1, Math.floor(each / 1024));
    add(
      `<< /Type /XObject /Subtype /Image /Width ${width} /Height 1024 /ColorSpace /DeviceGray /BitsPerComponent 8 /Length ${width * 1024} >>\nstream\n`,
      noise(width * 1024),
      '\nendstream',
    );
    return 2;
  });
}

/** A document of `pages` pages of words. */
export function written(path, pages) {
  write(path, pages, (page, add) => {
    const lines = Array.from({ length: 36 }, (_, line) => `(${sentence(page * 36 + line)}) Tj T*`);
    const text = `BT /F1 11 Tf 14 TL 50 780 Td\n${lines.join('\n')}\nET`;
    add(`<< /Length ${text.length} >>\nstream\n${text}\nendstream`);
    return 1;
  });
}

/** Words that repeat as seldom as in prose; always the same. */
const sentence = (number) =>
  createHash('sha256')
    .update(String(number))
    .digest('hex')
    .slice(0, 60)
    .replace(/[0-9]/g, (digit) => (digit < '5' ? ' ' : 'etaoinshrd'[digit]));

/** @param content adds the objects of one page, its contents first, then the picture if there is one; returns how many */
function write(path, pages, content) {
  const file = openSync(path, 'w');
  const offsets = [];
  let at = 0;
  const put = (piece) => {
    const bytes = typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece;
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
    at += bytes.length;
  };
  const object = (number, ...pieces) => {
    offsets[number] = at;
    for (const piece of [`${number} 0 obj\n`, ...pieces, '\nendobj\n']) put(piece);
  };
  put('%PDF-1.7\n%\xe2\xe3\xcf\xd3\n');
  object(1, '<< /Type /Catalog /Pages 2 0 R >>');
  object(3, '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>');
  const kids = [];
  for (let page = 0, next = 4; page < pages; page++) {
    const first = next + 1;
    let added = 0;
    const count = content(page, (...pieces) => object(first + added++, ...pieces));
    const picture = count > 1 ? ` /XObject << /Im0 ${first + 1} 0 R >>` : '';
    object(
      next,
      `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents ${first} 0 R /Resources << /Font << /F1 3 0 R >>${picture} >> >>`,
    );
    kids.push(`${next} 0 R`);
    next += 1 + count;
  }
  object(2, `<< /Type /Pages /Count ${pages} /Kids [${kids.join(' ')}] >>`);
  const start = at;
  put(`xref\n0 ${offsets.length}\n0000000000 65535 f \n`);
  put(
    offsets
      .slice(1)
      .map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`)
      .join(''),
  );
  put(`trailer\n<< /Size ${offsets.length} /Root 1 0 R >>\nstartxref\n${start}\n%%EOF\n`);
  closeSync(file);
}

/** Many random bytes, fast. */
const noise = (length) => createCipheriv('aes-256-ctr', randomBytes(32), randomBytes(16)).update(Buffer.alloc(length));
