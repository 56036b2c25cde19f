/** Stands in every stream of the document, not compressed. */
export const SECRET = 'the-merger-is-called-Blue-Heron';
const STREAMS = 24;
const STREAM_BYTES = 2 ** 20;

/** Of 24 MiB: it takes long enough to be met on the way. */
export function secretPdf(): Buffer {
  const content = Buffer.alloc(STREAM_BYTES, `(${SECRET}) Tj `);
  const objects = Array.from({ length: STREAMS }, () =>
    Buffer.concat([Buffer.from(`<< /Length ${STREAM_BYTES} >>\nstream\n`), content, Buffer.from('\nendstream')]),
  );
  const parts = [Buffer.from('%PDF-1.7\n')];
  let at = parts[0]?.length ?? 0;
  const offsets: number[] = [];
  [Buffer.from('<< /Type /Catalog /Pages 2 0 R >>'), Buffer.from('<< /Type /Pages /Count 0 /Kids [] >>'), ...objects].forEach(
    (body, index) => {
      offsets.push(at);
      const piece = Buffer.concat([Buffer.from(`${index + 1} 0 obj\n`), body, Buffer.from('\nendobj\n')]);
      parts.push(piece);
      at += piece.length;
    },
  );
  const rows = offsets.map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`).join('');
  const size = offsets.length + 1;
  parts.push(
    Buffer.from(`xref\n0 ${size}\n0000000000 65535 f \n${rows}trailer\n<< /Size ${size} /Root 1 0 R >>\nstartxref\n${at}\n%%EOF\n`),
  );
  return Buffer.concat(parts);
}
