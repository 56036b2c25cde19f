import { z } from 'zod';
import { isThisMachine, path } from './shapes.js';

const issuer = z.string().refine((text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return (
    !!url &&
    url.search === '' &&
    url.hash === '' &&
    (url.protocol === 'https:' || (url.protocol === 'http:' && isThisMachine(url.hostname)))
  );
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
