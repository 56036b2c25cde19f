import type { PrintedLine } from '../codec/printed-pages.js';
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
  // Loaded here: it comes with a megabyte that no start needs.
  const { printedPages } = await import('../codec/printed-pages.js');
  return printedPages('Minutes of the key ceremony', minutesLines(facts));
}

function minutesLines({ appliance, token, present, custody, steps }: MinutesFacts): PrintedLine[] {
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
    ...custody.shares.flatMap(({ name, recipient, digest }, index): PrintedLine[] => [
      { line: `${index + 1}. ${name}${recipient === 'paper' ? ', on paper' : ''}` },
      { line: `   sealed to ${recipient}`, style: 'code' },
      { line: `   share ${digest.toString('hex')}`, style: 'code' },
    ]),
    { line: 'Keys made', style: 'head' },
    ...custody.keys.map(({ label, kind }): PrintedLine => ({ line: `${label} (${kind})`, style: 'code' })),
    { line: 'Certificates, SHA-256', style: 'head' },
    ...Object.entries(custody.certificates).flatMap(([name, der]): PrintedLine[] => [
      { line: name },
      { line: fingerprint(der), style: 'code' },
    ]),
    { line: 'Steps', style: 'head' },
    ...steps.map(({ time, done }): PrintedLine => ({ line: `${time}  ${done}` })),
    { line: 'Present', style: 'head' },
    ...(present.length > 0 ? present : ['']).flatMap((name): PrintedLine[] => [
      { line: '' },
      { line: `${name}  ______________________________` },
    ]),
  ];
}
