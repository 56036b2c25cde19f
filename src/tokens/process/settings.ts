import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { Fault } from '../../foundation/index.js';

/** What the token process is told at start. Paths are absolute; none of it is secret, the PIN stays in its file. */
export const settingsShape = z.strictObject({
  /** PKCS#11 library. */
  module: z.string().startsWith('/'),
  label: z.string().min(1).max(32),
  /** Absent: given after the start, through the unseal door (unseal.ts). */
  pinFile: z.string().startsWith('/').optional(),
  /** Folder of the profile files, and which of them describes this module. */
  profiles: z.string().startsWith('/'),
  profile: z.string().min(1),
  /** SoftHSM's configuration file, where the module is SoftHSM. */
  softhsmConfig: z.string().startsWith('/').optional(),
  /** Folder of the journal, the canary and the authorities' certificates. */
  state: z.string().startsWith('/'),
  /** Program that makes a KEK with its unwrap template (native/build.sh): for a rotation. */
  kekHelper: z.string().startsWith('/').optional(),
  socket: z.string().startsWith('/'),
  /** The socket is also for the group that its folder gives it (a set-group-id folder): a process of another user asks. */
  shared: z.boolean().default(false),
  /** Threads, and sessions, that serve retrievals. */
  workers: z.int().min(1).max(64).default(2),
  /** Jobs that may wait in each lane. */
  waiting: z.int().min(1).max(100_000).default(256),
});
export type TokenSettings = z.output<typeof settingsShape>;
export type TokenSettingsInput = z.input<typeof settingsShape>;

/** Throws Fault `token-settings`, with every path and reason at once. */
export function parseTokenSettings(value: unknown): TokenSettings {
  const parsed = settingsShape.safeParse(value);
  if (parsed.success) return parsed.data;
  const reasons = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'all'}: ${issue.message}`);
  throw new Fault('misconfigured', 'token-settings', `token settings: ${reasons.join('; ')}`);
}

/** The first line of the PIN file. Held by the main thread only; a login needs it as text. */
export function readPin(path: string): string {
  let pin: string | undefined;
  try {
    pin = readFileSync(path, 'utf8').split(/\r?\n/, 1)[0];
  } catch {
    // said below
  }
  if (!pin)
    throw new Fault(
      'misconfigured',
      'pin-missing',
      `there is no PIN in ${path}: put it there, mode 0600, or name its place as token.pinFile`,
    );
  return pin;
}
