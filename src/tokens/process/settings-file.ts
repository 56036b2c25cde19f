import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { Fault } from '../../foundation/index.js';
import { parseTokenSettings, type TokenSettings } from './settings.js';

/** Name of the systemd credential that holds the PIN (`LoadCredentialEncrypted=ekms-pin:…`). */
const CREDENTIAL = 'ekms-pin';

const shape = z.strictObject({
  /** The token process's own folder: SoftHSM's tokens, journal, canary, certificates. Only its user enters it. */
  home: z.string().startsWith('/'),
  module: z.string().startsWith('/').default('/usr/lib/softhsm/libsofthsm2.so'),
  label: z.string().default('ekms'),
  profile: z.string().default('softhsm'),
  workers: z.int().default(2),
  /** `credential`: handed over by systemd; `given`: by `ekms token unseal` after each start; a file, for evaluation. */
  pin: z.union([z.literal('credential'), z.literal('given'), z.strictObject({ file: z.string().min(1) })]),
  socket: z.string().startsWith('/'),
});

/** `token.yaml`, what a token process of its own user is told (docs/operators-guide.md). Nothing in it is secret. */
export interface TokenFile {
  settings: TokenSettings;
  /** Where `init` makes SoftHSM's tokens. Absent: the module is no SoftHSM. */
  softhsmTokens?: string;
}

/** Throws Fault `token-settings`, with the file and every reason. @param root of this installation */
export function readTokenFile(file: string, root: string): TokenFile {
  const { home, pin, ...rest } = parsed(file);
  const softhsm = rest.profile === 'softhsm';
  const pinFile = pin === 'given' ? undefined : pin === 'credential' ? credential() : resolve(home, pin.file);
  const settings = parseTokenSettings({
    ...rest,
    ...(pinFile === undefined ? {} : { pinFile }),
    profiles: join(root, 'deploy/token-profiles'),
    ...(softhsm ? { softhsmConfig: join(home, 'softhsm2.conf') } : {}),
    kekHelper: join(root, 'dist/native/ekms-kek'),
    state: join(home, 'token-state'),
    shared: true,
  });
  return { settings, ...(softhsm ? { softhsmTokens: join(home, 'token') } : {}) };
}

/** Where the token process of that file listens. */
export const tokenSocket = (file: string): string => parsed(file).socket;

function parsed(file: string): z.output<typeof shape> {
  const bad = (why: string) => new Fault('misconfigured', 'token-settings', `${file}: ${why}`);
  let content: unknown;
  try {
    content = parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw bad(error instanceof Error ? error.message : String(error));
  }
  const result = shape.safeParse(content);
  if (!result.success) throw bad(result.error.issues.map((issue) => `${issue.path.join('.') || 'file'}: ${issue.message}`).join('; '));
  return result.data;
}

function credential(): string {
  const folder = process.env['CREDENTIALS_DIRECTORY'];
  // Only under systemd; what is started by hand finds no PIN there and says so.
  return join(folder === undefined || folder === '' ? '/run/credentials/ekms-token.service' : folder, CREDENTIAL);
}
