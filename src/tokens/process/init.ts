import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { newAgeIdentity } from '../../codec/age.js';
import { Fault, SystemClock } from '../../foundation/index.js';
import { type AuthorityCertificates, makeAuthorities } from '../authorities.js';
import { handOut } from '../custody/hand-out.js';
import { encodePackage, packageMacInput } from '../custody/package.js';
import { custodyPlanShape } from '../custody/seal-share.js';
import { Journal } from '../journal.js';
import { initialiseToken } from '../pkcs11/ceremony.js';
import { proveCustody } from '../pkcs11/custody-proof.js';
import { Pkcs11Hsm } from '../pkcs11/pkcs11-hsm.js';
import { installToken, writeDurably } from './install-token.js';
import { settingsShape } from './settings.js';
import { CUSTODY_FILE, JOURNAL_FILE, writeState } from './token-state.js';

const urls = z.strictObject({ crl: z.string(), issuer: z.string() });
const shape = z.strictObject({
  /** The PIN is made here, so its place must be named. */
  token: settingsShape.extend({ pinFile: z.string().startsWith('/') }),
  /** Folder for SoftHSM's tokens, to be made together with `token.softhsmConfig`. Absent: the module is ready to make a token. */
  softhsmTokens: z.string().startsWith('/').optional(),
  /** Program that makes the KEK with its unwrap template (native/build.sh). */
  kekHelper: z.string().startsWith('/'),
  authorities: z.enum(['p384', 'rsa4096']).default('p384'),
  organisation: z.string().min(1),
  domains: z.array(z.string().min(1)).min(1),
  publicName: z.string().min(1),
  urls: z.strictObject({ root: urls, people: urls, devices: urls, infrastructure: urls }),
  /** A ceremony with custodians: their shares are written into `out`, an empty folder, before the token takes service. */
  custody: z.object({ plan: custodyPlanShape, out: z.string().startsWith('/') }).optional(),
});
export type InitSettings = z.output<typeof shape>;
export type InitSettingsInput = z.input<typeof shape>;

/** Throws Fault `token-settings`, with every path and reason at once. */
export function parseInitSettings(value: unknown): InitSettings {
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  const reasons = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'all'}: ${issue.message}`);
  throw new Fault('misconfigured', 'token-settings', `settings of init: ${reasons.join('; ')}`);
}

/** Makes the token, the authorities and the state folder; with custodians, also their shares and the package that these open. */
export async function initialise(settings: InitSettings): Promise<AuthorityCertificates> {
  return installToken(settings, async ({ module, profile, pin, soPin, state }) => {
    const { label } = settings.token;
    const ceremony = { module, label, profile, kekHelper: settings.kekHelper, authorities: settings.authorities };
    const identity = settings.custody ? newAgeIdentity() : undefined;
    const { canary, custody } = identity
      ? initialiseToken(ceremony, pin, soPin, identity.secret)
      : { ...initialiseToken(ceremony, pin, soPin), custody: undefined };
    const hsm = new Pkcs11Hsm(module, { label, profile, canary }, pin);
    const certificates = await makeAuthorities(hsm, settings, new SystemClock().now());
    mkdirSync(state, { mode: 0o700 });
    writeState(state, canary, certificates);
    Journal.create(join(state, JOURNAL_FILE));
    if (settings.custody && custody && identity) {
      const { plan, out } = settings.custody;
      const handed = await handOut({ plan, made: custody, recipient: identity.recipient, certificates, now: new SystemClock().now() });
      // With the key that M of the sealed shares give, not with the one that was split.
      proveCustody(module, { label, profile, canary }, handed.recombined, handed.package);
      writeDurably(join(state, CUSTODY_FILE), encodePackage({ package: handed.package, mac: hsm.mac(packageMacInput(handed.package)) }));
      for (const { file, content } of handed.files) writeDurably(join(out, file), content);
      for (const secret of [custody.ceremonyKey, handed.recombined, identity.secret]) secret.fill(0);
    }
    return certificates;
  });
}
