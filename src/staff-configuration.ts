import { isIP } from 'node:net';
import { z } from 'zod';

const path = z.string().min(1, 'must be a path');

const issuer = z.string().refine((text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isLoopback = url?.hostname === 'localhost' || (isIP(url?.hostname ?? '') === 4 && url?.hostname.startsWith('127.'));
  return !!url && url.search === '' && url.hash === '' && (url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback));
}, 'must be the https:// address that the provider calls its issuer');

/** `staff` of ekms.yaml. */
export const staffShape = z
  .strictObject({
    signIn: z
      .array(z.enum(['code', 'oidc', 'ldap']))
      .min(1)
      .default(['code']),
    codeMinutes: z.int().min(1).max(60).default(10),
    oidc: z
      .strictObject({
        issuer,
        clientId: z.string().min(1),
        clientSecretFile: path,
        caFile: path.optional(),
        requireVerified: z.boolean().default(true),
      })
      .optional(),
  })
  .refine(({ signIn, oidc }) => !signIn.includes('oidc') || oidc !== undefined, { path: ['oidc'], message: 'signIn: oidc needs it' })
  .prefault({});
export type StaffConfiguration = z.output<typeof staffShape>;
