import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { canonicalJson, Fault, fromBase64, type Json } from '../../foundation/index.js';
import { kekIdOf } from '../hsm.js';

const bytes = z.string().transform((text, context) => {
  const value = fromBase64(text, 'base64url');
  if (value) return value;
  context.addIssue({ code: 'custom', message: 'is not base64url' });
  return z.NEVER;
});

/** A key under a fresh AES-256 key (AES-KWP), and that under the custody key (RSA-OAEP). Without `content`, `key` is the secret itself under RSA-OAEP. */
const envelope = z.strictObject({ key: bytes, content: bytes.optional() });
export type Envelope = z.output<typeof envelope>;

const KINDS = ['kek', 'aes', 'generic', 'p256', 'p384', 'ed25519', 'rsa'] as const;
export type CustodyKind = (typeof KINDS)[number];

const custodyKeyEntry = z.strictObject({
  label: z.string().max(64),
  kind: z.enum(KINDS),
  publicKey: bytes.optional(),
  envelope,
  /** Of a later generation of an authority: its certificate (DER), which is here before that generation serves. */
  certificate: bytes.optional(),
});
export type CustodyEntry = z.output<typeof custodyKeyEntry>;

const shape = z.strictObject({
  type: z.literal('ekms-custody'),
  v: z.literal(1),
  /** 16 bytes. */
  ceremony: bytes,
  created: z.string(),
  threshold: z.int().min(2).max(255),
  /** In order of their numbers. `recipient` names whom the share was sealed to: an age recipient, a certificate's SHA-256, or `paper`. */
  shares: z
    .array(z.strictObject({ name: z.string().min(1).max(80), recipient: z.string().max(200), digest: bytes }))
    .min(2)
    .max(255),
  /** RSA; private part as PKCS#8 by AES-KWP under the ceremony key, which only the shares together give back. */
  custodyKey: z.strictObject({ publicKey: bytes, wrapped: bytes }),
  /** Whom backups are encrypted to (age X25519), and the identity that opens them. */
  backup: z.strictObject({ recipient: z.string().startsWith('age1'), envelope }),
  keys: z.array(custodyKeyEntry).min(1),
  /** Who may approve the recovery of a person's keys (docs/formats/recovery.md). */
  recovery: z
    .strictObject({
      quorum: z.int().min(2).max(16),
      agents: z
        .array(z.strictObject({ name: z.string().min(1).max(80), publicKey: bytes }))
        .min(2)
        .max(16),
    })
    .optional(),
  /** DER, as the token process keeps them. */
  certificates: z.strictObject({ root: bytes, people: bytes, devices: bytes, infrastructure: bytes, delivery: bytes }),
});

/**
 * All that M custodians need to make the token anew (docs/formats/custody-package.md). Nothing in it is secret: whoever has it and fewer
 * than M shares has AES-KWP and RSA-OAEP to break.
 */
export type CustodyPackage = z.output<typeof shape>;

/** Ids of the KEKs that a package holds a copy of. */
export const keksOf = ({ keys }: Pick<CustodyPackage, 'keys'>): string[] => keys.flatMap(({ label }) => kekIdOf(label) ?? []);

/** The package with the MAC that the token put over it: whom later keys are wrapped to must not be changed by whoever writes the file. */
const sealedShape = z.strictObject({ package: z.unknown(), mac: bytes });
export interface SealedPackage {
  package: CustodyPackage;
  mac: Buffer;
}

const plain = (value: unknown): Json =>
  JSON.parse(JSON.stringify(value, (_, each) => (each?.type === 'Buffer' ? Buffer.from(each.data).toString('base64url') : each))) as Json; // what JSON.stringify made is JSON

export const packageMacInput = (content: CustodyPackage): Buffer =>
  Buffer.from(`EKMS custody package v1\n${canonicalJson(plain(content))}`);

export const encodePackage = ({ package: content, mac }: SealedPackage): string =>
  `${JSON.stringify({ package: plain(content), mac: mac.toString('base64url') }, null, 1)}\n`;

/** Throws `custody-package-malformed`. */
export function parsePackage(text: string): SealedPackage {
  try {
    const sealed = sealedShape.parse(JSON.parse(text));
    return { package: shape.parse(sealed.package), mac: sealed.mac };
  } catch {
    throw new Fault('malformed', 'custody-package-malformed', 'this is not a custody package, or it is damaged');
  }
}

/** Undefined where there was no ceremony with custodians. */
export function readPackage(path: string): SealedPackage | undefined {
  try {
    return parsePackage(readFileSync(path, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
