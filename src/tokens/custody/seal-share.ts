import { z } from 'zod';
import { makeHeader, parseRecipient, sealSmall } from '../../codec/age.js';
import { envelopedFor, keyTransportRecipient } from '../../codec/cms/index.js';
import { base64url, fromBase64, isFault, sha256 } from '../../foundation/index.js';
import { formatShare, type Share } from './shares.js';

const personName = z.string().regex(/^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,79}$/u, 'is a name of letters, digits, blanks, dots and hyphens');

/** Whom a share is for: an age recipient, an RSA certificate (a smart card's), or a sheet of paper in a safe. That it can be sealed to them is known before a key is made. */
const custodianShape = z
  .strictObject({
    name: personName,
    recipient: z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('age'), recipient: z.string().max(100) }),
      z.strictObject({ kind: z.literal('certificate'), der: z.string().max(20_000) }),
      z.strictObject({ kind: z.literal('paper') }),
    ]),
  })
  .superRefine(({ name, recipient }, context) => {
    try {
      if (recipient.kind === 'age') parseRecipient(recipient.recipient);
      if (recipient.kind === 'certificate') keyTransportRecipient(derOf(recipient));
    } catch (error) {
      if (!isFault(error)) throw error;
      context.addIssue({ code: 'custom', path: ['recipient'], message: `${name}: ${error.message}` });
    }
  });
export type Custodian = z.output<typeof custodianShape>;

const derOf = ({ der }: { der: string }): Buffer => fromBase64(der, 'base64') ?? Buffer.alloc(0);

/** Recovery agents with their own public keys (SPKI DER, base64). */
const recoveryPlanShape = z
  .strictObject({
    quorum: z.int().min(2).max(16),
    agents: z
      .array(z.strictObject({ name: personName, publicKey: z.string().max(4_000) }))
      .min(2)
      .max(16),
  })
  .refine(({ quorum, agents }) => quorum <= agents.length, { path: ['quorum'], message: 'is more than there are recovery agents' })
  .refine(({ agents }) => new Set(agents.map(({ name }) => name)).size === agents.length, {
    path: ['agents'],
    message: 'two have one name',
  })
  .refine(({ agents }) => new Set(agents.map(({ publicKey }) => publicKey)).size === agents.length, {
    path: ['agents'],
    message: 'two have one key: one person would count twice',
  });

export const custodyPlanShape = z
  .strictObject({
    threshold: z.int().min(2).max(16),
    custodians: z.array(custodianShape).min(2).max(16),
    recovery: recoveryPlanShape.optional(),
  })
  .refine(({ threshold, custodians }) => threshold <= custodians.length, {
    path: ['threshold'],
    message: 'is more than there are custodians',
  })
  .refine(({ custodians }) => new Set(custodians.map(({ name }) => name)).size === custodians.length, {
    path: ['custodians'],
    message: 'two have one name',
  })
  .refine(({ custodians }) => new Set(custodians.map(keyOf)).size === custodians.length, {
    path: ['custodians'],
    message: 'two have one key: one person would hold two shares',
  });
export type CustodyPlan = z.output<typeof custodyPlanShape>;

/** What opens a share: what no two have. Each sheet of paper is its own. */
const keyOf = (custodian: Custodian): unknown =>
  custodian.recipient.kind === 'paper'
    ? custodian
    : custodian.recipient.kind === 'age'
      ? custodian.recipient.recipient
      : custodian.recipient.der;

/** How the package names whom a share went to. Throws `age-recipient-malformed`. */
export function recipientOf({ recipient }: Custodian): string {
  if (recipient.kind === 'paper') return 'paper';
  if (recipient.kind === 'age') {
    parseRecipient(recipient.recipient);
    return recipient.recipient;
  }
  return `certificate:${base64url(sha256(derOf(recipient)))}`;
}

/** The file that a custodian gets. Only the paper form can be read by whoever finds it. */
export async function sealShare(share: Share, { name, recipient }: Custodian): Promise<{ file: string; content: Buffer }> {
  const base = `share-${share.number}-${name.replaceAll(/[^\p{L}\p{N}._-]/gu, '_')}`;
  const line = formatShare(share);
  if (recipient.kind === 'certificate') return { file: `${base}.p7m`, content: envelopedFor(derOf(recipient), Buffer.from(`${line}\n`)) };
  if (recipient.kind === 'age') {
    const { header, fileKey } = makeHeader(recipient.recipient);
    return { file: `${base}.age`, content: Buffer.concat([header, sealSmall(fileKey, Buffer.from(`${line}\n`))]) };
  }
  return { file: `${base}.txt`, content: Buffer.from(paper(share, name, line)) };
}

const paper = (share: Share, name: string, line: string): string => `EKMS custody share ${share.number} of ${share.total}

Custodian: ${name}
Ceremony:  ${share.ceremony.toString('hex')}
Any ${share.threshold} of the ${share.total} shares open the backups of this appliance. Fewer say nothing.
Print this, seal it, lock it away, and delete the file. The last letters are a checksum.
As a QR code: the line below as it stands (alphanumeric mode).

${line}
`;
