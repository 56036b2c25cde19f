import { join } from 'node:path';
import { type Configuration, configurationFile } from '../configuration/index.js';
import type { Place } from '../custody/index.js';

/** Where the token process keeps its memory and SoftHSM its keys. */
export const tokenFiles = ({ home, token }: Pick<Configuration, 'home' | 'token'>) => ({
  tokenState: token?.folder ? join(token.folder, 'state') : join(home, 'token-state'),
  softhsm: { tokens: join(token?.folder ?? home, 'token'), configuration: join(token?.folder ?? home, 'softhsm2.conf') },
});

/** The token that this configuration names. */
export function tokenPlace(of: Configuration): Place {
  const { label, module, profile, folder, pinFile } = of.token;
  const { tokenState, softhsm } = tokenFiles(of);
  const standard = [tokenState, pinFile, ...(profile === 'softhsm' ? [softhsm.tokens, softhsm.configuration] : [])];
  return { label, module, profile, paths: folder === undefined ? standard : [folder] };
}

/** The same, with every path that the appliance cannot do without: more than a migration leaves behind as the token's alone. */
export function placeInService(of: Configuration): Place {
  const { tokenState, softhsm } = tokenFiles(of);
  const place = tokenPlace(of);
  const { pinFile } = of.token;
  return { ...place, paths: [configurationFile(of.home), ...place.paths, tokenState, pinFile, softhsm.tokens, softhsm.configuration] };
}
