import { join } from 'node:path';
import { Fault } from '../../foundation/index.js';
import { encodePackage, packageMacInput, parsePackage, readPackage } from '../custody/package.js';
import type { Hsm } from '../hsm.js';
import type { RecoveryAgents } from '../recovery.js';
import { CUSTODY_FILE } from './token-state.js';

/** The custody package beside the token, as text; null where there is none. Throws `custody-package-forged` when the token did not seal it like this. */
export function sealedPackage(hsm: Pick<Hsm, 'mac'>, state: string): string | null {
  const sealed = readPackage(join(state, CUSTODY_FILE));
  if (!sealed) return null;
  if (!hsm.mac(packageMacInput(sealed.package)).equals(sealed.mac))
    throw new Fault(
      'conflict',
      'custody-package-forged',
      'the custody package beside the token was changed: later keys and backups would be sealed to somebody else',
    );
  return encodePackage(sealed);
}

/** Whom the ceremony named. A package that was changed names nobody. */
export function recoveryAgents(hsm: Pick<Hsm, 'mac'>, state: string): RecoveryAgents | undefined {
  try {
    const text = sealedPackage(hsm, state);
    return text === null ? undefined : parsePackage(text).package.recovery;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    process.stderr.write(`${error.message}\n`);
    return undefined;
  }
}

/** Labels of the keys that the custodians hold a copy of; undefined where there are no custodians. Throws `custody-package-forged`. */
export function keksOfCustodians(hsm: Pick<Hsm, 'mac'>, state: string): string[] | undefined {
  const text = sealedPackage(hsm, state);
  return text === null ? undefined : parsePackage(text).package.keys.map(({ label }) => label);
}
