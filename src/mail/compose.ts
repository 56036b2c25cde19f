import { signedDetached } from '../codec/cms/index.js';
import { base64url, sha256 } from '../foundation/index.js';
import type { CheckedMail } from './outgoing-mail.js';
import { isSafeAsItStands, quotedPrintable } from './quoted-printable.js';

/** EKMS's mail-signing key, which lives in the token: ECDSA P-256, r ‖ s, over a message that it hashes itself. */
export abstract class MailSigner {
  /** DER: the leaf, whose rfc822Name is the From address, then what leads to the root. */
  abstract certificates(): Promise<readonly Uint8Array[]>;
  abstract signMail(message: Uint8Array): Promise<Uint8Array>;
}

/** The whole mail, RFC 5322, 7-bit, lines ended by CRLF, signed (RFC 8551 §3.5.3) as docs/formats/enrolment.md §2 says. */
export async function compose(mail: CheckedMail, frame: { from: string; id: string; date: Date }, signer: MailSigner): Promise<Buffer> {
  const domain = frame.from.slice(frame.from.lastIndexOf('@') + 1);
  const messageId = `<${frame.id}@${domain}>`;
  const { 'Auto-Submitted': submitted = 'auto-generated', ...own } = mail.headers;
  const headers = Object.entries({
    From: frame.from,
    To: mail.to,
    Subject: mail.subject,
    Date: frame.date.toUTCString().replace(/GMT$/, '+0000'), // RFC 5322 §4.3: the zone name is obsolete
    'Message-ID': messageId,
    'Auto-Submitted': submitted,
    ...own,
  }).map(([name, value]) => field(name, value));

  // RFC 9788 §2.1: the signed part carries the header fields itself, and hp="clear" says that those outside are the same.
  const text = mail.text.replaceAll('\n', '\r\n');
  const asItStands = isSafeAsItStands(text);
  const signed = [
    ...headers,
    'Content-Type: text/plain; charset=utf-8; hp="clear"',
    `Content-Transfer-Encoding: ${asItStands ? '7bit' : 'quoted-printable'}`,
    '',
    asItStands ? text : quotedPrintable(text),
  ].join('\r\n');

  const signature = await signedDetached({
    content: Buffer.from(signed),
    certificates: await signer.certificates(),
    time: frame.date,
    algorithm: 'ecdsa-p256-sha256',
    sign: (attributes) => signer.signMail(attributes),
  });
  // "=_" stands in no quoted-printable text (RFC 2045 §6.7, note), and nobody outside can foresee the rest.
  const boundary = `=_${base64url(sha256('boundary', messageId)).slice(0, 22)}`;
  const whole = [
    ...headers,
    'MIME-Version: 1.0',
    `Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n micalg=sha-256; boundary="${boundary}"`,
    '',
    'This is a signed message (S/MIME).',
    `--${boundary}`,
    signed, // RFC 2046 §5.1.1: the CRLF before the delimiter belongs to the delimiter, and is not signed
    `--${boundary}`,
    'Content-Type: application/pkcs7-signature; name="smime.p7s"',
    'Content-Transfer-Encoding: base64',
    'Content-Disposition: attachment; filename="smime.p7s"',
    '',
    ...(signature.toString('base64').match(/.{1,76}/g) ?? []),
    `--${boundary}--`,
    '',
  ];
  return Buffer.from(whole.join('\r\n'), 'latin1');
}

function field(name: string, value: string): string {
  return fold(`${name}: ${/^[\x20-\x7e]*$/.test(value) && !/=\?|^ | $| {2}/.test(value) ? value : encodedWords(value)}`);
}

/** RFC 2047 §2 and §5: words of at most 75 characters, none of which splits a character. */
function encodedWords(value: string): string {
  const words: string[] = [''];
  for (const character of value) {
    const word = words.at(-1) ?? '';
    if (Buffer.byteLength(word + character) > 45) words.push(character);
    else words[words.length - 1] = word + character;
  }
  return words.map((word) => `=?utf-8?B?${Buffer.from(word).toString('base64')}?=`).join(' ');
}

/** RFC 5322 §2.2.3: long lines are broken before a blank, wanted at 78 characters. A word longer than that stays whole. */
function fold(line: string): string {
  const lines: string[] = [];
  for (const word of line.split(/(?<=\S)(?= \S)/)) {
    const last = lines.at(-1);
    // The field's first word stays on the line of its name.
    if (last !== undefined && (last.endsWith(':') || last.length + word.length <= 78)) lines[lines.length - 1] = last + word;
    else lines.push(word);
  }
  return lines.join('\r\n');
}
