import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { Fault } from '../../foundation/index.js';

/** A CK_ULONG that a vendor chose. */
const number = z.number().int().min(0).max(0xffffffff);
const oaepHash = z.strictObject({ hash: number, mgf: number });

const profileShape = z
  .strictObject({
    name: z.string().min(1),
    mechanisms: z.strictObject({
      kwp: number,
      aesKeyGen: number,
      genericSecretKeyGen: number,
      rsaKeyPairGen: number,
      ecKeyPairGen: number,
      /** Both absent where the token knows no Ed25519: then the log's heads are signed by ECDSA P-256. */
      edwardsKeyPairGen: number.optional(),
      rsaPkcs: number,
      rsaOaep: number,
      rsaPkcsSha384: number,
      ecdsa: number,
      eddsa: number.optional(),
      hmacSha256: number,
      aesGcm: number,
    }),
    oaep: z.strictObject({
      release: z.enum(['sha1', 'sha256']),
      hashes: z.strictObject({ sha1: oaepHash.optional(), sha256: oaepHash.optional() }),
    }),
    quirks: z.strictObject({ unwrapTemplate: z.boolean(), software: z.boolean() }),
  })
  .refine((profile) => profile.oaep.hashes[profile.oaep.release], { path: ['oaep', 'release'], message: 'is not among oaep.hashes' })
  .refine(({ mechanisms: { edwardsKeyPairGen, eddsa } }) => (edwardsKeyPairGen === undefined) === (eddsa === undefined), {
    path: ['mechanisms', 'eddsa'],
    message: 'edwardsKeyPairGen and eddsa are there both or not at all',
  });

/** What differs between tokens: mechanism numbers, OAEP hashes, quirks. Code asks here and never names a number. */
export type TokenProfile = z.infer<typeof profileShape>;

/** The mechanisms of Ed25519; only for a key that such a token made. */
export function edwardsOf({ name, mechanisms: { edwardsKeyPairGen, eddsa } }: TokenProfile): { keyPairGen: number; sign: number } {
  if (edwardsKeyPairGen === undefined || eddsa === undefined)
    throw new Fault(
      'misconfigured',
      'token-profile',
      `the token holds an Ed25519 key, and the profile of ${name} names no edwardsKeyPairGen and eddsa`,
    );
  return { keyPairGen: edwardsKeyPairGen, sign: eddsa };
}

/** Reads `<folder>/<name>.yaml`; a Fault `token-profile` names the path and every reason. */
export function loadProfile(folder: string, name: string): TokenProfile {
  const path = join(folder, `${name}.yaml`);
  const bad = (why: string) => new Fault('misconfigured', 'token-profile', `token profile ${path}: ${why}`);
  if (!/^[\w.-]+$/.test(name)) throw bad('a profile is named by letters, digits, dots and hyphens');
  let content: unknown;
  try {
    content = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw bad(error instanceof Error ? error.message : String(error));
  }
  const result = profileShape.safeParse(content);
  if (!result.success) throw bad(result.error.issues.map((issue) => `${issue.path.join('.') || 'file'}: ${issue.message}`).join('; '));
  return result.data;
}
