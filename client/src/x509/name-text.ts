import { children, Fields, oidOf, readWhole, TAG } from '../../../src/codec/asn1/index.js';

const SHORT: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '1.2.840.113549.1.9.1': 'emailAddress',
};

/** A Name for people, in its own order; not a form to compare by. */
export function nameText(name: Buffer): string {
  const parts = children(readWhole(name)).flatMap((rdn) =>
    children(rdn).map((pair) => {
      const fields = Fields.of(pair, TAG.sequence);
      const type = oidOf(fields.take(TAG.oid));
      const value = fields.take();
      const text = value.tag === 0x1e ? Buffer.from(value.content).swap16().toString('utf16le') : value.content.toString('utf8');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: a name comes from the mail, and goes to a terminal
      return `${SHORT[type] ?? type}=${text.replace(/[\x00-\x1f\x7f-\x9f]/g, '?')}`;
    }),
  );
  return parts.join(', ') || '(no name)';
}
