/** RFC 2045 §6.7, of text whose lines end in CRLF. Lines stay within 76 characters. */
export function quotedPrintable(text: string): string {
  return text
    .split('\r\n')
    .map((line) => softBreaks(encode(line)))
    .join('\r\n');
}

/** 7-bit text that every relay leaves as it is: short lines, no blank at a line's end, no `From ` or lone dot in front (RFC 8551 §3.1.3, RFC 2049 §3). */
export function isSafeAsItStands(text: string): boolean {
  return text.split('\r\n').every((line) => /^[\x20-\x7e]{0,76}$/.test(line) && !/ $|^From |^\./.test(line));
}

function encode(line: string): string[] {
  const bytes = Buffer.from(line);
  return Array.from(bytes, (byte, at) => {
    const literal = (byte >= 0x21 && byte <= 0x7e && byte !== 0x3d) || ((byte === 0x20 || byte === 0x09) && at < bytes.length - 1);
    // What mail software might touch at the beginning of a line is encoded: `From ` (mbox) and `.` (SMTP).
    const touched = at === 0 && (byte === 0x2e || line.startsWith('From '));
    return literal && !touched ? String.fromCharCode(byte) : `=${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  });
}

function softBreaks(tokens: readonly string[]): string {
  let out = '';
  let width = 0;
  for (const [at, token] of tokens.entries()) {
    // 75 and not 76: room for the `=` of a soft line break, unless this is the line's last token.
    if (width + token.length > (at === tokens.length - 1 ? 76 : 75)) {
      out += '=\r\n';
      width = 0;
    }
    out += token;
    width += token.length;
  }
  return out;
}
