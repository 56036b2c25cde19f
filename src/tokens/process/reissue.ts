import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { newAgeIdentity } from '../../codec/age.js';
import { base64url, Fault, SystemClock } from '../../foundation/index.js';
import { handOut } from '../custody/hand-out.js';
import { encodePackage, packageMacInput, parsePackage } from '../custody/package.js';
import { custodyPlanShape } from '../custody/seal-share.js';
import { combineShares, parseShare } from '../custody/shares.js';
import { CustodyOpening, CustodySeal, makeCustodyKey } from '../pkcs11/custody-keys.js';
import { proveCustody } from '../pkcs11/custody-proof.js';
import { Pkcs11Module } from '../pkcs11/module.js';
import { Pkcs11Hsm } from '../pkcs11/pkcs11-hsm.js';
import { loadProfile } from '../pkcs11/profile.js';
import { sealedPackage } from './custody-file.js';
import { writeDurably } from './install-token.js';
import { settlePin } from './pin.js';
import { readPin, settingsShape } from './settings.js';
import { CANARY_FILE, CUSTODY_FILE, lockState, replaceState } from './token-state.js';

const shape = z.strictObject({
  token: settingsShape.extend({ pinFile: z.string().startsWith('/') }),
  /** M of the shares in force, as lines. */
  shares: z.array(z.string().max(400)).max(255),
  plan: custodyPlanShape,
  /** Folder for the new shares. */
  out: z.string().startsWith('/'),
});

/** In `out` until the new shares are in force: id of their ceremony. */
const MARK = 'unfinished';

/**
 * Other custodians, or other shares, for the keys that there are: new ceremony key, custody key and backup identity, every copy sealed anew inside the
 * token, proved and then put in the place of the old package in one step. Keys in service are not touched. Told again after a crash it
 * finishes, or begins anew. Throws the faults of `combineShares`; `token-in-use` while a token process serves.
 */
export async function reissue(value: unknown): Promise<{ ceremony: string; former: string }> {
  const known = shape.safeParse(value);
  if (!known.success) throw new Fault('misconfigured', 'token-settings', 'the settings of a reissue do not fit');
  const { token, shares, plan, out } = known.data;
  process.umask(0o077);
  lockState(token.state);
  settlePin(token);
  if (token.softhsmConfig) process.env['SOFTHSM2_CONF'] = token.softhsmConfig;
  const module = new Pkcs11Module(token.module);
  const { label } = token;
  const profile = loadProfile(token.profiles, token.profile);
  const canary = readFileSync(join(token.state, CANARY_FILE));
  try {
    const hsm = new Pkcs11Hsm(module, { label, profile, canary }, readPin(token.pinFile));
    const text = sealedPackage(hsm, token.state);
    if (text === null)
      throw new Fault('conflict', 'no-custodians', 'this appliance was made without custodians: its keys cannot leave its token any more');
    const before = parsePackage(text).package;
    const mark = join(out, MARK);
    const begun = existsSync(mark) ? readFileSync(mark, 'utf8').trim() : undefined;
    if (begun === base64url(before.ceremony)) {
      // It was cut off after the new package took its place.
      rmSync(mark);
      return { ceremony: begun, former: '' };
    }
    if (begun === undefined && readdirSync(out).length > 0)
      throw new Fault('conflict', 'shares-folder', `${out} is not empty: shares go into a folder of their own`);
    for (const name of readdirSync(out).filter((each) => each === MARK || each.startsWith('share-'))) rmSync(join(out, name));
    const digests = before.shares.map(({ digest }) => digest);
    const ceremonyKey = await combineShares(shares.map(parseShare), before.ceremony, before.threshold, digests);
    const session = module.openSession(label);
    try {
      const opening = new CustodyOpening(session, profile, ceremonyKey, before.custodyKey.wrapped);
      const made = makeCustodyKey(session, profile);
      const seal = new CustodySeal(session, profile, made.publicKey);
      const identity = newAgeIdentity();
      const handed = await handOut({
        plan,
        made: {
          ceremonyKey: made.ceremonyKey,
          custodyKey: { publicKey: made.publicKey, wrapped: made.wrapped },
          keys: before.keys.map((entry) => seal.reseal(opening, entry)),
          identity: seal.wrapValue(identity.secret),
        },
        recipient: identity.recipient,
        certificates: before.certificates,
        now: new SystemClock().now(),
        ...(before.recovery ? { recovery: before.recovery } : {}),
      });
      opening.close();
      proveCustody(module, { label, profile, canary }, handed.recombined, handed.package);
      writeDurably(mark, `${base64url(handed.package.ceremony)}\n`);
      for (const { file, content } of handed.files) writeDurably(join(out, file), content);
      replaceState(
        token.state,
        CUSTODY_FILE,
        Buffer.from(encodePackage({ package: handed.package, mac: hsm.mac(packageMacInput(handed.package)) })),
      );
      rmSync(mark);
      for (const secret of [ceremonyKey, made.ceremonyKey, handed.recombined, identity.secret]) secret.fill(0);
      return { ceremony: base64url(handed.package.ceremony), former: base64url(before.ceremony) };
    } finally {
      session.close();
      hsm.close();
    }
  } finally {
    module.finalise();
  }
}
