import { z } from 'zod';
import { isThisMachine, path } from './shapes.js';

const attribute = z.string().regex(/^[A-Za-z][A-Za-z0-9;-]*$/, 'must be the name of an attribute');

/** What holds for any source of people. */
const common = {
  everyMinutes: z.int().min(1).max(1_440).default(15),
  leaversPercent: z.int().min(1).max(100).default(10),
  unlisted: z.enum(['allow', 'refuse']).default('refuse'),
};

/** What differs between directories, where ekms.yaml does not say otherwise. */
const KINDS = {
  // RFC 4530 entryUUID, RFC 2798 inetOrgPerson; who is found is active.
  rfc4519: { filter: '(objectClass=inetOrgPerson)', attributes: { id: 'entryUUID', addresses: ['mail'], created: 'createTimestamp' } },
  // MS-ADTS 2.2.16: bit 2 is ADS_UF_ACCOUNT_DISABLE.
  'active-directory': {
    filter: '(&(objectCategory=person)(objectClass=user))',
    attributes: {
      id: 'objectGUID',
      addresses: ['mail', 'proxyAddresses'],
      created: 'whenCreated',
      state: { attribute: 'userAccountControl', disabledBit: 2 },
    },
  },
} as const;

const ldap = z
  .strictObject({
    source: z.literal('ldap'),
    url: z.string().refine((text) => {
      const url = URL.canParse(text) ? new URL(text) : undefined;
      return (
        !!url && /^ldaps?:$/.test(url.protocol) && url.username === '' && /^\/?$/.test(url.pathname) && url.search === '' && url.hash === ''
      );
    }, 'must be ldaps://HOST or ldap://HOST, perhaps with a port'),
    startTls: z.boolean().default(true),
    caFile: path.optional(),
    bindDn: z.string().min(1),
    passwordFile: path,
    base: z.string().min(1),
    kind: z.enum(['rfc4519', 'active-directory']).default('rfc4519'),
    filter: z.string().min(1).optional(),
    attributes: z
      .strictObject({
        id: attribute.optional(),
        addresses: z.array(attribute).min(1).optional(),
        created: attribute.optional(),
        state: z
          .union([
            z.strictObject({ attribute, disabledBit: z.int().positive() }),
            z.strictObject({ attribute, active: z.array(z.string()).min(1) }),
          ])
          .optional(),
      })
      .prefault({}),
    ...common,
  })
  .refine(({ url, startTls }) => url.startsWith('ldaps:') || startTls || isThisMachine(new URL(url).hostname), {
    path: ['startTls'],
    message: 'passwords do not go over a connection without TLS',
  })
  .transform(({ kind, filter, attributes, ...rest }) => ({
    ...rest,
    filter: filter ?? KINDS[kind].filter,
    attributes: { ...KINDS[kind].attributes, ...definedOf(attributes) },
  }));

const csv = z.strictObject({ source: z.literal('csv'), csvFile: path, ...common });

function definedOf<T extends object>(given: T): { [N in keyof T]: Exclude<T[N], undefined> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [N in keyof T]: Exclude<T[N], undefined>;
  }; // what is absent stays absent
}

/** `directory` of ekms.yaml: LDAP by its `url`, or a file by its `csvFile`. */
export const directoryShape = z.preprocess(
  (given) =>
    typeof given === 'object' && given !== null && !('source' in given) ? { source: 'csvFile' in given ? 'csv' : 'ldap', ...given } : given,
  z.discriminatedUnion('source', [ldap, csv]),
);
export type DirectoryConfiguration = z.output<typeof directoryShape>;
