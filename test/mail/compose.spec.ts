import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { simpleParser } from 'mailparser';
import { compose } from '../../src/mail/compose.js';
import { checkMail, type OutgoingMail } from '../../src/mail/outgoing-mail.js';
import { type MailAuthority, mailAuthority } from './mail-authority.js';

const FROM = 'ekms@corp.example';
/** An hour from now, since NSS judges certificates at the signing time: within the life of those made for this test. To the second, as a Date header is. */
const soon = new Date(Math.floor(Date.now() / 1000) * 1000 + 3_600_000);
const challenge: OutgoingMail = {
  kind: 'challenge',
  to: 'Alice@Corp.Example',
  subject: 'ACME: 2R_-xhm3SjTUDn4c1a8nRA',
  text: 'Your device asks for a key.\nIf that was not you, do nothing.\n',
  headers: {
    'Auto-Submitted': 'auto-generated; type=acme',
    'EKMS-Enrolment': '6f1c9f8e-3c1e-4f5b-9c57-3f2b1a0d9e8c',
    'EKMS-Expires': new Date(soon.getTime() + 600_000).toISOString(),
  },
  expires: soon.getTime() + 600_000,
};

describe('a composed mail', () => {
  let authority: MailAuthority;
  const write = async (mail: Partial<OutgoingMail> = {}): Promise<Buffer> => {
    const bytes = await compose(
      checkMail({ ...challenge, ...mail }),
      { from: FROM, id: 'b7a4', date: soon },
      { certificates: async () => authority.certificates, signMail: authority.sign },
    );
    writeFileSync(join(authority.folder, 'mail.eml'), bytes);
    return bytes;
  };
  const run = (command: string, ...words: string[]) =>
    execFileSync(command, words, { cwd: authority.folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  /** What openssl found signed, once it verified up to the root. */
  const signedPart = () => run('openssl', 'cms', '-verify', '-in', 'mail.eml', '-CAfile', 'root.pem', '-purpose', 'smimesign');

  beforeAll(() => {
    authority = mailAuthority(FROM);
  });
  afterAll(() => authority.remove());

  test('verifies with openssl as it lies in a mailbox, and says inside the signature what stands outside', async () => {
    const outside = await simpleParser(await write());
    const signed = signedPart();
    const inside = await simpleParser(signed);
    for (const name of ['from', 'to', 'subject', 'date', 'message-id', 'auto-submitted', 'ekms-enrolment', 'ekms-expires']) {
      expect(outside.headers.get(name)).toBeDefined();
      expect(inside.headers.get(name)).toEqual(outside.headers.get(name));
    }
    expect(inside.subject).toBe(challenge.subject);
    expect(inside.text).toBe(challenge.text);
    expect(inside.headers.get('auto-submitted')).toBe('auto-generated; type=acme');
    expect(inside.headers.get('to')).toMatchObject({ text: 'Alice@corp.example' });
    expect(inside.date).toEqual(soon);
    expect(signed).toContain('Content-Type: text/plain; charset=utf-8; hp="clear"\r\n');
  });

  test('no longer verifies when one header inside or one letter of the text is another', async () => {
    const good = (await write()).toString('latin1');
    const second = good.lastIndexOf('6f1c9f8e');
    for (const bad of [`${good.slice(0, second)}7${good.slice(second + 1)}`, good.replace('was not you', 'was not yOu')]) {
      expect(bad).not.toBe(good);
      writeFileSync(join(authority.folder, 'mail.eml'), bad, 'latin1');
      expect(signedPart).toThrow();
    }
  });

  test('survives the ways of relays: CRLF made LF at rest, quoted "From " and dots, and blanks at line ends', async () => {
    for (const line of ['From here on', '.', '.. two', 'blank at the end ', 'tab\t', 'x'.repeat(77)])
      expect((await write({ text: `${line}\n` })).toString()).not.toMatch(/^(From |\.)|[ \t]\r?$|^x{77}/m);
    const text = 'From here on\n.\n.. two\nblank at the end \nlong '.padEnd(300, 'x');
    const bytes = await write({ text });
    expect(bytes.toString()).not.toMatch(/^(From |\.)|[ \t]$/m);
    writeFileSync(join(authority.folder, 'mail.eml'), bytes.toString().replaceAll('\r\n', '\n'));
    expect((await simpleParser(signedPart())).text?.trimEnd()).toBe(text);
  });

  test('is 7-bit with lines of at most 998 octets ended by CRLF, whatever the subject and text, which come out as they went in', async () => {
    const line = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }).filter((text) => !/[\p{Cc}\p{Cs}]|^\s|\s$/u.test(text));
    await fc.assert(
      fc.asyncProperty(line, fc.array(line, { maxLength: 5 }), async (subject, lines) => {
        const text = `${lines.join('\n')}\n`;
        const bytes = await write({ subject, text });
        const raw = bytes.toString('latin1');
        expect(raw).toMatch(/^[\x20-\x7e\t\r\n]*$/);
        expect(raw).not.toMatch(/(^|[^\r])\n|\r[^\n]/);
        for (const one of raw.split('\r\n')) expect(one.length).toBeLessThanOrEqual(998);
        const read = await simpleParser(bytes);
        expect(read.subject).toBe(subject);
        expect(read.text).toBe(text);
      }),
      { numRuns: 150 },
    );
  });

  test('a name in any script in subject and text still verifies', async () => {
    await write({ subject: 'Nové zařízení „Alicin počítač“ 爱丽丝的笔记本', text: 'Zařízení 爱丽丝 = nové\n' });
    expect((await simpleParser(signedPart())).subject).toBe('Nové zařízení „Alicin počítač“ 爱丽丝的笔记本');
  });

  test('nobody begins a header of his own by an address, a subject, a header or a text', () => {
    const bad: Partial<OutgoingMail>[] = [
      { to: 'alice@corp.example\r\nBcc: eve@evil.example' },
      { to: 'alice@corp.example, eve@evil.example' },
      ...['\r\n', '\n', '\r', '\0', '\u0085', '\x0b', '\ud800'].map((end) => ({ subject: `hello${end}Bcc: eve@evil.example` })),
      ...['\r\n', '\n', '\r', '\0', 'é'].map((end) => ({ headers: { 'EKMS-Enrolment': `x${end}Bcc: eve@evil.example` } })),
      ...['Bcc', 'From', 'Content-Type', 'EKMS-A:', 'EKMS-A\r\nBcc', 'MIME-Version', ''].map((name) => ({ headers: { [name]: 'x' } })),
      { headers: { 'EKMS-A': '' } },
      ...['\r', '\0', '\x1b[31m', '\ud800'].map((sign) => ({ text: `a${sign}b` })),
    ];
    for (const part of bad) expect(() => checkMail({ ...challenge, ...part })).toThrow(expect.objectContaining({ kind: 'malformed' }));
  });

  test('NSS and gpgsm verify it too', async () => {
    const raw = (await write()).toString('latin1');
    const boundary = /boundary="(.*)"/.exec(raw)?.[1] ?? '';
    const [, signed = '', signature = ''] = raw.split(`\r\n--${boundary}`).map((part) => part.replace(/^\r\n/, ''));
    writeFileSync(join(authority.folder, 'signed'), signed, 'latin1');
    writeFileSync(join(authority.folder, 'signature.der'), Buffer.from(signature.slice(signature.indexOf('\r\n\r\n')), 'base64'));
    run('certutil', '-N', '-d', 'sql:.', '--empty-password');
    run('certutil', '-A', '-d', 'sql:.', '-n', 'root', '-t', 'C,C,C', '-i', 'root.pem');
    expect(run('cmsutil', '-D', '-d', 'sql:.', '-c', 'signed', '-i', 'signature.der')).toBe(
      readFileSync(join(authority.folder, 'signed'), 'utf8'),
    );
    run('mkdir', '-m', '700', 'gnupg');
    const fingerprint = run('openssl', 'x509', '-in', 'root.pem', '-noout', '-fingerprint', '-sha1').split('=')[1]?.trim();
    writeFileSync(join(authority.folder, 'gnupg/trustlist.txt'), `${fingerprint} S\n`);
    const gpgsm = (...words: string[]) =>
      run('gpgsm', '--homedir', join(authority.folder, 'gnupg'), '--batch', '--disable-crl-checks', '--status-fd', '1', ...words);
    try {
      gpgsm('--import', 'root.pem');
      expect(gpgsm('--verify', 'signature.der', 'signed')).toMatch(/GOODSIG[\s\S]*VALIDSIG[\s\S]*TRUST_FULLY/);
    } finally {
      run('gpgconf', '--homedir', join(authority.folder, 'gnupg'), '--kill', 'all');
    }
  });
});
