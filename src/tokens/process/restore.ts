import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { openStanza } from '../../codec/age.js';
import { base64url, Fault, fromBase64 } from '../../foundation/index.js';
import { completed } from '../custody/completed.js';
import { encodePackage, packageMacInput, parsePackage, type SealedPackage } from '../custody/package.js';
import { combineShares, parseShare } from '../custody/shares.js';
import { restoreToken } from '../pkcs11/ceremony.js';
import { Pkcs11Hsm } from '../pkcs11/pkcs11-hsm.js';
import { installToken, writeDurably } from './install-token.js';
import { settingsShape } from './settings.js';
import { CUSTODY_FILE, RESTORING_FILE, writeState } from './token-state.js';

const shape = z.strictObject({
  /** The PIN is made here, so its place must be named. */
  token: settingsShape.extend({ pinFile: z.string().startsWith('/') }),
  softhsmTokens: z.string().startsWith('/').optional(),
  kekHelper: z.string().startsWith('/'),
  /** The custody package as the backup carries it, and shares as lines. */
  package: z.string(),
  /** A later package of the same custodians, from the second place: what it knows more comes along. */
  later: z.string().optional(),
  shares: z.array(z.string().max(400)).max(255),
  /** What `RESTORING_FILE` says until the caller takes it away: the token is of no use before the rest is done. Absent: the caller has a mark of its own. */
  unfinished: z.string().max(10_000).optional(),
  /** The stanzas of the backup that is to be opened and of those it builds on, base64url; none where only the token is wanted. */
  stanzas: z
    .array(z.strictObject({ share: z.string(), body: z.string() }))
    .max(1_000)
    .default([]),
});

/**
 * Makes the token anew from a custody package and M shares. Resolves with the file keys of the backups that are named (base64url), not with the identity
 * that opens them all. The journal is the caller's to put back: it comes out of the backup. Throws the faults of `combineShares`, and `custody-package-other`.
 */
export async function restore(value: unknown): Promise<{ fileKeys: string[] }> {
  const parsed = shape.safeParse(value);
  if (!parsed.success) throw new Fault('misconfigured', 'token-settings', 'the settings of a restore do not fit');
  const { token, kekHelper, stanzas, ...given } = parsed.data;
  const sealed = parsePackage(given.package);
  const later = given.later === undefined ? undefined : parsePackage(given.later);
  const custody = later ? completed(sealed.package, later.package) : sealed.package;
  const digests = custody.shares.map(({ digest }) => digest);
  const ceremonyKey = await combineShares(given.shares.map(parseShare), custody.ceremony, custody.threshold, digests);
  const says = given.unfinished;
  const site = { token, softhsmTokens: given.softhsmTokens, ...(says === undefined ? {} : { unfinished: { file: RESTORING_FILE, says } }) };
  return installToken(site, async ({ module, profile, pin, soPin, state }) => {
    const { label } = token;
    const ceremony = { module, label, profile, kekHelper, authorities: 'p384' as const };
    const { canary, identity } = restoreToken(ceremony, pin, soPin, { ceremonyKey, custody });
    const hsm = new Pkcs11Hsm(module, { label, profile, canary }, pin);
    requireSealed(hsm, sealed, 'this custody package');
    if (later) requireSealed(hsm, later, 'the custody package at the second place');
    mkdirSync(state, { mode: 0o700 });
    if (says !== undefined) writeDurably(join(state, RESTORING_FILE), says);
    writeState(state, canary, custody.certificates);
    writeDurably(join(state, CUSTODY_FILE), encodePackage({ package: custody, mac: hsm.mac(packageMacInput(custody)) }));
    const part = (text: string) => fromBase64(text, 'base64url') ?? Buffer.alloc(0);
    const fileKeys = stanzas.map(({ share, body }) => openStanza({ share: part(share), body: part(body) }, identity));
    for (const secret of [ceremonyKey, identity]) secret.fill(0);
    return { fileKeys: fileKeys.map(base64url) };
  });
}

/** Only once the record key is in the token can it be judged. */
function requireSealed(hsm: Pkcs11Hsm, { package: custody, mac }: SealedPackage, what: string): void {
  if (!hsm.mac(packageMacInput(custody)).equals(mac))
    throw new Fault('conflict', 'custody-package-forged', `${what} was changed after the token had sealed it`);
}
